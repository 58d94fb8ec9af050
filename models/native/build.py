"""Compiles the folder winograd for this very CPU, into a cache folder, when somebody asks for it; never by itself."""

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

SOURCE = Path(__file__).with_name("winograd") / "winograd.cpp"  # which includes the headers beside it
# Contraction into fused multiply-adds is what the speed comes from, and compilers differ in whether they do it unasked.
COMPILER_FLAGS = ("-O3", "-std=c++17", "-shared", "-fPIC", "-pthread", "-ffp-contract=fast", "-fno-math-errno")
# The first that the compiler accepts. x86 knows -march=native, some ARM compilers know only -mcpu=native.
TARGET_FLAGS = (("-march=native",), ("-mcpu=native",), ("-mavx2", "-mfma"), ())
COMPILERS = ("c++", "g++", "clang++")
COMPILE_TIMEOUT_SECONDS = 300  # an idle machine needs three


class BuildError(RuntimeError):
    """The native engine could not be compiled; the message says why and what would help."""


class NoCompilerError(BuildError):
    """There is no C++ compiler on this machine. Upscaling works without one, through torch."""


def build_library() -> Path:
    """Compile the engine and return the library's path; one that is built already is returned as it is.

    The compiler is $CXX, else the first of c++, g++ and clang++. The folder is `cache_folder()`. Raises
    NoCompilerError, or BuildError with the compiler's own words.
    """
    if (library := find_library()) is not None:
        return library
    compiler = find_compiler()
    if compiler is None:
        raise NoCompilerError(
            "no C++ compiler was found (tried $CXX, c++, g++, clang++); install one, for example the package g++ or "
            "clang, or go on without: upscaling then runs through torch"
        )
    folder, complaints = library_folder(), list[str]()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=folder)
    except OSError as error:
        raise BuildError(
            f"{folder} cannot be written to ({error.strerror}); set STEADYSCALE_CACHE to a folder of yours"
        ) from error
    # Compiled beside its place and renamed, so that nobody ever finds half a library.
    with scratch:
        made = Path(scratch.name) / "made.so"
        for target in TARGET_FLAGS:
            complaint = _run_compiler([*compiler, *COMPILER_FLAGS, *target, "-o", str(made), str(SOURCE)])
            if complaint is None:
                library = folder / f"winograd-{_version_hash(compiler)}.so"
                os.replace(made, library)
                return library
            complaints.append(complaint)
    raise BuildError(f"{shlex.join(compiler)} cannot compile {SOURCE.name}: {complaints[-1]}")


def find_library() -> Path | None:
    """The library that was built from this very source on this kind of CPU, or None. Starts no program."""
    try:
        return max(library_folder().glob("winograd-*.so"), key=lambda path: path.stat().st_mtime, default=None)
    except OSError:
        return None


def find_compiler() -> list[str] | None:
    """The command of a C++ compiler, or None."""
    told = os.environ.get("CXX", "")
    try:
        candidates = [shlex.split(told)]
    except ValueError:  # a quotation mark without its other half
        candidates = [[told]]
    candidates += [[name] for name in COMPILERS]
    return next((command for command in candidates if command and shutil.which(command[0])), None)


def library_folder() -> Path:
    """native/<hash of source and CPU> in the package's cache."""
    # A library for another CPU would end the process at its first unknown instruction: homes are shared and moved.
    key = hashlib.sha256(repr((COMPILER_FLAGS, TARGET_FLAGS, cpu_signature())).encode())
    for file in sorted(SOURCE.parent.iterdir()):
        key.update(file.read_bytes())
    return cache_dir.cache_folder() / "native" / key.hexdigest()[:16]


def cpu_signature() -> str:
    """This CPU's model and abilities, as the system tells them."""
    return " ".join((platform.system(), platform.machine(), *_cpu_lines()))


def _cpu_lines() -> Iterator[str]:
    wanted = ("model name", "flags", "CPU implementer", "CPU part", "Features")
    try:
        first_core = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        yield platform.processor()
        return
    for line in first_core.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in wanted:
            yield value.strip()


def _run_compiler(command: list[str]) -> str | None:
    """Run a compiler. None if it made the library, else the end of what it said."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None if Path(command[command.index("-o") + 1]).exists() else "it ended well, but made nothing"
    return done.stderr.strip()[-1500:]


def _version_hash(compiler: list[str]) -> str:
    try:
        said = subprocess.run([*compiler, "--version"], capture_output=True, text=True, timeout=60, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        said = ""
    return hashlib.sha256(said.encode()).hexdigest()[:8]
