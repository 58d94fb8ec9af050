"""Test that nothing needs a POSIX system: neither by name in the sources, nor in a process without such names."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import without_posix

ROOT = Path(__file__).parents[1]
PRODUCT = [
    ROOT / "__init__.py",
    *(f for folder in ("core", "models", "nodes", "cli") for f in (ROOT / folder).rglob("*.py")),
]
GUARDED = {
    ("core/batch/local_executor.py", "os.sched_getaffinity"): "after hasattr",
    ("core/runtime/files/folder_lock.py", "fcntl"): "inside try, with the case of ImportError",
    ("core/runtime/peak_memory.py", "resource"): "inside try, with the case of ImportError",
}
FORBIDDEN = {"os": without_posix.OS_NAMES, "signal": without_posix.SIGNAL_NAMES}


def posix_names(source: str) -> set[str]:
    """POSIX-only modules that are imported, and POSIX-only attributes of os and signal."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & {*without_posix.MODULES}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found |= {node.module or ""} & {*without_posix.MODULES}
            found |= {f"{node.module}.{a.name}" for a in node.names if a.name in FORBIDDEN.get(node.module or "", ())}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found |= {f"{node.value.id}.{node.attr}"} if node.attr in FORBIDDEN.get(node.value.id, ()) else set()
    return found


def text_files_without_encoding(source: str) -> list[int]:
    """Lines that read or write text in the system's encoding, which is not UTF-8 on Windows."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    texts = [c for c in calls if isinstance(c.func, ast.Attribute) and c.func.attr in ("read_text", "write_text")]
    return [c.lineno for c in texts if not any(k.arg == "encoding" for k in c.keywords) and len(c.args) < 2]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import fcntl", {"fcntl"}),
        ("from resource import getrusage", {"resource"}),
        ("import os\nos.sync()", {"os.sync"}),
        ("from os import fork", {"os.fork"}),
        ("import signal\nsignal.signal(signal.SIGHUP, f)", {"signal.SIGHUP"}),
        ("import os, signal\nos.replace(a, b)\nsignal.SIGTERM\ngetattr(signal, 'SIGHUP', None)", set()),
    ],
)
def test_posix_names_are_found(source, found):
    assert posix_names(source) == found


def test_posix_names_are_guarded():
    used = {(f.relative_to(ROOT).as_posix(), n) for f in PRODUCT for n in posix_names(f.read_text(encoding="utf-8"))}
    assert used == {*GUARDED}


def test_text_files_have_an_encoding():
    assert text_files_without_encoding("a.read_text()\nb.write_text(c)\nd.read_text('utf-8', 'x')") == [1, 2]
    found = {f.name: lines for f in PRODUCT if (lines := text_files_without_encoding(f.read_text(encoding="utf-8")))}
    assert found == {}


# Imports every module, and runs what touches the system most: a job with its lock, atomic files, memory, signals, and
# the folder of the engine.
RUN = """
import importlib, sys
from pathlib import Path
import av, cv2, numpy, PIL.Image, filelock, psutil, platformdirs, rich.console, safetensors.torch, torch
import without_posix
without_posix.remove()
root, folder = Path(sys.argv[1]), Path(sys.argv[2])
for part in ("core", "models", "cli"):
    for file in sorted((root / part).rglob("*.py")):
        name = ".".join(file.relative_to(root).with_suffix("").parts)
        importlib.import_module("steadyscale." + name.removesuffix(".__init__"))
from steadyscale.core.runtime.peak_memory import peak_memory_mb
from steadyscale.models.native import build
assert peak_memory_mb() is None, "this is where /proc and resource are gone"
assert len(build.cpu_signature()) > 10
from steadyscale.cli import main
from numbered_video import make_video
source, target = make_video(folder / "a.mp4"), folder / "b.mp4"
assert main.main(["stabilize", str(source), str(target), "--resumable"]) == 0
assert target.stat().st_size > 1000
assert not list(folder.glob("*.partial*"))
"""


def test_a_process_without_posix_names_imports_and_runs_everything(tmp_path):
    command = [sys.executable, "-c", RUN, str(ROOT), str(tmp_path)]
    subprocess.run(command, check=True, cwd=Path(without_posix.__file__).parent)
