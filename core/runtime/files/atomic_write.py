"""Atomic file write.

A file or folder appears complete under its name, or not at all. Temporary files carry the process that writes them in
their name, so that the next write to the same target removes what killed processes left, and nothing of live ones.

Uses the standard library only: the setup scripts load this file before the package is installed.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import shutil
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

MAX_NAME_BYTES = 100  # of the target's name within the temporary one, which may have 255 bytes on most file systems


_OWNER_PATTERN = re.compile(r"([0-9a-f]{6})-(\d+)-(\d+)-[0-9a-f]{8}")  # machine, process, its start, random


@contextmanager
def temp_path(target: Path, tag: str | None = None) -> Generator[Path, None, None]:
    """Yield a path beside `target` for a temporary file or folder.

    It is removed when the block ends, and so are those of dead processes for the same target.

    tag: as for `partial_path`; None takes one that names this process.
    """
    _remove_orphans(target)
    partial = partial_path(target, tag or f"{_machine_id()}-{os.getpid()}-{_start_time(os.getpid())}-{uuid4().hex[:8]}")
    try:
        yield partial
    finally:
        _remove(partial)


@contextmanager
def atomic_path(target: Path, tag: str | None = None) -> Generator[Path, None, None]:
    """A path beside `target` to write to, renamed to `target` when the block ends.

    On any exception it is removed, and an earlier file at `target` stays. A folder must not exist yet at `target`.
    Where `target` is a symbolic link, the file that it points to is replaced, and the link stays.
    tag: as for `partial_path`; None takes one that names this process.
    """
    target = follow_link(target)
    with temp_path(target, tag) as partial:
        yield partial
        if partial.is_file():
            # Without fsync, a power cut after the rename can leave an empty file at `target`.
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
        os.replace(partial, target)


def fsync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, so that they survive a power cut."""
    if os.name == "nt":  # Windows cannot open folders, and writes their names at once
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems do not support it
            os.fsync(handle)
    finally:
        os.close(handle)


def follow_link(target: Path) -> Path:
    """The file that a symbolic link points to, which need not exist; else `target`."""
    return Path(os.path.realpath(target)) if target.is_symlink() else target


def partial_path(target: Path, tag: str) -> Path:
    """Return the temporary path for writing `target`.

    Each concurrent writer needs its own tag.
    """
    # A leading dot and an extension of its own, so that nothing takes the file for a result.
    return target.with_name(f"{_partial_prefix(target)}{tag}.partial")


def _partial_prefix(target: Path) -> str:
    name = target.name
    while len(os.fsencode(name)) > MAX_NAME_BYTES:
        name = name[:-1]
    return f".{name}."


def _remove_orphans(target: Path) -> None:
    """Remove the temporary files for `target` whose process has ended."""
    prefix, suffix = _partial_prefix(target), ".partial"
    with suppress(OSError):
        names = [name for name in os.listdir(target.parent) if name.startswith(prefix) and name.endswith(suffix)]
        for name in names:
            owner = _OWNER_PATTERN.fullmatch(name[len(prefix) : -len(suffix)])
            if owner and owner[1] == _machine_id() and not _is_running(int(owner[2]), owner[3]):
                _remove(target.with_name(name))


@functools.cache
def _machine_id() -> str:
    """Identifies the machine, and the container, in which process numbers count."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/etc/machine-id").read_text(encoding="ascii", errors="replace"))
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:6]


def _is_running(pid: int, start_time: str) -> bool:
    if sys.platform == "win32":
        return _is_running_windows(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # of another user
        pass
    return _start_time(pid) in (start_time, "0")


def _start_time(pid: int) -> str:
    """When a process was started, in ticks since boot; "0" where it is unknown.

    Process numbers are reused, and this tells their processes apart.
    """
    with suppress(OSError, IndexError):
        # The name, in parentheses, may contain anything.
        state, *fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(") ")[2].split()
        )
        return "-1" if state in "ZX" else fields[18]
    return "0"


def _is_running_windows(pid: int) -> bool:
    import ctypes

    kernel: Any = vars(ctypes)["windll"].kernel32  # exists on Windows only
    handle = kernel.OpenProcess(0x1000, False, pid)  # PROCESS_QUERY_LIMITED_INFORMATION
    if not handle:
        return kernel.GetLastError() == 5  # access denied: it runs
    code = ctypes.c_ulong()
    is_known = kernel.GetExitCodeProcess(handle, ctypes.byref(code))
    kernel.CloseHandle(handle)
    return not is_known or code.value == 259  # STILL_ACTIVE


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        # A read-only file system raises here even where there is no file; the first error is the one to report.
        with suppress(OSError):
            path.unlink(missing_ok=True)
