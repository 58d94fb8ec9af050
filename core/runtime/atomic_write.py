"""Atomic file write.

A file or folder appears complete under its name, or not at all.

Uses the standard library only: the setup scripts load this file before the package is installed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

MAX_NAME_BYTES = 100  # of the target's name within the temporary one, which may have 255 bytes on most file systems


@contextmanager
def temp_path(target: Path, tag: str | None = None) -> Iterator[Path]:
    """Yield a path beside `target` for a temporary file or folder.

    It is removed when the block ends.

    tag: as for `partial_path`; None takes a random one.
    """
    partial = partial_path(target, tag or uuid4().hex[:8])
    try:
        yield partial
    finally:
        _remove(partial)


@contextmanager
def atomic_path(target: Path, tag: str | None = None) -> Iterator[Path]:
    """A path beside `target` to write to, renamed to `target` when the block ends.

    On any exception it is removed, and an earlier file at `target` stays. A folder must not exist yet at `target`.
    tag: as for `partial_path`; None takes a random one.
    """
    with temp_path(target, tag) as partial:
        yield partial
        if partial.is_file():
            # Without fsync, a power cut after the rename can leave an empty file at `target`.
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
        os.replace(partial, target)


def partial_path(target: Path, tag: str) -> Path:
    """Return the temporary path for writing `target`.

    Each concurrent writer needs its own tag.
    """
    name = target.name
    while len(os.fsencode(name)) > MAX_NAME_BYTES:
        name = name[:-1]
    # A leading dot and an extension of its own, so that nothing takes the file for a result.
    return target.with_name(f".{name}.{tag}.partial")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        # A read-only file system raises here even where there is no file; the first error is the one to report.
        with suppress(OSError):
            path.unlink(missing_ok=True)
