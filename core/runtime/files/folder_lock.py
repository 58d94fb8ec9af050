"""Lock a folder for one process at a time.

The operating system holds the lock for as long as the process lives, so a killed process leaves no stale lock. Some
network disks have no locks; there the folder is used without one, and a message says so.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ...clip import ClipError

log = logging.getLogger(__name__)

LOCK_NAME = "lock"
_UNSUPPORTED = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


@contextmanager
def folder_lock(folder: Path) -> Generator[None, None, None]:
    """Hold the lock of a folder, which is created if needed, until the block ends.

    Raises ClipError at once, with the process id, where another process or another caller in this one holds it.
    """
    file = folder / LOCK_NAME
    holder = _read_pid(file)  # before the attempt, which may truncate the file
    lock = FileLock(file, timeout=0, thread_local=False)  # A garbage collector may end the block in any thread.
    try:
        lock.acquire()
    except (Timeout, OSError) as e:
        if not _is_unsupported(file, e):
            if not isinstance(e, Timeout):
                raise
            raise ClipError(
                f"{folder}: process {holder} is at work on this job; wait until it has finished, or stop it first"
            ) from e
        log.warning("%s: this disk has no file locks; do not start the same job twice at a time", folder)
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


def _is_unsupported(file: Path, error: OSError) -> bool:
    """Whether a lock failed because the file system has none.

    Older versions of filelock report that as a lock that another process holds, so the system is asked again.
    """
    if not isinstance(error, Timeout):
        return error.errno in _UNSUPPORTED
    try:
        import fcntl

        with file.open("ab") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows
        return False
    except OSError as e:
        return e.errno in _UNSUPPORTED
    return False


def _read_pid(file: Path) -> str:
    with suppress(OSError):
        return file.read_text(encoding="ascii", errors="replace").strip() or "unknown"
    return "unknown"
