"""Mutation testing: list small changes of the code that no test detects.

    python scripts/mutants.py [MODULE ...]

A module is one of MODULES, such as core/shots.py; without any, all of them, which takes hours. cosmic-ray makes one
change at a time, in a copy of the tree under build/mutants, and runs the tests of that module. It needs the extra
`mutants` (cosmic-ray). A change that survives is either without effect or shows a test that is missing.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "mutants"
COPY = WORK / "steadyscale"  # the name of the package, which the tests import from here
MODULES = {  # module -> its tests
    "core/api/live.py": "tests/core/api/test_wiring.py",
    "core/api/run.py": "tests/core/api/test_wiring.py",
    "core/api/video.py": "tests/core/api/test_wiring.py",
    "core/jobs/state/job_files.py": "tests/core/jobs/state/test_job_files.py",
    "core/smoothing/strength.py": "tests/core/smoothing/test_strength.py",
    "core/pipeline/upscale_operations.py": "tests/core/api/test_wiring.py",
    "core/runtime/files/atomic_write.py": "tests/core/runtime/files/test_atomic_write.py",
    "core/shots.py": "tests/core/test_shots.py",
    "core/stabilize/correct.py": "tests/core/stabilize/test_stabilize.py",
    "core/stabilize/measure.py": "tests/core/stabilize/test_stabilize.py",
    "core/stabilize/settings.py": "tests/core/stabilize/test_stabilize.py",
    "core/training/loop/validation.py": "tests/core/training/loop/test_validation.py",
    "core/upscaling/settings.py": "tests/core/upscaling/test_settings.py tests/core/upscaling/test_every_setting.py",
    "nodes/smooth_trajectory.py": "tests/nodes/test_every_input.py",
    "nodes/upscale.py": "tests/nodes/test_every_input.py",
}
# Any test that uses the result detects these.
OBVIOUS = ("BitAnd", "BitOr", "BitXor", "LShift", "RShift", "Pow", "Mod", "FloorDiv", "Invert")
SECONDS = 300  # after which a change counts as detected: it has made a loop endless


def main(modules: list[str]) -> int:
    """Run the modules; return the exit status."""
    if unknown := [module for module in modules if module not in MODULES]:
        print(f"{unknown[0]} is not one of {', '.join(MODULES)}; add it and its tests to {Path(__file__).name}")
        return 2
    if importlib.util.find_spec("cosmic_ray") is None:
        print("this needs cosmic-ray: uv pip install --python .venv/bin/python 'cosmic-ray>=8.3'")
        return 2
    copy_tree()
    for module in modules or MODULES:
        killed, survivors = run_module(module)
        print(f"{module}: {killed} of {killed + len(survivors)} changes detected", flush=True)
        for line in survivors:
            print(f"  {line}")
    return 0


def copy_tree() -> None:
    """Copy the files that git knows, or would add."""
    shutil.rmtree(WORK, ignore_errors=True)
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (COPY / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, COPY / name)


def run_module(module: str) -> tuple[int, list[str]]:
    """Return how many changes of a module were detected, and where the others are."""
    tests = f"{sys.executable} -m pytest -q -x -p no:cacheprovider {MODULES[module]}"
    (COPY / "mutants.toml").write_text(
        f'[cosmic-ray]\nmodule-path = "{module}"\ntimeout = {SECONDS}\nexcluded-modules = []\n'
        f'test-command = "{tests}"\n[cosmic-ray.distributor]\nname = "local"\n'
        f"[cosmic-ray.filters.operators-filter]\nexclude-operators = {json.dumps([f'.*{each}' for each in OBVIOUS])}\n"
    )
    session = f"{module.replace('/', '-')}.sqlite"
    call("cosmic_ray.cli", "init", "mutants.toml", session)
    call("cosmic_ray.tools.filters.operators_filter", session, "mutants.toml")
    call("cosmic_ray.cli", "baseline", "mutants.toml")  # The tests must pass without a change.
    call("cosmic_ray.cli", "exec", "mutants.toml", session)
    killed, survivors = 0, []
    for line in call("cosmic_ray.cli", "dump", session).splitlines():
        item, result = json.loads(line)
        if result is None or result["worker_outcome"] == "skipped":
            continue
        mutation = item["mutations"][0]
        if result["test_outcome"] == "survived":
            survivors.append(f"{module}:{mutation['start_pos'][0]} {mutation['operator_name'].removeprefix('core/')}")
        else:
            killed += 1
    return killed, survivors


def call(program: str, *arguments: str) -> str:
    """Run a program of cosmic-ray in the copy; return its output."""
    paths = os.pathsep.join([str(WORK), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", program, *arguments]
    done = subprocess.run(command, cwd=COPY, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
