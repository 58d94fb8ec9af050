"""Create what `make demo` and `make test` need. Standard library only.

Order: the installer, an isolated environment (.venv), ComfyUI, the sample clip, the weights, the CPU engine. Each step
is atomic and skipped if done, so the script can be stopped and repeated at any time.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from pathlib import Path

import assets
import browser
import script_support
import uvtool

VENV = script_support.REPO_ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCK_FILE = Path(__file__).with_name("environment.lock")
DEFAULT_NETWORK = "realesr-animevideov3"  # of the demo's graph and the host tests


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--tests", action="store_true", help="also get what only the tests need")
    arguments = options.parse_args()
    with script_support.file_lock(script_support.DEMO_FOLDER / "setup.lock"):
        tree = assets.get_comfyui()
        create_environment(tree)
        assets.get_sample_clip()
        assets.get_weights(DEFAULT_NETWORK, PYTHON)
        build_engine()
        if arguments.tests:
            assets.get_comfyui(assets.OLDEST_COMFYUI)
            for version in (assets.OLDEST_FRONTEND, assets.newest_frontend()[0]):
                assets.get_frontend(version)
            browser.ensure_chromium()
            build_simulated_gpu()


def create_environment(tree: Path) -> None:
    """Create .venv unless it is complete for this lock file, Python, clone and host."""
    stamp, key = VENV / "steadyscale.stamp", _environment_key(tree)
    if stamp.exists() and stamp.read_text() == key and PYTHON.exists():
        return
    settings = VENV / "pyvenv.cfg"
    if settings.exists() and "prompt = steadyscale" not in settings.read_text():
        raise script_support.SetupError(
            f"{VENV} was not created by this script, which would overwrite it: move it away"
        )
    uv = uvtool.get_uv()
    with script_support.report_step("Python packages in .venv (about 2.5 GB when downloaded for the first time)"):
        discarded, log = script_support.DEMO_FOLDER / "old-venv", script_support.DEMO_FOLDER / "logs" / "packages.log"
        script_support.remove(discarded)
        if VENV.exists():
            VENV.rename(discarded)
        create = [uv, "venv", "--python", uvtool.BASE_PYTHON, "--prompt", "steadyscale", VENV]
        if not script_support.run_logged(create, log, uvtool.uv_environment()):
            raise script_support.SetupError(f"{VENV} could not be created:\n{script_support.log_tail(log)}")
        uvtool.pip_install("--python", PYTHON, "--require-hashes", "-r", LOCK_FILE, log=log)
        if (tree / "requirements.txt") in _environment_inputs(tree):
            uvtool.pip_install("--python", PYTHON, "-r", tree / "requirements.txt", log=log)
        uvtool.pip_install("--python", PYTHON, "--no-deps", "--editable", script_support.REPO_ROOT, log=log)
        script_support.write_atomic(stamp, key)
        script_support.remove(discarded)


def build_engine() -> None:
    """Compile the CPU engine if its sources changed; without a compiler torch is used."""
    stamp, source = VENV / "native.stamp", script_support.REPO_ROOT / "models" / "native" / "winograd"
    key = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(source.iterdir()))).hexdigest()
    if stamp.exists() and stamp.read_text() == key:
        return
    log = script_support.DEMO_FOLDER / "logs" / "native.log"
    with script_support.report_step("CPU engine (without a C++ compiler torch is used, which is slower)"):
        script_support.run_logged([VENV / "bin" / "steadyscale", "native", "build"], log)
        script_support.write_atomic(stamp, key)


def build_simulated_gpu() -> None:
    """Compile the simulated GPU of the tests if its source or torch changed.

    Without a compiler these tests are skipped.
    """
    script = script_support.REPO_ROOT / "tests" / "support" / "simulated_gpu" / "build.py"
    stamp = VENV / "simulated_gpu.stamp"
    key = hashlib.sha256(script.with_name("backend.cpp").read_bytes() + LOCK_FILE.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == key:
        return
    log = script_support.DEMO_FOLDER / "logs" / "simulated_gpu.log"
    with script_support.report_step("simulated GPU for tests"):
        script_support.run_logged([PYTHON, script], log)
        script_support.write_atomic(stamp, key)


def _environment_key(tree: Path) -> str:
    """A key that changes when .venv has to be created again."""
    digest = hashlib.sha256(f"{uvtool.BASE_PYTHON} {sys.version} {script_support.REPO_ROOT}".encode())
    for path in _environment_inputs(tree):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _environment_inputs(tree: Path) -> list[Path]:
    """Files that list the packages of .venv.

    The lock file is for the ComfyUI that we fetch; one at COMFYUI_PATH may require other versions.
    """
    inputs = [LOCK_FILE, script_support.REPO_ROOT / "pyproject.toml"]
    own = tree / "requirements.txt"
    return [*inputs, own] if os.environ.get("COMFYUI_PATH") and own.exists() else inputs


if __name__ == "__main__":
    script_support.run_main(main)
