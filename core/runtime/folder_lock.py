"""Lock a folder for one process at a time.

The operating system holds the lock for as long as the process lives, so a killed process leaves no stale lock.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..clip import ClipError

LOCK_NAME = "lock"


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which is created if needed, until the block ends.

    Raises ClipError at once, with the process id, where another process or another caller in this one holds it.
    """
    file = folder / LOCK_NAME
    holder = _read_pid(file)  # before the attempt, which may truncate the file
    lock = FileLock(file, timeout=0, thread_local=False)  # A garbage collector may end the block in any thread.
    try:
        lock.acquire()
    except Timeout as e:
        raise ClipError(
            f"{folder}: process {holder} is at work on this job; wait until it has finished, or stop it first"
        ) from e
    try:
        with suppress(OSError):  # Windows refuses to write to a locked file through another handle.
            file.write_text(f"{os.getpid()}\n", encoding="ascii")
        yield
    finally:
        with suppress(OSError):  # Windows refuses to remove an open file.
            file.unlink()
        lock.release()
        if os.name == "nt":
            with suppress(OSError):
                file.unlink()


def _read_pid(file: Path) -> str:
    with suppress(OSError):
        return file.read_text(encoding="ascii", errors="replace").strip() or "unknown"
    return "unknown"
