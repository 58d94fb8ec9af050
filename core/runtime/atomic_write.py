"""A file that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4


@contextmanager
def temp_path(target: Path) -> Iterator[Path]:
    """A path beside `target` for a file or a folder; whatever is there when the block ends is removed."""
    partial = partial_path(target, uuid4().hex[:8])
    try:
        yield partial
    finally:
        _remove(partial)


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A path beside `target` to write a file or a folder to. It gets its final name when the block ends well; on any
    exception it is removed, and an earlier file under the final name stays as it was. A folder must not exist yet.
    """
    with temp_path(target) as partial:
        yield partial
        if partial.is_file():
            # Without this, a power cut after the renaming can leave the final name on an empty file.
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
        os.replace(partial, target)


def partial_path(target: Path, tag: str) -> Path:
    """Where `target` is being written. mark: tells apart those who write it."""
    name = target.name
    while len(os.fsencode(name)) > 100:  # with what is added it stays within the 255 bytes that a name can have
        name = name[:-1]
    # It starts with a dot and ends with neither .mp4 nor .png, so that nothing takes it for a result.
    return target.with_name(f".{name}.{tag}.partial")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        # A disk that takes no files refuses this as well, even of one that is not there; the first error counts.
        with suppress(OSError):
            path.unlink(missing_ok=True)
