"""The files of a job: their names, atomic writes, exclusive creation.

    plan.json                    what is to be done; see plan.py
    correction-HASH.json         what the plan refers to: the correction of each frame
    parts/00003-HASH.mp4         the frames of piece 3, named after the hash of the file
    parts/00003.json             says that the part is complete and verified
    claims/00003-2.json          the second attempt at piece 3; see claims.py
    joined.json                  in place of plan.json once OUT is complete, while the other files are removed
    motion/00003.json            the motion of piece 3 of the source; see motion_pieces.py

All processes that work on a job share its folder, and no file of it is changed by two of them: plan.json is written by
the planning process, an attempt belongs to the process that created it, and parts are renamed into place. No other
module writes these files, so that another kind of storage needs a change here only.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Generator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..runtime.atomic_write import atomic_path, fsync_folder, temp_path
from .fingerprint import hash_file
from .job_files import remove_job_files

FORMAT, VERSION = "steadyscale-shards", 1
PLAN, JOINED, PARTS, CLAIMS, MOTION = "plan.json", "joined.json", "parts", "claims", "motion"
_RECORD = re.compile(r"\d{5,}\.json")
_HASH_DIGITS = 16  # of a file's hash, in its name


class JobFolder:
    """A folder that holds a job; see the module."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def part_record(self, index: int) -> str:
        """The name of the record of a finished part."""
        return f"{PARTS}/{index:05d}.json"

    def motion_piece(self, index: int) -> str:
        """The name of the measured motion of a piece of the source."""
        return f"{MOTION}/{index:05d}.json"

    def attempt(self, index: int, number: int) -> str:
        """The name of an attempt at a piece, counted from 1."""
        return f"{CLAIMS}/{index:05d}-{number}.json"

    def last_attempt(self, index: int) -> int:
        """The number of the last attempt at a piece; 0 without one."""
        number = 0
        while (self.path / self.attempt(index, number + 1)).exists():
            number += 1
        return number

    def read(self, name: str) -> dict[str, Any] | None:
        """Return the document in a file; None where there is none, or it is damaged."""
        try:
            document = json.loads((self.path / name).read_text(encoding="utf-8"))
            body = document["body"]
            is_valid = (document["format"], document["version"], document["seal"]) == (FORMAT, VERSION, _seal(body))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return body if is_valid else None

    def write(self, name: str, body: dict[str, Any]) -> None:
        """Write a document atomically. On return it survives a power cut."""
        file = self.path / name
        file.parent.mkdir(exist_ok=True)
        with atomic_path(file) as partial:
            partial.write_text(_encode(body), encoding="utf-8")
        fsync_folder(file.parent)

    def create(self, name: str, body: dict[str, Any]) -> bool:
        """Create a file with a document; False where it exists.

        Of several processes, one gets True.
        """
        file = self.path / name
        file.parent.mkdir(exist_ok=True)
        try:
            with file.open("x", encoding="utf-8") as content:
                content.write(_encode(body))
        except FileExistsError:
            return False
        return True

    @contextmanager
    def part_folder(self, index: int) -> Generator[Path, None, None]:
        """Yield an empty folder to write a part into; it is removed when the block ends.

        Those of dead processes of this machine are removed, too.
        """
        parts = self.path / PARTS
        parts.mkdir(exist_ok=True)
        with temp_path(parts / f"{index:05d}") as folder:
            folder.mkdir()
            yield folder

    def add_part(self, index: int, file: Path, record: dict[str, Any]) -> None:
        """Move a complete file among the parts, then write its record."""
        digest = hash_file(file)
        name = f"{PARTS}/{index:05d}-{digest[:_HASH_DIGITS]}{file.suffix}"
        size = file.stat().st_size
        os.replace(file, self.path / name)
        fsync_folder(self.path / PARTS)
        self.write(self.part_record(index), record | {"file": name, "bytes": size, "sha256": digest})

    def is_intact(self, record: dict[str, Any]) -> bool:
        """Whether the file of a part is what its record states."""
        file = self.path / record["file"]
        try:
            return file.stat().st_size == record["bytes"] and hash_file(file) == record["sha256"]
        except OSError:
            return False

    def count_parts(self) -> int:
        """Return the number of finished parts."""
        return sum(_RECORD.fullmatch(file.name) is not None for file in self.path.glob(f"{PARTS}/*"))

    def remove_part(self, index: int) -> None:
        """Remove the record of a part, which is then computed again."""
        (self.path / self.part_record(index)).unlink(missing_ok=True)

    def remove_unused(self, kept: set[str]) -> None:
        """Remove parts, attempts and corrections, except those of these names."""
        files = [*self.path.glob(f"{PARTS}/*"), *self.path.glob(f"{CLAIMS}/*"), *self.path.glob("correction*.json")]
        for file in files:
            if file.relative_to(self.path).as_posix() not in kept and not file.name.endswith(".partial"):
                file.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove all files of the job, the plan first: without it nothing works on them.

        Another process may do the same at the same time. What says that the job is joined is removed last, so that a
        removal that is killed can be finished.
        """
        with suppress(FileNotFoundError):
            (self.path / PLAN).unlink(missing_ok=True)
            self.remove_unused(set())
            for file in [*self.path.glob(f"{PARTS}/.*.partial"), *self.path.glob(f"{MOTION}/*")]:
                _remove_tree(file)
            remove_job_files(self.path)
            _remove_empty(self.path / PARTS, self.path / CLAIMS, self.path / MOTION)
            (self.path / JOINED).unlink(missing_ok=True)
        _remove_empty(self.path)


def _remove_empty(*folders: Path) -> None:
    """Remove folders, except those that contain files."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def _remove_tree(path: Path) -> None:
    if path.is_dir():
        for file in path.iterdir():
            _remove_tree(file)
        with suppress(OSError):
            path.rmdir()
    else:
        path.unlink(missing_ok=True)


def _encode(body: dict[str, Any]) -> str:
    return json.dumps({"format": FORMAT, "version": VERSION, "seal": _seal(body), "body": body})


def _seal(body: Any) -> str:
    return sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
