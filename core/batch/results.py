"""The results of a batch: one line of JSON for each finished clip.

A line is {"in", "out", "status": "done" or "failed", "error", "frames", "seconds", ...}; "state" is what a later run
compares to find out whether the clip has to be processed again. The last line of an "out" counts.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, cast

from ..clip import ClipError
from ..video.images.sequence_paths import is_image_sequence, is_image_source, list_image_files
from .tasks import ClipTask, TaskResult

DONE, FAILED = "done", "failed"
RESULTS_NAME = "results.jsonl"


class ResultLog:
    """The file of results, to which lines are only added."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._records = _read_records(path)

    def is_done(self, task: ClipTask) -> bool:
        """Whether the clip was processed with the same settings.

        Neither its source nor its result may have changed since.
        """
        record = self._records.get(task.target)
        if record is None or record.get("status") != DONE or record.get("state") is None:
            return False
        return record["state"] == [source_state(task), target_state(task)]

    def add(self, task: ClipTask, result: TaskResult, source: str | None) -> dict[str, Any]:
        """Append a result; on return it survives a power cut. Returns its record.

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
        with self._path.open("ab+") as file:
            # A process that was killed while it wrote may have left half a line.
            if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                file.write(b"\n")
            file.write(json.dumps(record).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._records[task.target] = record
        return record


def source_state(task: ClipTask) -> str | None:
    """Hash what the result depends on: source, settings, weight file.

    None where the source is missing. Files go by size and time of the last change.
    """
    settings = {name: repr(value) for name, value in sorted(task.arguments.items())}
    model, source = task.arguments.get("model"), Path(task.source)
    try:
        files = list_image_files(source) if is_image_source(source) else [source]
        if isinstance(model, (str, Path)) and Path(model).is_file():
            files = [*files, Path(model)]
        return _hash([task.operation, settings, _describe_files(files)])
    except (OSError, ClipError):
        return None


def target_state(task: ClipTask) -> str | None:
    """A hash of size and time of the result; None where it is missing."""
    target = Path(task.target)
    try:
        if not is_image_sequence(target):
            return _hash(_describe_files([target]))
        return _hash(_describe_files(list_image_files(target)))
    except (OSError, ClipError):
        return None


def _describe_files(files: list[Path]) -> list[object]:
    return [(file.name, stat.st_size, stat.st_mtime_ns) for file in files for stat in [file.stat()]]


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:32]


def _read_records(path: Path) -> dict[str, dict[str, Any]]:
    """The last record of each target.

    Lines that are no records, such as half a line, are skipped.
    """
    records: dict[str, dict[str, Any]] = {}
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return {}
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(target := cast("dict[str, Any]", record).get("out"), str):
            records[target] = cast("dict[str, Any]", record)
    return records
