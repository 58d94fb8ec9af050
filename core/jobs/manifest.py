"""What a job has done so far, kept so that the next process can trust it: files, and a table of what they hold.

The folder of a job holds job.json, the pieces that are finished (motion-00000.json, segment-00000.mp4, ...), and
files on their way, which end with .partial. The table is

{"format": "steadyscale-job", "version": 1, "seal": hash of the rest, "books": {"segment": {"settings": {...}, "pieces":
{"0": {"start": 0, "stop": 240, "file": "segment-00000.mp4", "bytes": 81234, "sha256": "...", ...}, ...}}, ...}}

A piece counts when it is in the table, under the settings of this run, and its file is what was hashed. A file never
counts because it is there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..clip import ClipError
from ..runtime.atomic_write import atomic_path
from ..runtime.folder_lock import LOCK_NAME as LOCK
from .fingerprint import hash_file

log = logging.getLogger(__name__)

FORMAT, VERSION, MANIFEST_NAME = "steadyscale-job", 1, "job.json"
_JOB_FILE_PATTERN = re.compile(
    r"(motion|segment)-\d{5,}\.\w+|\.(job|motion-\d{5,}|segment-\d{5,})\.\w+\.[0-9a-f]{8}\.partial"
)


@dataclass
class StageEntry:
    """The pieces of one kind, and the settings that they were all made with."""

    settings: dict[str, Any] = field(default_factory=dict)
    pieces: dict[int, dict[str, Any]] = field(default_factory=dict)


class Manifest:
    """The table of the job in `folder`, as the last process left it; without pieces where none can be trusted.

    Raises ClipError for a folder that holds other things.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        _check_job_folder(folder)
        self._stages = _read_manifest(folder / MANIFEST_NAME)
        self._remove_stale(partial=True)

    def begin(self, stage: str, settings: dict[str, Any]) -> dict[int, dict[str, Any]]:
        """The finished pieces of that kind. They are given up, and the log says why, where `settings` are not those
        that they were made with, and each for itself where its file is not what it was.
        """
        settings = json.loads(json.dumps(settings))  # as they come back from the file
        book = self._stages.get(stage, StageEntry(settings))
        if book.settings != settings:
            changed = [k for k in {**settings, **book.settings} if settings.get(k) != book.settings.get(k)]
            log.warning(
                "%s: this run differs from the one before (%s), so it starts afresh", self.folder, ", ".join(changed)
            )
            book = StageEntry(settings)
        for index, piece in [*book.pieces.items()]:
            if not self._is_intact(piece):
                log.warning("%s: %s is not what was written, and is made again", self.folder, piece["file"])
                del book.pieces[index]
        self._stages[stage] = book
        self.save()
        self._remove_stale(stage)
        return book.pieces

    def pieces(self, stage: str) -> dict[int, dict[str, Any]]:
        """The pieces of that kind that are finished, by their index."""
        return self._stages[stage].pieces if stage in self._stages else {}

    def add(self, stage: str, index: int, file: Path, metadata: dict[str, Any]) -> None:
        """Enter a piece whose file is written. When this returns, a power cut cannot take it away any more."""
        fsync_folder(self.folder)
        piece = {**metadata, "file": file.name, "bytes": file.stat().st_size, "sha256": hash_file(file)}
        self._stages[stage].pieces[index] = piece
        try:
            self.save()
        except BaseException:  # also of an interrupt: what is not in the file does not count
            del self._stages[stage].pieces[index]
            raise

    def save(self) -> None:
        """Write the table, whole or not at all."""
        books = {
            kind: {"settings": book.settings, "pieces": {str(index): piece for index, piece in book.pieces.items()}}
            for kind, book in self._stages.items()
        }
        document = {"format": FORMAT, "version": VERSION, "seal": _checksum(books), "books": books}
        with atomic_path(self.folder / MANIFEST_NAME) as partial:
            partial.write_text(json.dumps(document), encoding="utf-8")
        fsync_folder(self.folder)

    def remove_files(self) -> None:
        """Remove all that the job wrote. The folder goes with it, unless somebody put other things there."""
        (self.folder / MANIFEST_NAME).unlink(missing_ok=True)
        for file in _job_files(self.folder):
            file.unlink(missing_ok=True)

    def _is_intact(self, piece: dict[str, Any]) -> bool:
        file = self.folder / piece["file"]
        try:
            return file.is_file() and file.stat().st_size == piece["bytes"] and hash_file(file) == piece["sha256"]
        except OSError:
            return False

    def _remove_stale(self, stage: str = "", *, partial: bool = False) -> None:
        """Remove files on their way that a killed process left, and pieces of that kind that do not count."""
        counted = {piece["file"] for book in self._stages.values() for piece in book.pieces.values()}
        for file in _job_files(self.folder):
            left = partial if file.suffix == ".partial" else bool(stage) and file.name.startswith(stage)
            if left and file.name not in counted:
                file.unlink(missing_ok=True)


def fsync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk itself, so that files keep them through a power cut."""
    if os.name == "nt":  # folders cannot be opened there, and the system writes their names through
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems know no such thing
            os.fsync(handle)
    finally:
        os.close(handle)


def _check_job_folder(folder: Path) -> None:
    inside = sorted(file.name for file in folder.iterdir() if file.name != LOCK)
    if inside and not any(name == MANIFEST_NAME or _JOB_FILE_PATTERN.fullmatch(name) for name in inside):
        raise ClipError(f"{folder}: holds other things ({inside[0]}) and no job; choose a new folder for the job")


def _job_files(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.iterdir()) if _JOB_FILE_PATTERN.fullmatch(file.name))


def _read_manifest(file: Path) -> dict[str, StageEntry]:
    """The books of a table; none, and the log says why, where it cannot be trusted."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as e:
        log.warning("%s cannot be read (%s), so the job starts afresh", file, e)
        return {}
    try:
        document = json.loads(text)
        if document["format"] != FORMAT or document["version"] != VERSION:
            raise ValueError("it is of another version")
        if document["seal"] != _checksum(document["books"]):
            raise ValueError("it is not what was written")
        return {
            kind: StageEntry(book["settings"], {int(index): piece for index, piece in book["pieces"].items()})
            for kind, book in document["books"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        log.warning("%s is damaged or of another program (%s), so the job starts afresh", file, e)
        return {}


def _checksum(stages: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(stages, sort_keys=True).encode()).hexdigest()
