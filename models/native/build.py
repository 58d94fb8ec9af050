"""Find the compiled engine, or compile it for this CPU.

It is compiled on request only, into the cache folder.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from .. import cache_dir
from .compiler import (
    COMPILER_FLAGS,
    LIBRARY_SUFFIX,
    SOURCE,
    BuildError,
    NoCompilerError,
    compiler_hash,
    find_compiler,
    run_compiler,
)

# The first that the compiler accepts. x86 compilers know -march=native, some ARM compilers only -mcpu=native.
TARGET_FLAGS = (("-march=native",), ("-mcpu=native",), ("-mavx2", "-mfma"), ())
WHEEL_FOLDER = Path(__file__).with_name("lib")  # libraries that a wheel brings, see setup.py


def build_library() -> Path:
    """Compile the engine unless there is one; returns the library's path.

    The compiler is $CXX, else the first of c++, g++ and clang++, else the package ziglang. The folder is
    `library_folder()`. A wheel's library is copied there, so that clones of the same source, such as a node pack, find
    it too. Raises NoCompilerError, or BuildError with the compiler's output.
    """
    if (library := find_library()) is not None:
        return _copy_to_cache(library) if library.parent == WHEEL_FOLDER else library
    compiler = find_compiler()
    if compiler is None:
        raise NoCompilerError(
            "no C++ compiler was found (tried $CXX, c++, g++, clang++ and the package ziglang); install one, for "
            "example with `pip install ziglang`, or continue without: upscaling then runs through torch"
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
        output = Path(scratch.name) / f"winograd{LIBRARY_SUFFIX}"
        for target in TARGET_FLAGS:
            message = run_compiler(compiler, target, output)
            if message is None:
                library = folder / f"winograd-{compiler_hash(compiler)}{LIBRARY_SUFFIX}"
                os.replace(output, library)
                return library
            errors.append(message)
    raise BuildError(f"{shlex.join(compiler)} cannot compile {SOURCE.name}: {errors[-1]}")


def find_library() -> Path | None:
    """Find the library that this CPU can run.

    The one compiled from this source for this CPU, else the wheel's for its instruction set, else None. No program is
    started.
    """
    candidates = (WHEEL_FOLDER / f"winograd-{name}{LIBRARY_SUFFIX}" for name in supported_instruction_sets())
    try:
        compiled = library_folder().glob(f"winograd-*{LIBRARY_SUFFIX}")
        newest = max(compiled, key=lambda path: path.stat().st_mtime, default=None)
    except OSError:
        newest = None
    return newest or next((path for path in candidates if path.is_file()), None)


def _copy_to_cache(library: Path) -> Path:
    """Copy a library to `library_folder()`, if that can be written to.

    Returns the copy, else the library.
    """
    folder = library_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            copied = Path(shutil.copyfile(library, Path(scratch) / library.name))
            return copied.replace(folder / library.name)
    except OSError:
        return library


def supported_instruction_sets() -> tuple[str, ...]:
    """Names of the wheel's libraries that this CPU can run, the fastest first.

    As torch detects them, which checks the operating system too; ATEN_CPU_CAPABILITY selects a lower one.
    """
    if platform.machine().lower() in ("arm64", "aarch64"):
        return ("neon",)  # every such CPU has it
    capability = torch.backends.cpu.get_cpu_capability()
    return {"AVX512": ("avx512", "avx2"), "AVX2": ("avx2",)}.get(capability, ())


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
        first_core = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    except OSError:
        yield platform.processor()
        yield torch.backends.cpu.get_cpu_capability()
        return
    for line in first_core.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in fields:
            yield value.strip()
