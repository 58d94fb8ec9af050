"""Run a pipeline as a resumable job, computed in segments.

    with open_job(default_job_folder(target), source) as job:
        path = Trajectory.of(cached_motion(job, clip, flow_model()))
        pipeline = Pipeline(clip).then(UpscaleOp(model)).then(WarpOp(correction(path, smooth(path))))
        run_job(job, pipeline, target)

This is a plan, one shard of all pieces and a join in one process, for any pipeline. A segment does not depend on
whether it is computed in the same run as the others, so the result equals that of an uninterrupted run. Segments of
another source, other weights, settings or versions are not reused, and neither are those of another engine, kind of
device or precision, whose results differ by rounding.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

from ..clip import Clip, ClipError
from ..pipeline.pipeline import Pipeline
from ..video.decode.video_clip import VideoClip
from ..video.encode.codecs import Encoding
from ..video.images.sequence_paths import is_image_sequence
from ..video.open import check_target
from .join import complete_parts, join_parts
from .plan import make_plan, with_planned_warps, with_stats
from .segments import SEGMENT_SECONDS
from .shard import ProgressStage, compute_pieces, finished_parts
from .state.folder import Job, with_resume_hint
from .state.job_plan import JobPlan
from .state.layout import JobFolder

log = logging.getLogger(__name__)


class JobResult(NamedTuple):
    """What a resumable run has written.

    frames: in the result. segments: of the job. reused: how many of them an earlier run had finished.
    """

    frames: int
    segments: int
    reused: int


def run_job(
    job: Job,
    clip: Clip,
    target: str | Path,
    *,
    encoding: Encoding | None = None,
    segment_seconds: float = SEGMENT_SECONDS,
    progress: ProgressStage | None = None,
    keep_files: bool = False,
) -> JobResult:
    """Compute the frames of `clip` in segments, and write them to the video `target`.

    clip: a pipeline whose source reads the job's source. Segments end at shot boundaries, if the pipeline has any, and
    after `segment_seconds` at most. The source is decoded once, in order, except for its first frame. progress: one
    more stage for the computed frames, such as progress or cancellation; its second argument is the number of frames
    that earlier runs have computed. The target appears when it is complete and verified. Then the job's files are
    removed, unless `keep_files` leaves them for `remove_job`: the same call then only joins them again.
    If the run ends early, finished segments stay. Raises ClipError, with a hint how to resume.
    """
    target, encoding = Path(target), encoding or Encoding()
    if is_image_sequence(target):
        raise ClipError(f"{target}: a job writes a video file; write images without a job")
    check_target(target, encoding=encoding, source=job.source)
    pipeline, folder = with_stats(clip if isinstance(clip, Pipeline) else Pipeline(clip)), JobFolder(job.location)
    with with_resume_hint(job, "segment", folder.count_parts):
        plan = make_plan(job, pipeline, target, encoding=encoding, segment_seconds=segment_seconds)
        reused = _compute_missing(folder, plan, with_planned_warps(folder, plan, pipeline), progress)
        job.check_source()
        join_parts(folder, plan, complete_parts(folder, plan), target, job.source)
    if not keep_files:
        folder.remove()
    return JobResult(plan.frame_count, len(plan.pieces), reused)


def _compute_missing(folder: JobFolder, plan: JobPlan, pipeline: Pipeline, progress: ProgressStage | None) -> int:
    """Compute the missing pieces; return the number of those that were finished.

    The first error ends the run: the process that raised it is the one to resume.
    """
    count = len(plan.pieces)
    finished = finished_parts(folder, plan, range(count))
    if finished:
        log.warning("%s: resuming, %d of %d segments are finished", folder.path, len(finished), count)
    if isinstance(pipeline.source, VideoClip):
        for record in finished.values():
            pipeline.source.damage.merge(record["damage"])
    missing = [index for index in range(count) if index not in finished]
    for _ in compute_pieces(folder, plan, pipeline, missing, progress, frames_done=plan.count_frames(finished)):
        pass
    return len(finished)
