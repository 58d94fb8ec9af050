"""Find a C++ compiler, and run it on the winograd folder.

setup.py loads this file by its path, before the package and its dependencies exist: standard library only.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("winograd") / "winograd.cpp"  # includes the headers beside it
LIBRARY_SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
# Most of the speed comes from contraction into fused multiply-adds, which compilers enable by default or not.
COMPILER_FLAGS = (
    *("-O3", "-std=c++17", "-shared", "-fvisibility=hidden", "-ffp-contract=fast", "-fno-math-errno"),
    *(() if sys.platform == "win32" else ("-fPIC", "-pthread")),
)
# MinGW's GCC is not among them: it does not align the stack for AVX on Windows, and its code crashes.
COMPILERS = ("clang++",) if sys.platform == "win32" else ("c++", "g++", "clang++")
# zig compiles its copy of the C++ standard library for each cache folder, which takes minutes; the engine uses none.
ZIG_COMMAND = (sys.executable, "-m", "ziglang", "c++", "-nostdlib++")
COMPILE_TIMEOUT_SECONDS = 1200  # three on an idle machine; zig for Windows compiles that system's C library first: 200


class BuildError(RuntimeError):
    """Compiling the native engine failed; the message gives the reason."""


class NoCompilerError(BuildError):
    """No C++ compiler was found. Upscaling works without one, through torch."""


def find_compiler() -> list[str] | None:
    """The command of a C++ compiler, or None.

    The system's, else that of the package ziglang.
    """
    if (compiler := find_system_compiler()) is not None:
        return compiler
    return list(ZIG_COMMAND) if importlib.util.find_spec("ziglang") is not None else None


def find_system_compiler() -> list[str] | None:
    """$CXX, else the first of `COMPILERS` on the path, else None."""
    cxx = os.environ.get("CXX", "")
    try:
        candidates = [shlex.split(cxx, posix=os.name != "nt")]  # on Windows a backslash separates folders
    except ValueError:  # an unbalanced quotation mark
        candidates = [[cxx]]
    candidates += [[name] for name in COMPILERS]
    return next((command for command in candidates if command and shutil.which(command[0])), None)


def run_compiler(compiler: list[str], target_flags: tuple[str, ...], output: Path) -> str | None:
    """Compile the engine to `output`.

    Returns None on success, else the end of the compiler's error output. zig leaves its cache beside `output`.
    """
    command = [*compiler, *COMPILER_FLAGS, *target_flags, "-o", str(output), str(SOURCE)]
    zig_cache = str(output.with_name("zig-cache"))
    environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": zig_cache, "ZIG_LOCAL_CACHE_DIR": zig_cache}
    try:
        process = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=COMPILE_TIMEOUT_SECONDS,
            check=False,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if process.returncode == 0:
        return None if output.exists() else "it succeeded, but wrote no library"
    return process.stderr.strip()[-1500:]


def compiler_hash(compiler: list[str]) -> str:
    """A short hash of the version that a compiler reports."""
    command = [*compiler, "--version"]
    try:
        version = subprocess.run(command, capture_output=True, timeout=60, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        version = b""
    return hashlib.sha256(version).hexdigest()[:8]
