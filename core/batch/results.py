"""The results of a batch: one line of JSON for each finished clip.

A line is {"in", "out", "status": "done" or "failed", "error", "frames", "seconds", ...}; "state" is what a later run
compares to find out whether the clip has to be processed again. The last line of an "out" counts.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any, cast

from ..clip import ClipError
from ..storage.copies import object_state
from ..storage.location import Location, ObjectUrl, parse_location
from ..storage.open import open_storage
from ..video.images.sequence_paths import is_image_sequence, is_image_source, list_image_files
from .tasks import ClipTask, TaskResult

DONE, FAILED = "done", "failed"
RESULTS_NAME = "results.jsonl"
SEND_SECONDS = 10.0  # between two times that the results are sent to a store; what a kill can lose


class ResultLog:
    """The file of results, to which lines are only added.

    path: a file or a URL. Objects in a store cannot be appended to: the object is replaced after a clip if SEND_SECONDS
    have passed since the last time, and by `close`.
    """

    def __init__(self, path: Location) -> None:
        self._path, self._sent = path, time.monotonic()
        self._storage = open_storage(path.parent)
        try:
            self._lines = self._storage.read(path.name).splitlines()
        except FileNotFoundError:
            self._lines = []
        self._records, self._is_sent = _read_records(self._lines), True
        if isinstance(path, Path):
            self._lines = []  # they are in the file

    def is_done(self, task: ClipTask) -> bool:
        """Whether the clip was processed with the same settings.

        False if its source or its result has changed since then.
        """
        record = self._records.get(task.target)
        if record is None or record.get("status") != DONE or record.get("state") is None:
            return False
        return record["state"] == [source_state(task), target_state(task)]

    def add(self, task: ClipTask, result: TaskResult, source: str | None) -> dict[str, Any]:
        """Append a result; on a disk it survives a power cut then. Returns its record.

        source: the `source_state` before the task began.
        """
        record: dict[str, Any] = {
            "in": task.source,
            "out": task.target,
            "operation": task.operation,
            "status": FAILED if result.error else DONE,
            "error": result.error or None,
            "frames": result.frames,
            "seconds": round(result.seconds, 3),
            "state": None if result.error else [source, target_state(task)],
        }
        self._append(json.dumps(record).encode())
        self._records[task.target] = record
        return record

    def _append(self, line: bytes) -> None:
        if isinstance(self._path, ObjectUrl):
            self._lines.append(line)
            self._is_sent = False
            if time.monotonic() - self._sent >= SEND_SECONDS:
                self._send()
            return
        with self._path.open("ab+") as file:
            # A process that was killed while it wrote may have left half a line.
            if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                file.write(b"\n")
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        """Send the lines that have not been sent."""
        if not self._is_sent:
            self._send()

    def _send(self) -> None:
        self._storage.write(self._path.name, b"".join(line + b"\n" for line in self._lines))
        self._is_sent, self._sent = True, time.monotonic()


def source_state(task: ClipTask) -> str | None:
    """Hash what the result depends on: source, settings, weight file.

    None where the source is missing. Files are identified by size and modification time, objects by size and version.
    """
    settings = {name: repr(value) for name, value in sorted(task.arguments.items())}
    model, source = task.arguments.get("model"), parse_location(task.source)
    try:
        weights = [Path(model)] if isinstance(model, (str, Path)) and Path(model).is_file() else []
        if isinstance(source, ObjectUrl):
            state = object_state(source)
            return None if state is None else _hash([task.operation, settings, state, _describe_files(weights)])
        files = list_image_files(source) if is_image_source(source) else [source]
        return _hash([task.operation, settings, _describe_files([*files, *weights])])
    except (OSError, ClipError):
        return None


def target_state(task: ClipTask) -> str | None:
    """A hash of size and time, or version, of the result; None where it is missing."""
    target = parse_location(task.target)
    try:
        if isinstance(target, ObjectUrl):
            state = object_state(target)
            return None if state is None else _hash(state)
        if not is_image_sequence(target):
            return _hash(_describe_files([target]))
        return _hash(_describe_files(list_image_files(target)))
    except (OSError, ClipError):
        return None


def _describe_files(files: list[Path]) -> list[object]:
    return [(file.name, stat.st_size, stat.st_mtime_ns) for file in files for stat in [file.stat()]]


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:32]


def _read_records(lines: list[bytes]) -> dict[str, dict[str, Any]]:
    """The last record of each target.

    Lines that are no records, such as half a line, are skipped.
    """
    records: dict[str, dict[str, Any]] = {}
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(target := cast("dict[str, Any]", record).get("out"), str):
            records[target] = cast("dict[str, Any]", record)
    return records
