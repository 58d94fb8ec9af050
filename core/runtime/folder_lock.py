"""One process at a time in a folder; a lock that a killed process left behind holds nobody up."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..clip import ClipError

LOCK_NAME = "lock"
_LOCK_OFFSET = 1 << 30  # Windows locks bytes, and others cannot read those; this one lies beyond what is written


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold the folder, which exists, until the block ends. Raises ClipError, with the process's number, where it is
    held already, by another process or by this one.

    The operating system holds the lock and lets it go with its process, however that ends, so none is ever stale.
    """
    file = folder / LOCK_NAME
    while True:
        handle = file.open("ab+")
        try:
            _lock(handle)
        except OSError as e:
            handle.seek(0)
            holder = handle.read(32).decode("ascii", "replace").strip() or "unknown"
            handle.close()
            raise ClipError(
                f"{folder}: process {holder} is at work on this job; wait until it has finished, or stop it first"
            ) from e
        if _is_same_file(file, handle):
            break
        handle.close()  # Who held it before has removed it meanwhile: the next one creates another file.
    try:
        handle.truncate(0)
        handle.write(f"{os.getpid()}\n".encode("ascii"))
        handle.flush()
        yield
    finally:
        if sys.platform == "win32":  # an open file cannot be removed there
            handle.close()
        with suppress(OSError):
            file.unlink()
        handle.close()


def _is_same_file(file: Path, handle: BinaryIO) -> bool:
    """Whether the open file is the one of that name."""
    try:
        return os.path.samestat(file.stat(), os.fstat(handle.fileno()))
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: BinaryIO) -> None:
        handle.seek(_LOCK_OFFSET)
        msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(handle: BinaryIO) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
