"""Makes everything that `make demo` and `make test` need, or finds that it is there. Standard library only.

Order: the installer, an isolated environment (.venv), ComfyUI, the sample clip, the weights, the CPU engine. Each step
leaves either nothing or all of its work, so the script can be stopped and started again at any moment.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from pathlib import Path

import assets
import browser
import steps
import uvtool

VENV = steps.ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCK = Path(__file__).with_name("environment.lock")
NETWORK = "realesr-animevideov3"  # the one that the demo's graph and the host tests load


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--tests", action="store_true", help="also get what only the tests need")
    arguments = options.parse_args()
    with steps.locked(steps.DEMO / "setup.lock"):
        tree = assets.host_tree()
        make_environment(tree)
        assets.sample_clip()
        assets.weights(NETWORK, PYTHON)
        build_engine()
        if arguments.tests:
            assets.host_tree(assets.OLDEST)
            assets.newest_frontend()
            browser.ensure()


def make_environment(tree: Path) -> None:
    """Makes .venv anew unless it was finished for exactly this lock, this Python, this clone and this host."""
    stamp, key = VENV / "steadyscale.stamp", _key(tree)
    if stamp.exists() and stamp.read_text() == key and PYTHON.exists():
        return
    settings = VENV / "pyvenv.cfg"
    if settings.exists() and "prompt = steadyscale" not in settings.read_text():
        raise steps.Trouble(f"{VENV} is an environment that was made by hand. Move it away; this would overwrite it")
    uv = uvtool.uv()
    with steps.step("Python packages in .venv (about 2.5 GB when downloaded for the first time)"):
        discarded, log = steps.DEMO / "old-venv", steps.DEMO / "logs" / "packages.log"
        steps.remove(discarded)
        if VENV.exists():
            VENV.rename(discarded)
        create = [uv, "venv", "--python", uvtool.PYTHON, "--prompt", "steadyscale", VENV]
        if not steps.run(create, log, uvtool.environment()):
            raise steps.Trouble(f"{VENV} could not be made:\n{steps.tail(log)}")
        uvtool.install("--python", PYTHON, "--require-hashes", "-r", LOCK, log=log)
        if (tree / "requirements.txt") in _inputs(tree):
            uvtool.install("--python", PYTHON, "-r", tree / "requirements.txt", log=log)
        uvtool.install("--python", PYTHON, "--no-deps", "--editable", steps.ROOT, log=log)
        steps.write(stamp, key)
        steps.remove(discarded)


def build_engine() -> None:
    """Compiles the CPU engine, once for each state of its source. Without a compiler torch serves, more slowly."""
    stamp, source = VENV / "native.stamp", steps.ROOT / "models" / "native" / "winograd"
    key = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(source.iterdir()))).hexdigest()
    if stamp.exists() and stamp.read_text() == key:
        return
    log = steps.DEMO / "logs" / "native.log"
    with steps.step("CPU engine, compiled (where there is no C++ compiler, torch serves)"):
        steps.run([VENV / "bin" / "steadyscale", "native", "build"], log)
        steps.write(stamp, key)


def _key(tree: Path) -> str:
    """Changes when .venv has to be made anew."""
    digest = hashlib.sha256(f"{uvtool.PYTHON} {sys.version} {steps.ROOT}".encode())
    for path in _inputs(tree):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _inputs(tree: Path) -> list[Path]:
    """The files that say what is in .venv. The lock is for the ComfyUI we fetch; another may want other versions."""
    inputs = [LOCK, steps.ROOT / "pyproject.toml"]
    own = tree / "requirements.txt"
    return [*inputs, own] if os.environ.get("COMFYUI_PATH") and own.exists() else inputs


if __name__ == "__main__":
    steps.program(main)
