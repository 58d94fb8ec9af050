"""The manifest of measured motion: pieces with settings and file hashes.

The folder of a job holds job.json, the finished pieces (motion-00000.json, ...) and temporary files (.partial), besides
the files of layout.py. Before version 0.2, frames were listed there, too, as the stage "segment". job.json is

{"format": "steadyscale-job", "version": 1, "seal": hash of "books", "books": {"segment": {"settings": {...}, "pieces":
{"0": {"start": 0, "stop": 240, "file": "segment-00000.mp4", "bytes": 81234, "sha256": "...", ...}, ...}}, ...}}

A piece is reused if the manifest lists it under the settings of this run, and its file has the listed hash. A file that
is not listed is never used.
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
    r"(motion|segment)-\d{5,}\.\w+|\.(job|motion-\d{5,}|segment-\d{5,})\.\w+\.[0-9a-f-]{8,}\.partial"
)
_JOB_NAMES = {MANIFEST_NAME, "plan.json", "parts"}  # any of which a folder of a job has; see layout.py


@dataclass
class StageEntry:
    """The finished pieces of one stage, and the settings of all of them."""

    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    pieces: dict[int, dict[str, Any]] = field(default_factory=dict[int, dict[str, Any]])


class Manifest:
    """The manifest of the job in `folder`; empty where it cannot be trusted.

    Raises ClipError for a folder that contains other files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        _check_job_folder(folder)
        self._stages = _read_manifest(folder / MANIFEST_NAME)
        self._remove_stale(partial=True)

    def begin(self, stage: str, settings: dict[str, Any]) -> dict[int, dict[str, Any]]:
        """Start a stage, and return its finished pieces by index.

        Pieces are discarded, with a log message, if their settings differ from `settings` or their file from its hash.
        """
        settings = json.loads(json.dumps(settings))  # comparable with settings read from the file
        entry = self._stages.get(stage, StageEntry(settings))
        if entry.settings != settings:
            changed = [k for k in {**settings, **entry.settings} if settings.get(k) != entry.settings.get(k)]
            log.warning(
                "%s: the settings of this run differ (%s), so finished pieces are discarded",
                self.folder,
                ", ".join(changed),
            )
            entry = StageEntry(settings)
        for index, piece in [*entry.pieces.items()]:
            if not self._is_intact(piece):
                log.warning("%s: %s is damaged and will be computed again", self.folder, piece["file"])
                del entry.pieces[index]
        self._stages[stage] = entry
        self.save()
        self._remove_stale(stage)
        return entry.pieces

    def pieces(self, stage: str) -> dict[int, dict[str, Any]]:
        """Return the finished pieces of a stage, by index."""
        return self._stages[stage].pieces if stage in self._stages else {}

    def add(self, stage: str, index: int, file: Path, metadata: dict[str, Any]) -> None:
        """Add a piece whose file is complete. On return it survives a power cut."""
        fsync_folder(self.folder)
        piece = {**metadata, "file": file.name, "bytes": file.stat().st_size, "sha256": hash_file(file)}
        self._stages[stage].pieces[index] = piece
        try:
            self.save()
        except BaseException:  # also on an interrupt: memory and file must agree
            del self._stages[stage].pieces[index]
            raise

    def drop(self, stage: str) -> int:
        """Forget a stage and remove its files; return the number of its finished pieces."""
        entry = self._stages.pop(stage, StageEntry())
        if entry.pieces:
            self.save()
        self._remove_stale(stage)
        return len(entry.pieces)

    def save(self) -> None:
        """Write job.json atomically."""
        stages = {
            stage: {"settings": entry.settings, "pieces": {str(index): piece for index, piece in entry.pieces.items()}}
            for stage, entry in self._stages.items()
        }
        document = {"format": FORMAT, "version": VERSION, "seal": _checksum(stages), "books": stages}
        with atomic_path(self.folder / MANIFEST_NAME) as partial:
            partial.write_text(json.dumps(document), encoding="utf-8")
        fsync_folder(self.folder)

    def _is_intact(self, piece: dict[str, Any]) -> bool:
        file = self.folder / piece["file"]
        try:
            return file.is_file() and file.stat().st_size == piece["bytes"] and hash_file(file) == piece["sha256"]
        except OSError:
            return False

    def _remove_stale(self, stage: str = "", *, partial: bool = False) -> None:
        """Remove files that are not listed.

        partial: temporary files of a killed process; else files of that stage.
        """
        listed = {piece["file"] for entry in self._stages.values() for piece in entry.pieces.values()}
        for file in _job_files(self.folder):
            is_stale = partial if file.suffix == ".partial" else bool(stage) and file.name.startswith(stage)
            if is_stale and file.name not in listed:
                file.unlink(missing_ok=True)


def remove_job_files(folder: Path) -> None:
    """Remove the manifest in a folder, and the files that it lists."""
    (folder / MANIFEST_NAME).unlink(missing_ok=True)
    for file in _job_files(folder):
        file.unlink(missing_ok=True)


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


def _check_job_folder(folder: Path) -> None:
    names = sorted(file.name for file in folder.iterdir() if file.name != LOCK)
    if names and not any(name in _JOB_NAMES or _JOB_FILE_PATTERN.fullmatch(name) for name in names):
        raise ClipError(f"{folder}: contains other files ({names[0]}) and no job; choose a new folder for the job")


def _job_files(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.iterdir()) if _JOB_FILE_PATTERN.fullmatch(file.name))


def _read_manifest(file: Path) -> dict[str, StageEntry]:
    """Read the stages of a manifest; none where it cannot be trusted.

    The reason is logged.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as e:
        log.warning("%s cannot be read (%s), so the job starts from the beginning", file, e)
        return {}
    try:
        document = json.loads(text)
        if document["format"] != FORMAT or document["version"] != VERSION:
            raise ValueError("unknown format or version")
        if document["seal"] != _checksum(document["books"]):
            raise ValueError("wrong checksum")
        return {
            stage: StageEntry(entry["settings"], {int(index): piece for index, piece in entry["pieces"].items()})
            for stage, entry in document["books"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        log.warning("%s is damaged or not a manifest (%s), so the job starts from the beginning", file, e)
        return {}


def _checksum(stages: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(stages, sort_keys=True).encode()).hexdigest()
