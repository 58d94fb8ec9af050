"""The files of a job: their names, atomic writes, exclusive creation.

    plan.json                    what is to be done; see plan.py
    correction-HASH.json         what the plan refers to: the correction of each frame
    parts/00003-HASH.mp4         the frames of piece 3, named after the hash of the file
    parts/00003.json             says that the part is complete and verified
    claims/00003-2.json          the second attempt at piece 3; see claims.py
    joined.json                  in place of plan.json once OUT is complete, while the other files are removed
    motion/00003.json            the motion of piece 3 of the source; see motion_pieces.py
    motion/00003-view.json       the same, measured again through a detected lens, or inside bars that change
    motion/held.json             the motion of the layer or subject that is held
    motion/bars.json             the bars of each shot, where they change

All processes that work on a job share its folder, on a disk or in a store of objects, and no file of it is changed by
two of them: plan.json is written by the planning process, an attempt belongs to the process that created it, and parts
appear as a whole. No other module reads or writes these files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from ...clip import ClipError
from ...runtime.files.atomic_write import temp_path
from ...storage.copies import download, work_folder
from ...storage.location import ObjectUrl, parse_location
from ...storage.object_storage import ObjectStorage
from ...storage.open import open_storage
from .fingerprint import hash_file
from .job_files import check_job_names, remove_job_files

FORMAT, VERSION = "steadyscale-shards", 1
PLAN, JOINED, PARTS, CLAIMS, MOTION = "plan.json", "joined.json", "parts", "claims", "motion"
HELD, SHOT_BARS = f"{MOTION}/held.json", f"{MOTION}/bars.json"
_CORRECTION = re.compile(r"correction(-.*)?\.json")
_RECORD = re.compile(r"\d{5,}\.json")
_VIEW_RECORD = re.compile(r"\d{5,}-view\.json")
_HASH_DIGITS = 16  # of a file's hash, in its name


class JobFolder:
    """The files of a job in a folder, or its objects in a store; see the module.

    path: of the folder, or the URL that the names of the objects begin with.
    """

    def __init__(self, path: str | Path | ObjectUrl) -> None:
        self.path = parse_location(path)
        self._storage = open_storage(self.path)

    def check(self) -> None:
        """Raise ClipError where a store cannot be reached, or has other objects here."""
        assert isinstance(self._storage, ObjectStorage), "of a folder `check_job_folder` does that"
        self._storage.check_bucket()
        check_job_names(self.path, self._storage.names())

    def part_record(self, index: int) -> str:
        """The name of the record of a finished part."""
        return f"{PARTS}/{index:05d}.json"

    def motion_piece(self, index: int, *, of_view: bool = False) -> str:
        """The name of the measured motion of a piece of the source.

        of_view: that of the second pass, through a detected lens or inside bars.
        """
        return f"{MOTION}/{index:05d}{'-view' if of_view else ''}.json"

    def attempt(self, index: int, number: int) -> str:
        """The name of an attempt at a piece, counted from 1."""
        return f"{CLAIMS}/{index:05d}-{number}.json"

    def last_attempt(self, index: int) -> int:
        """The number of the last attempt at a piece; 0 without one."""
        number = 0
        while self.exists(self.attempt(index, number + 1)):
            number += 1
        return number

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        return self._storage.size(name) is not None

    def read(self, name: str) -> dict[str, Any] | None:
        """Return the document in a file; None where there is none, or it is damaged."""
        try:
            document = json.loads(self._storage.read(name).decode())
            body = document["body"]
            is_valid = (document["format"], document["version"], document["seal"]) == (FORMAT, VERSION, _seal(body))
        except ClipError:  # a store that cannot be reached
            raise
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return body if is_valid else None

    def write(self, name: str, body: dict[str, Any]) -> None:
        """Write a document atomically. On return it survives a power cut."""
        self._storage.write(name, _encode(body))

    def create(self, name: str, body: dict[str, Any]) -> bool:
        """Create a file with a document; False where it exists.

        Of several processes, one gets True.
        """
        return self._storage.create(name, _encode(body))

    @contextmanager
    def part_folder(self, index: int) -> Generator[Path, None, None]:
        """Yield an empty folder to write a part into; it is removed when the block ends.

        Folders of dead processes of this machine are removed, too.
        """
        if isinstance(self.path, ObjectUrl):
            with work_folder() as folder:
                yield folder
            return
        parts = self.path / PARTS
        parts.mkdir(exist_ok=True)
        with temp_path(parts / f"{index:05d}") as folder:
            folder.mkdir()
            yield folder

    def add_part(self, index: int, file: Path, record: dict[str, Any]) -> None:
        """Move a complete file among the parts, then write its record."""
        self.write(self.part_record(index), record | self._add_file(file, f"{PARTS}/{index:05d}"))

    def add_correction(self, save: Callable[[Path], None]) -> dict[str, Any]:
        """Add a correction, and return its name and hash.

        save: writes it to the given path.
        """
        if isinstance(self.path, Path):
            save(file := self.path / "correction.json")
            return self._add_file(file, "correction")
        with work_folder() as folder:
            save(file := folder / "correction.json")
            return self._add_file(file, "correction")

    @contextmanager
    def local_file(self, record: dict[str, Any]) -> Generator[Path | None, None, None]:
        """Yield a local path of a small file: the file itself, or a copy of the object.

        None where the content is missing, or does not match the record.
        """
        if isinstance(self.path, Path):
            yield _verified(self.path / record["file"], record)
            return
        with work_folder() as folder:
            file = folder / Path(record["file"]).name
            with suppress(FileNotFoundError):
                file.write_bytes(self._storage.read(record["file"]))
            yield _verified(file, record)

    def _add_file(self, file: Path, prefix: str) -> dict[str, Any]:
        """Move a complete file here, named after its hash; return what a record states."""
        digest, size = hash_file(file), file.stat().st_size
        name = f"{prefix}-{digest[:_HASH_DIGITS]}{file.suffix}"
        self._storage.add_file(file, name)
        return {"file": name, "bytes": size, "sha256": digest}

    def is_intact(self, record: dict[str, Any]) -> bool:
        """Whether the file of a part matches its record.

        Only the size of an object is compared; `local_parts` compares the content.
        """
        try:
            if self._storage.size(record["file"]) != record["bytes"]:
                return False
            return isinstance(self.path, ObjectUrl) or hash_file(self.path / record["file"]) == record["sha256"]
        except ClipError:  # a store that cannot be reached
            raise
        except OSError:
            return False

    @contextmanager
    def local_parts(self, records: Sequence[dict[str, Any]]) -> Generator[list[Path], None, None]:
        """Yield local paths of intact parts: the files, or copies of the objects.

        Copies are removed when the block ends. Raises ClipError for a damaged object, whose record is removed.
        """
        if isinstance(self.path, Path):
            yield [self.path / record["file"] for record in records]
            return
        storage = ObjectStorage(self.path)
        with work_folder() as folder:
            copies = [folder / Path(record["file"]).name for record in records]
            for index, (record, copy) in enumerate(zip(records, copies, strict=True)):
                download(storage, record["file"], copy, record["bytes"])
                if hash_file(copy) != record["sha256"]:
                    self.remove_part(index)
                    raise ClipError(
                        f"{self.path / record['file']}: piece {index} is damaged; run its shard, then join again"
                    )
            yield copies

    def finished_records(self) -> set[str]:
        """Return the names of the records of all finished parts."""
        return self._numbered(PARTS)

    def measured_pieces(self, *, of_view: bool = False) -> set[str]:
        """Return the names of the files of all measured motion.

        of_view: as for `motion_piece`.
        """
        return self._numbered(MOTION, _VIEW_RECORD if of_view else _RECORD)

    def _numbered(self, folder: str, pattern: re.Pattern[str] = _RECORD) -> set[str]:
        return {name for name in self._storage.names(folder) if pattern.fullmatch(name.removeprefix(f"{folder}/"))}

    def count_parts(self) -> int:
        """Return the number of finished parts."""
        return len(self.finished_records())

    def remove_part(self, index: int) -> None:
        """Remove the record of a part, which is then computed again."""
        self._storage.remove(self.part_record(index))

    def remove_unused(self, kept: set[str]) -> None:
        """Remove parts, attempts and corrections, except those of these names."""
        corrections = (name for name in self._storage.names() if _CORRECTION.fullmatch(name))
        for name in [*self._storage.names(PARTS), *self._storage.names(CLAIMS), *corrections]:
            if name not in kept and not name.endswith(".partial"):
                self._storage.remove(name)

    def remove(self) -> None:
        """Remove all files of the job, the plan first: without it nothing works on them.

        Another process may do the same at the same time. joined.json is removed last, so that a removal that is killed
        can be finished.
        """
        with suppress(FileNotFoundError):
            self._storage.remove(PLAN)
            self.remove_unused(set())
            for name in self._storage.names(MOTION):
                self._storage.remove(name)
            if isinstance(self.path, Path):
                for folder in (PARTS, CLAIMS):  # what killed processes left
                    for partial in self.path.glob(f"{folder}/.*.partial"):
                        _remove_tree(partial)
                remove_job_files(self.path)
                _remove_empty(self.path / PARTS, self.path / CLAIMS, self.path / MOTION)
            self._storage.remove(JOINED)
        if isinstance(self.path, Path):
            _remove_empty(self.path)


def _remove_empty(*folders: Path) -> None:
    """Remove folders, except those that contain files."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def _verified(file: Path, record: dict[str, Any]) -> Path | None:
    return file if file.is_file() and hash_file(file) == record["sha256"] else None


def _remove_tree(path: Path) -> None:
    if path.is_dir():
        for file in path.iterdir():
            _remove_tree(file)
        with suppress(OSError):
            path.rmdir()
    else:
        path.unlink(missing_ok=True)


def _encode(body: dict[str, Any]) -> bytes:
    return json.dumps({"format": FORMAT, "version": VERSION, "seal": _seal(body), "body": body}).encode()


def _seal(body: Any) -> str:
    return sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
