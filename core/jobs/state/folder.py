"""The folder of a job: locked by one process, tied to one source, resumable."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from ...clip import ClipError
from ...runtime.files.cache_dir import cache_folder
from ...runtime.files.folder_lock import folder_lock
from ...storage.location import Location, ObjectUrl, parse_location
from ...video.decode.packets import demux
from ...video.decode.timestamps import TimeRange, Timestamps, log_notes, read_timestamps
from ...video.images.sequence_paths import is_image_source, list_image_files
from .fingerprint import fingerprint, hash_files, software_versions
from .job_files import check_job_folder, remove_partial_files
from .layout import JobFolder

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Job:
    """An open job folder and the source that it processes.

    location: the folder, or the URL of a job in a store. files: the files of the source; one for a video. content_hash:
    hash of their content. times: timestamps of a video; None for images. window: the processed part of a video, None
    for all of it.
    """

    location: Location
    source: Path
    files: tuple[Path, ...]
    content_hash: str
    times: Timestamps | None
    _file_stats: list[tuple[int, int]]
    window: TimeRange | None = None

    def timestamps(self, fps: Fraction) -> Timestamps:
        """Return the timestamps of all frames. fps: for images."""
        count = len(self.files)
        return self.times or Timestamps([*range(count)], [1] * count, 1 / fps, Fraction(0))

    def settings(self, **settings: object) -> dict[str, Any]:
        """Return the values that finished pieces depend on.

        They are the source, the software versions, and `settings`.
        """
        fingerprints = {name: fingerprint(value) for name, value in settings.items()}
        part = {"window": fingerprint(self.window)} if self.window else {}
        return {"source": self.content_hash, **part, "software": software_versions(), **fingerprints}

    def check_source(self) -> None:
        """Raise ClipError if the source has changed since the job was opened."""
        if _file_stats(self.files) != self._file_stats and hash_files(self.files) != self.content_hash:
            raise ClipError(f"{self.source}: the file was changed during the run; run again")


def default_job_folder(target: str | Path | ObjectUrl) -> Location:
    """Return the default folder of the job for a result: beside it."""
    target = parse_location(target)
    return target.with_name(f"{target.name}.job")


@contextmanager
def open_job(
    folder: str | Path | ObjectUrl, source: str | Path, window: TimeRange | None = None, *, is_shared: bool = False
) -> Generator[Job, None, None]:
    """Open the job in `folder`, new or resumed, until the block ends.

    The folder is created if needed. It may be a URL; a store has no locks, so that two processes at once do the same
    work twice there. source: a video file, a folder of images or a pattern; its content is hashed.
    window: the part of a video to process. is_shared: do not lock the folder, so that other processes can use it at the
    same time.
    Raises ClipError where another process holds the folder, or it contains other files or cannot be written to.
    """
    location, source = parse_location(folder), Path(source)
    if isinstance(location, ObjectUrl):
        JobFolder(location).check()
        with _wrap_os_errors(location):
            yield _read_job(location, source, window)
        return
    with _wrap_os_errors(location):
        location.mkdir(exist_ok=True)
    try:
        with _wrap_os_errors(location), nullcontext() if is_shared else folder_lock(location):
            check_job_folder(location)
            if not is_shared:
                remove_partial_files(location)
            yield _read_job(location, source, window)
    finally:
        if not is_shared:  # else another process may be about to write its first file
            with suppress(OSError):
                location.rmdir()  # only if it is empty


def _read_job(location: Location, source: Path, window: TimeRange | None) -> Job:
    is_images = is_image_source(source)
    files = tuple(list_image_files(source)) if is_images else (source,)
    file_stats = _file_stats(files)
    times = None if is_images else read_timestamps(source, window)
    if times is not None:
        log_notes(source, times)
    return Job(location, source, files, hash_files(files), times, file_stats, window)


def remove_job(folder: str | Path | ObjectUrl) -> None:
    """Remove the files of a job.

    Raises ClipError where a process holds the folder, or it contains other files.
    """
    folder = parse_location(folder)
    if isinstance(folder, ObjectUrl):
        JobFolder(folder).remove()
    elif folder.is_dir():
        with _wrap_os_errors(folder), folder_lock(folder):
            check_job_folder(folder)
            JobFolder(folder).remove()
        with suppress(OSError):
            folder.rmdir()


@contextmanager
def with_resume_hint(job: Job, stage: str, count: Callable[[], int]) -> Generator[None, None, None]:
    """Add to any error of the block how much is finished and how to resume.

    count: returns the number of finished pieces of the stage.
    The hint is a part of ClipError and OSError messages; for other exceptions, such as an interrupt, it is logged.
    """

    def resume_hint() -> str:
        finished = count()
        if not finished:  # the folder may not even exist
            return f"no {stage} was finished: run the same command again"
        kept = f"1 finished {stage} is kept" if finished == 1 else f"{finished} finished {stage}s are kept"
        return f"{kept} in {job.location}: run the same command again to resume"

    try:
        yield
    except (ClipError, OSError) as e:
        message = str(e) if isinstance(e, ClipError) else f"{e.filename or job.location}: {demux.error_message(e)}"
        error_type = type(e) if isinstance(e, ClipError) else ClipError
        raise error_type(f"{message}{_free_space_note(job.location, e)}. {resume_hint()}") from e
    except BaseException:  # an interrupt, or an error of a stage: raised unchanged
        log.warning("%s", resume_hint())
        raise


def _free_space_note(location: Location, error: BaseException | None) -> str:
    """Return the free disk space, if the error is a full disk."""
    folder = location if isinstance(location, Path) else cache_folder()  # of local copies
    while error is not None:
        if getattr(error, "errno", None) == errno.ENOSPC:
            return f" ({shutil.disk_usage(folder).free / 1e6:.1f} MB are free)"
        error = error.__cause__ or error.__context__
    return ""


@contextmanager
def _wrap_os_errors(folder: Location) -> Generator[None, None, None]:
    try:
        yield
    except ClipError:  # StorageError is both: it must not be wrapped as an OSError
        raise
    except OSError as e:
        raise ClipError(
            f"{e.filename or folder}: {demux.error_message(e)}; check the name, the permissions and the disk"
        ) from e


def _file_stats(files: tuple[Path, ...]) -> list[tuple[int, int]]:
    return [(stat.st_size, stat.st_mtime_ns) for stat in map(os.stat, files)]
