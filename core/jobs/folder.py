"""The folder of a job: held by one process, tied to one source, and such that the next process can go on from there."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..clip import ClipError
from ..runtime.folder_lock import folder_lock
from ..video.decode import demux
from ..video.decode.timestamps import TimeRange, Timestamps, read_timestamps
from ..video.images.sequence_paths import is_image_sequence, list_image_files
from .fingerprint import fingerprint, hash_files, software_versions
from .manifest import Manifest

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Job:
    """A folder that this process holds, and the source that its work is for.

    files: what the source consists of; a video is one file. content: hash of all that they hold. times: when each frame
    of a video is shown; None for pictures, which do not know. window: the part of a video, None for all of it.
    """

    folder: Path
    source: Path
    files: tuple[Path, ...]
    content_hash: str
    times: Timestamps | None
    manifest: Manifest
    _file_stats: list[tuple[int, int]]
    window: TimeRange | None = None

    def timestamps(self, fps: Fraction) -> Timestamps:
        """When each frame is shown. fps: of pictures."""
        count = len(self.files)
        return self.times or Timestamps([*range(count)], [1] * count, 1 / fps, Fraction(0))

    def settings(self, **settings: object) -> dict[str, Any]:
        """All that pieces depend on: the source, the software, and these."""
        told = {name: fingerprint(value) for name, value in settings.items()}
        part = {"window": fingerprint(self.window)} if self.window else {}
        return {"source": self.content_hash, **part, "software": software_versions(), **told}

    def check_source(self) -> None:
        """Raise ClipError where the source is not what it was when the job was opened."""
        if _file_stats(self.files) != self._file_stats and hash_files(self.files) != self.content_hash:
            raise ClipError(f"{self.source}: was changed while it was worked on; do it again")


def default_job_folder(target: str | Path) -> Path:
    """Where the job for that result lies when nobody says: beside it."""
    target = Path(target)
    return target.with_name(f"{target.name}.job")


@contextmanager
def open_job(folder: str | Path, source: str | Path, window: TimeRange | None = None) -> Iterator[Job]:
    """Begin the job in `folder`, or go on with it, until the block ends; the folder is made where there is none.

    source: a video file, a folder of pictures or a pattern. All of it is read once, to know it again. window: the part
    of a video that the work is for.
    Raises ClipError where another process is at work there, the folder holds other things, or cannot be written to.
    """
    folder, source = Path(folder), Path(source)
    with _wrap_os_errors(folder):
        folder.mkdir(exist_ok=True)
    try:
        with _wrap_os_errors(folder), folder_lock(folder):
            pictures = is_image_sequence(source)
            files = tuple(list_image_files(source)) if pictures else (source,)
            dates = _file_stats(files)
            times = None if pictures else read_timestamps(source, window)
            yield Job(folder, source, files, hash_files(files), times, Manifest(folder), dates, window)
    finally:
        with suppress(OSError):
            folder.rmdir()  # it stays unless it is empty


def remove_job(folder: str | Path) -> None:
    """Remove what a job keeps. Raises ClipError where a process is at work on it, or the folder holds other things."""
    folder = Path(folder)
    if folder.is_dir():
        with _wrap_os_errors(folder), folder_lock(folder):
            Manifest(folder).remove_files()
        with suppress(OSError):
            folder.rmdir()


@contextmanager
def with_resume_hint(job: Job, stage: str) -> Iterator[None]:
    """Say of whatever ends the block early what is kept, and how to go on: in the error itself where it is ours or the
    system's, in the log where it is somebody else's, such as an interrupt.
    """

    def resume_hint() -> str:
        count = len(job.manifest.pieces(stage))
        return f"{count} finished {stage}s are kept in {job.folder}: the same command goes on from there"

    try:
        yield
    except (ClipError, OSError) as e:
        text = str(e) if isinstance(e, ClipError) else f"{e.filename or job.folder}: {demux.error_message(e)}"
        ours = type(e) if isinstance(e, ClipError) else ClipError
        raise ours(f"{text}{_free_space_note(job.folder, e)}. {resume_hint()}") from e
    except BaseException:  # an interrupt, and what a stage raises: they pass as they are, and people are told
        log.warning("%s", resume_hint())
        raise


def _free_space_note(folder: Path, error: BaseException | None) -> str:
    """How much room the disk has, where that is what an error is about."""
    while error is not None:
        if getattr(error, "errno", None) == errno.ENOSPC:
            return f" ({shutil.disk_usage(folder).free / 1e6:.1f} MB are free)"
        error = error.__cause__ or error.__context__
    return ""


@contextmanager
def _wrap_os_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise ClipError(
            f"{e.filename or folder}: {demux.error_message(e)}; check the name, the rights and the disk"
        ) from e


def _file_stats(files: tuple[Path, ...]) -> list[tuple[int, int]]:
    return [(stat.st_size, stat.st_mtime_ns) for stat in map(os.stat, files)]
