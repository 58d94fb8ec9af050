"""The files in a folder of a job, besides those in its folders; see layout.py.

Before version 0.2, finished frames were kept as segment-00000.mp4, measured motion as motion-00000.json, and both were
listed in job.json. They are removed and not used: results of other versions differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ...clip import ClipError
from ...runtime.files.folder_lock import LOCK_NAME as LOCK
from ...storage.location import Location

_JOB_NAMES = {"plan.json", "joined.json", "parts", "claims", "motion"}
_FILES = re.compile(r"job\.json|(motion|segment)-\d{5,}\.\w+|correction(-[0-9a-f]{16})?\.json")
_PARTIAL_FILES = re.compile(r"\.(job|plan|joined|correction|motion-\d{5,}|segment-\d{5,})\.\w+\.[0-9a-f-]{8,}\.partial")


def check_job_folder(folder: Path) -> None:
    """Raise ClipError for a folder with files of which none is a job's."""
    check_job_names(folder, (file.name for file in folder.iterdir() if file.name != LOCK))


def check_job_names(location: Location, names: Iterable[str]) -> None:
    """Raise ClipError if there are names and none is that of a job's file.

    names: of what is in a folder, or of the objects in a store.
    """
    names = sorted(names)
    known = (name in _JOB_NAMES or _FILES.fullmatch(name) or _PARTIAL_FILES.fullmatch(name) for name in names)
    if names and not any(known):
        kind = "folder" if isinstance(location, Path) else "URL"
        raise ClipError(f"{location}: contains other files ({names[0]}) and no job; choose a new {kind} for the job")


def remove_job_files(folder: Path) -> None:
    """Remove corrections, files of earlier versions, and temporary files."""
    for file in [*_matching(folder, _FILES), *_matching(folder, _PARTIAL_FILES)]:
        file.unlink(missing_ok=True)


def remove_partial_files(folder: Path) -> None:
    """Remove the temporary files of killed processes.

    No other process may write here.
    """
    for file in _matching(folder, _PARTIAL_FILES):
        file.unlink(missing_ok=True)


def remove_earlier_segments(folder: Path) -> int:
    """Remove the segments of an earlier version; return their number."""
    segments = [file for file in _matching(folder, _FILES) if file.name.startswith("segment-")]
    for file in segments:
        file.unlink(missing_ok=True)
    return len(segments)


def _matching(folder: Path, pattern: re.Pattern[str]) -> Iterator[Path]:
    return (file for file in sorted(folder.iterdir()) if pattern.fullmatch(file.name))
