"""Compile the winograd folder for this CPU into the cache folder, on request only."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .. import cache_dir

SOURCE = Path(__file__).with_name("winograd") / "winograd.cpp"  # includes the headers beside it
# Most of the speed comes from contraction into fused multiply-adds, which compilers enable by default or not.
COMPILER_FLAGS = ("-O3", "-std=c++17", "-shared", "-fPIC", "-pthread", "-ffp-contract=fast", "-fno-math-errno")
# The first that the compiler accepts. x86 compilers know -march=native, some ARM compilers only -mcpu=native.
TARGET_FLAGS = (("-march=native",), ("-mcpu=native",), ("-mavx2", "-mfma"), ())
COMPILERS = ("c++", "g++", "clang++")
COMPILE_TIMEOUT_SECONDS = 300  # an idle machine needs three


class BuildError(RuntimeError):
    """Compiling the native engine failed; the message gives the reason."""


class NoCompilerError(BuildError):
    """No C++ compiler was found. Upscaling works without one, through torch."""


def build_library() -> Path:
    """Compile the engine unless it is built already; returns the library's path.

    The compiler is $CXX, else the first of c++, g++ and clang++. The folder is `library_folder()`. Raises
    NoCompilerError, or BuildError with the compiler's output.
    """
    if (library := find_library()) is not None:
        return library
    compiler = find_compiler()
    if compiler is None:
        raise NoCompilerError(
            "no C++ compiler was found (tried $CXX, c++, g++, clang++); install one, for example the package g++ or "
            "clang, or continue without: upscaling then runs through torch"
        )
    folder = library_folder()
    errors: list[str] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=folder)
    except OSError as error:
        raise BuildError(
            f"{folder} cannot be written to ({error.strerror}); set STEADYSCALE_CACHE to a folder of yours"
        ) from error
    # Compiled beside its final path and renamed, so that other processes never load an incomplete library.
    with scratch:
        output = Path(scratch.name) / "winograd.so"
        for target in TARGET_FLAGS:
            message = _run_compiler([*compiler, *COMPILER_FLAGS, *target, "-o", str(output), str(SOURCE)])
            if message is None:
                library = folder / f"winograd-{_version_hash(compiler)}.so"
                os.replace(output, library)
                return library
            errors.append(message)
    raise BuildError(f"{shlex.join(compiler)} cannot compile {SOURCE.name}: {errors[-1]}")


def find_library() -> Path | None:
    """The library built from this source for this CPU, or None.

    No program is started.
    """
    try:
        return max(library_folder().glob("winograd-*.so"), key=lambda path: path.stat().st_mtime, default=None)
    except OSError:
        return None


def find_compiler() -> list[str] | None:
    """The command of a C++ compiler, or None."""
    cxx = os.environ.get("CXX", "")
    try:
        candidates = [shlex.split(cxx)]
    except ValueError:  # an unbalanced quotation mark
        candidates = [[cxx]]
    candidates += [[name] for name in COMPILERS]
    return next((command for command in candidates if command and shutil.which(command[0])), None)


def library_folder() -> Path:
    """native/<hash of source, flags and CPU> in the package's cache."""
    # A library for another CPU crashes at its first unknown instruction, and home folders are shared between machines.
    key = hashlib.sha256(repr((COMPILER_FLAGS, TARGET_FLAGS, cpu_signature())).encode())
    for file in sorted(SOURCE.parent.iterdir()):
        key.update(file.read_bytes())
    return cache_dir.cache_folder() / "native" / key.hexdigest()[:16]


def cpu_signature() -> str:
    """This CPU's model and instruction sets, as the system reports them."""
    return " ".join((platform.system(), platform.machine(), *_cpu_lines()))


def _cpu_lines() -> Iterator[str]:
    # psutil does not report a CPU's model or instruction sets, so /proc/cpuinfo is read.
    fields = ("model name", "flags", "CPU implementer", "CPU part", "Features")
    try:
        first_core = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        yield platform.processor()
        return
    for line in first_core.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in fields:
            yield value.strip()


def _run_compiler(command: list[str]) -> str | None:
    """Run a compiler. None if it wrote the library, else the end of its error output."""
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if process.returncode == 0:
        return None if Path(command[command.index("-o") + 1]).exists() else "it succeeded, but wrote no library"
    return process.stderr.strip()[-1500:]


def _version_hash(compiler: list[str]) -> str:
    command = [*compiler, "--version"]
    try:
        version = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        version = ""
    return hashlib.sha256(version.encode()).hexdigest()[:8]
