"""Work on a VIDEO that a crash of ComfyUI does not undo: segments, kept in the output folder until the result is saved.

The folder of a job is named after all that its result depends on, so that the same graph finds it again in another
process. It goes when the finished video has been saved, or is not needed by anybody any more; a crash, a kill or a
cancel leave it, and what lies in ComfyUI's temp folder does not count.
"""

from __future__ import annotations

import json
import logging
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import folder_paths
from torch import Tensor

from ...core.clip import Clip, ClipError, Frames
from ...core.jobs.fingerprint import fingerprint, hash_file
from ...core.jobs.folder import open_job, remove_job
from ...core.jobs.motion_cache import cached_motion
from ...core.jobs.run import run_job
from ...core.motion.flow import FlowModel
from ...core.path.motion import Motion
from ...core.pipeline.pipeline import Pipeline
from ...core.video.decode.timestamps import TimeRange
from ...core.video.encode.codecs import Encoding

log = logging.getLogger(__name__)

JOBS_FOLDER = "steadyscale_jobs"
STALE_JOB_SECONDS = 7 * 24 * 3600.0  # seconds after which a job that nobody goes on with is pointed out


class JobFolders:
    """Folders of jobs whose result is there. They disappear with this object, or when `remove` says so."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.remove = weakref.finalize(self, _remove_folders, tuple(folders))


def run_resumable(
    pipeline: Pipeline,
    source: Path,
    time_range: TimeRange | None,
    target: Path,
    encoding: Encoding,
    *,
    add_progress: Callable[[Iterator[Frames], int], Iterator[Frames]],
    upstream_jobs: Sequence[Path] = (),
) -> JobFolders:
    """Make the video `target`, from the segments that are there already and those that are not.

    earlier: folders of jobs that this one builds on; they go together with its own. watch: as `run_job` has it.
    Raises ClipError, which says what is kept.
    """
    folder = _job_folder("video", source, time_range, pipeline.operations, target.suffix, encoding)
    with open_job(folder, source, time_range) as job:
        finished = run_job(job, pipeline, target, encoding=encoding, progress=add_progress, keep_files=True)
    if finished.reused:
        log.warning("%s: %d of %d segments were there already", folder, finished.reused, finished.segments)
    return JobFolders([folder, *upstream_jobs])


def measure_resumable(
    clip: Clip,
    pipeline: Pipeline,
    source: Path,
    time_range: TimeRange | None,
    flow_model: FlowModel,
    side: int,
    mask: Tensor | None,
) -> tuple[Motion, Path]:
    """What `estimate_motion` gives, measured now or by an earlier process; and the folder that keeps it.

    clip: reads what `recipe` gives of `source`. Raises ClipError.
    """
    folder = _job_folder("motion", source, time_range, pipeline.operations, flow_model, side, mask)
    with open_job(folder, source, time_range) as job:
        return cached_motion(job, clip, flow_model, side=side, mask=mask), folder


def _job_folder(kind: str, source: Path, time_range: TimeRange | None, *settings: object) -> Path:
    root = Path(folder_paths.get_output_directory()) / JOBS_FOLDER
    root.mkdir(parents=True, exist_ok=True)
    told = [hash_file(source), fingerprint(time_range), [fingerprint(setting) for setting in settings]]
    folder = root / f"{kind}-{sha256(json.dumps(told).encode()).hexdigest()[:16]}"
    _warn_stale_jobs(root, folder)
    return folder


def _warn_stale_jobs(root: Path, current: Path) -> None:
    """Unfinished jobs cost space, and only people know whether they will go on with one."""
    before = time.time() - STALE_JOB_SECONDS
    old = [path for path in root.iterdir() if path.is_dir() and path != current and path.stat().st_mtime < before]
    if old:
        size = sum(file.stat().st_size for path in old for file in path.iterdir() if file.is_file()) / 1e6
        log.warning("%s: %d unfinished jobs (%.0f MB) are older than a week; delete what you will not go on with",
                    root, len(old), size)  # fmt: skip


def _remove_folders(folders: tuple[Path, ...]) -> None:
    for folder in folders:
        try:
            remove_job(folder)
        except ClipError as e:  # somebody else is at work there
            log.info("%s stays: %s", folder, e)
