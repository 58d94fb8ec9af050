"""Render a VIDEO in segments that survive a crash of ComfyUI.

Segments lie in the output folder until the result is saved: ComfyUI empties its temp folder when it starts. A job's
folder is named by a hash of everything that its result depends on, so that the same graph finds it in another process.
It is removed when the finished video is saved, or with the last reference to it; a crash, a kill or a cancel keep it.
"""

from __future__ import annotations

import json
import logging
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

from torch import Tensor

from ...core.clip import Clip, ClipError, Frames
from ...core.jobs.run import run_job
from ...core.jobs.state.fingerprint import fingerprint, hash_file
from ...core.jobs.state.folder import open_job, remove_job
from ...core.motion.camera.telemetry import Gyro
from ...core.motion.estimate import WORKING_SIDE
from ...core.motion.optical_flow.flow import FlowModel
from ...core.path.motion import Motion
from ...core.pipeline.pipeline import Pipeline
from ...core.stabilize import StabilizeSettings, measure_motion
from ...core.video.decode.timestamps import TimeRange
from ...core.video.encode.codecs import Encoding
from .._comfy.paths import output_folder

log = logging.getLogger(__name__)

JOBS_FOLDER = "steadyscale_jobs"
STALE_JOB_SECONDS = 7 * 24 * 3600.0  # age of an unfinished job that is logged as stale


class JobFolders:
    """Folders of finished jobs, removed with this object or by `remove`."""

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
    """Render the video `target`, reusing the finished segments of an earlier run.

    upstream_jobs: folders of jobs that this one builds on; they are removed together with its own. add_progress: the
    `progress` of `run_job`. Raises ClipError, whose message says what is kept.
    """
    folder = _job_folder("video", source, time_range, pipeline.operations, target.suffix, encoding)
    with open_job(folder, source, time_range) as job:
        finished = run_job(job, pipeline, target, encoding=encoding, progress=add_progress, keep_files=True)
    if finished.reused:
        log.warning("%s: reused %d of %d segments", folder, finished.reused, finished.segments)
    return JobFolders([folder, *upstream_jobs])


def measure_resumable(
    clip: Clip,
    pipeline: Pipeline,
    source: Path,
    time_range: TimeRange | None,
    settings: StabilizeSettings,
    flow: FlowModel,
    mask: Tensor | None,
    gyro: Gyro | None,
) -> tuple[Motion, Path]:
    """Estimate motion, or continue an earlier process's estimate.

    clip: reads the frames that `pipeline` computes of `source`. Returns the motion and the job folder. Raises
    ClipError.
    """
    folder = _job_folder("motion", source, time_range, pipeline.operations, flow, WORKING_SIDE, mask)
    with open_job(folder, source, time_range) as job:
        return measure_motion(clip, settings, mask=mask, flow=flow, job=job, gyro=gyro), folder


def _job_folder(kind: str, source: Path, time_range: TimeRange | None, *settings: object) -> Path:
    root = output_folder() / JOBS_FOLDER
    root.mkdir(parents=True, exist_ok=True)
    inputs = [hash_file(source), fingerprint(time_range), [fingerprint(setting) for setting in settings]]
    folder = root / f"{kind}-{sha256(json.dumps(inputs).encode()).hexdigest()[:16]}"
    _warn_stale_jobs(root, folder)
    return folder


def _warn_stale_jobs(root: Path, current: Path) -> None:
    """Log old unfinished jobs: they use disk space, and only the user can drop them."""
    before = time.time() - STALE_JOB_SECONDS
    old = [path for path in root.iterdir() if path.is_dir() and path != current and path.stat().st_mtime < before]
    if old:
        size = sum(file.stat().st_size for path in old for file in path.rglob("*") if file.is_file()) / 1e6
        log.warning("%s: %d unfinished jobs (%.0f MB) are older than a week; delete those that you will not resume",
                    root, len(old), size)  # fmt: skip


def _remove_folders(folders: tuple[Path, ...]) -> None:
    for folder in folders:
        try:
            remove_job(folder)
        except ClipError as e:  # another process uses it
            log.info("%s is kept: %s", folder, e)
