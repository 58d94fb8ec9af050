"""Compile the backend for the installed torch, once, into the package's cache folder.

    python tests/support/simulated_gpu/build.py

The test setup runs it. The file name contains a hash of the source, the flags and the version of torch.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from filelock import FileLock
from steadyscale.models import cache_dir
from steadyscale.models.native.compiler import find_system_compiler

SOURCE = Path(__file__).with_name("backend.cpp")
FLAGS = (
    "-O1",
    "-std=c++20",
    "-shared",
    "-fPIC",
    "-w",
    f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
)


def can_build() -> bool:
    """Whether the simulated GPU runs here: it needs Linux, and a compiler whose C++ library is that of torch."""
    return sys.platform == "linux" and find_system_compiler() is not None


def build_backend() -> Path:
    """Compile the backend unless it is in the cache; return the path of the library."""
    key = hashlib.sha256(repr((FLAGS, torch.__version__)).encode() + SOURCE.read_bytes()).hexdigest()[:16]
    library = cache_dir.cache_folder() / "simulated_gpu" / f"backend-{key}.so"
    library.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(library.with_suffix(".lock")):
        if not library.exists():
            _compile(library)
    return library


def _compile(library: Path) -> None:
    compiler = find_system_compiler()
    assert compiler is not None, "the simulated GPU needs a C++ compiler"
    root = Path(torch.__file__).parent
    include = root / "include"
    with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
        output = Path(scratch) / "backend.so"
        command = [
            *compiler, *FLAGS, f"-I{include}", f"-I{include / 'torch' / 'csrc' / 'api' / 'include'}", str(SOURCE),
            f"-L{root / 'lib'}", "-ltorch_cpu", "-lc10", "-o", str(output),
        ]  # fmt: skip
        subprocess.run(command, check=True)
        os.replace(output, library)


if __name__ == "__main__":
    if can_build():
        build_backend()
