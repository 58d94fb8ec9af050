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
from ..runtime.atomic_write import appearing
from ..runtime.folder_lock import NAME as LOCK
from .fingerprint import of_file

log = logging.getLogger(__name__)

FORMAT, VERSION, NAME = "steadyscale-job", 1, "job.json"
_OURS = re.compile(r"(motion|segment)-\d{5,}\.\w+|\.(job|motion-\d{5,}|segment-\d{5,})\.\w+\.[0-9a-f]{8}\.partial")


@dataclass
class Book:
    """The pieces of one kind, and the settings that they were all made with."""

    settings: dict[str, Any] = field(default_factory=dict)
    pieces: dict[int, dict[str, Any]] = field(default_factory=dict)


class Manifest:
    """The table of the job in `folder`, as the last process left it; without pieces where none can be trusted.

    Raises ClipError for a folder that holds other things.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        _check_ours(folder)
        self._books = _read(folder / NAME)
        self._sweep(partial=True)

    def begin(self, kind: str, settings: dict[str, Any]) -> dict[int, dict[str, Any]]:
        """The finished pieces of that kind. They are given up, and the log says why, where `settings` are not those
        that they were made with, and each for itself where its file is not what it was.
        """
        settings = json.loads(json.dumps(settings))  # as they come back from the file
        book = self._books.get(kind, Book(settings))
        if book.settings != settings:
            changed = [k for k in {**settings, **book.settings} if settings.get(k) != book.settings.get(k)]
            log.warning(
                "%s: this run differs from the one before (%s), so it starts afresh", self.folder, ", ".join(changed)
            )
            book = Book(settings)
        for index, piece in [*book.pieces.items()]:
            if not self._is_whole(piece):
                log.warning("%s: %s is not what was written, and is made again", self.folder, piece["file"])
                del book.pieces[index]
        self._books[kind] = book
        self.save()
        self._sweep(kind)
        return book.pieces

    def pieces(self, kind: str) -> dict[int, dict[str, Any]]:
        """The pieces of that kind that are finished, by their index."""
        return self._books[kind].pieces if kind in self._books else {}

    def add(self, kind: str, index: int, file: Path, facts: dict[str, Any]) -> None:
        """Enter a piece whose file is written. When this returns, a power cut cannot take it away any more."""
        settle(self.folder)
        piece = {**facts, "file": file.name, "bytes": file.stat().st_size, "sha256": of_file(file)}
        self._books[kind].pieces[index] = piece
        try:
            self.save()
        except BaseException:  # also of an interrupt: what is not in the file does not count
            del self._books[kind].pieces[index]
            raise

    def save(self) -> None:
        """Write the table, whole or not at all."""
        books = {
            kind: {"settings": book.settings, "pieces": {str(index): piece for index, piece in book.pieces.items()}}
            for kind, book in self._books.items()
        }
        document = {"format": FORMAT, "version": VERSION, "seal": _seal(books), "books": books}
        with appearing(self.folder / NAME) as partial:
            partial.write_text(json.dumps(document), encoding="utf-8")
        settle(self.folder)

    def remove(self) -> None:
        """Remove all that the job wrote. The folder goes with it, unless somebody put other things there."""
        (self.folder / NAME).unlink(missing_ok=True)
        for file in _ours(self.folder):
            file.unlink(missing_ok=True)

    def _is_whole(self, piece: dict[str, Any]) -> bool:
        file = self.folder / piece["file"]
        try:
            return file.is_file() and file.stat().st_size == piece["bytes"] and of_file(file) == piece["sha256"]
        except OSError:
            return False

    def _sweep(self, kind: str = "", *, partial: bool = False) -> None:
        """Remove files on their way that a killed process left, and pieces of that kind that do not count."""
        counted = {piece["file"] for book in self._books.values() for piece in book.pieces.values()}
        for file in _ours(self.folder):
            left = partial if file.suffix == ".partial" else bool(kind) and file.name.startswith(kind)
            if left and file.name not in counted:
                file.unlink(missing_ok=True)


def settle(folder: Path) -> None:
    """Have the names in a folder on the disk itself, so that files keep them through a power cut."""
    if os.name == "nt":  # folders cannot be opened there, and the system writes their names through
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems know no such thing
            os.fsync(handle)
    finally:
        os.close(handle)


def _check_ours(folder: Path) -> None:
    inside = sorted(file.name for file in folder.iterdir() if file.name != LOCK)
    if inside and not any(name == NAME or _OURS.fullmatch(name) for name in inside):
        raise ClipError(f"{folder}: holds other things ({inside[0]}) and no job; choose a new folder for the job")


def _ours(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.iterdir()) if _OURS.fullmatch(file.name))


def _read(file: Path) -> dict[str, Book]:
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
        if document["seal"] != _seal(document["books"]):
            raise ValueError("it is not what was written")
        return {
            kind: Book(book["settings"], {int(index): piece for index, piece in book["pieces"].items()})
            for kind, book in document["books"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        log.warning("%s is damaged or of another program (%s), so the job starts afresh", file, e)
        return {}


def _seal(books: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(books, sort_keys=True).encode()).hexdigest()
