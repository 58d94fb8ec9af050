"""The step of a job that computes its pieces."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...clip import ClipError, parse_fps
from ...pipeline.estimate import check_memory, with_estimate
from ...pipeline.pipeline import Pipeline
from ...runtime.device.device_names import resolve_devices
from ...storage.copies import local_source
from ...upscaling.settings import UpscaleStats
from ...video.decode.corruption_report import OnDamage
from ...video.decode.video_clip import VideoClip
from ...video.open import open_clip
from ..processing import STABILIZE, UPSCALE, Processing, find_model, upscale_with
from ..progress import ProgressTracker
from ..report import ProgressCallback
from .report import ShardReport
from .stored_plan import check_source, decode_upscaling, load_job_plan

if TYPE_CHECKING:
    from ...jobs.state.job_plan import JobPlan


def run_shard(
    job: str | Path,
    index: int = 0,
    count: int = 1,
    *,
    claim: bool = False,
    claim_timeout: float = 120.0,
    source: str | Path | None = None,
    model: str | Path | None = None,
    device: str | None = None,
    progress: ProgressCallback | None = None,
) -> ShardReport:
    """Compute a shard of a planned job.

    The shard has the pieces whose number is `index` modulo `count`.
    Pieces that are finished are not computed again, so a shard that was killed is simply run again.

    Args:
        job: the folder of the job.
        index: number of the shard, from 0.
        count: number of shards; 1 computes all pieces.
        claim: take any piece that no other process has claimed, rather than a fixed share. Index and count do not
            matter then. Returns when all pieces are finished.
        claim_timeout: seconds after which the piece of a worker that has vanished is taken over.
        source: path of the source on this machine, if it differs from that in the plan. Its content is compared.
        model: path of the weights on this machine, likewise.
        device: as for `enhance_video`; None takes that of the plan.
        progress: called with each `Progress`. Whatever it raises cancels the call; finished pieces stay.

    Returns:
        What was computed, and how many pieces of the job are missing.

    Raises:
        ClipError: the folder has no plan; the source, the weights, the versions of the software, the engine or the kind
            of device are not those of the plan; or pieces failed three times (`PieceError`).
    """
    from ...jobs.plan import with_planned_warps
    from ...jobs.shard import Shard, compute_claimed, compute_shard, unfinished_parts
    from ...jobs.state.layout import JobFolder

    start, folder = time.monotonic(), JobFolder(job)
    plan = load_job_plan(folder)
    shard = Shard(index, count)
    plan.check_software()
    tracker = ProgressTracker(progress)
    stage = "stabilizing" if plan.command == STABILIZE else "upscaling"

    def is_cancelled() -> bool:
        return tracker.is_cancelled

    with local_source(source or plan.source) as path:
        check_source(path, plan)
        pipeline = with_planned_warps(folder, plan, _build_planned(plan, path, model, device))
        plan.check_runtime(pipeline)
        check_memory(pipeline)

        def with_progress(frames: Any, frames_done: int) -> Any:
            frames = with_estimate(frames, pipeline, tracker.notify, frames_done=frames_done)
            own = plan.count_frames(shard.pieces(len(plan.pieces)))
            return tracker.track(frames, stage, max(0, own - frames_done))

        if claim:
            computed = compute_claimed(folder, plan, pipeline, with_progress, is_cancelled, claim_timeout)
        else:
            computed = compute_shard(folder, plan, pipeline, shard, with_progress, is_cancelled)
    missing = len(unfinished_parts(folder, plan, range(len(plan.pieces))))
    frames = plan.count_frames(computed)
    return ShardReport(computed, frames, missing, len(plan.pieces), time.monotonic() - start)


def _build_planned(plan: JobPlan, source: Path, model: str | Path | None, device: str | None) -> Pipeline:
    """The pipeline of a plan, without its warps."""
    from ...jobs.plan import with_stats
    from ...jobs.state.fingerprint import hash_file

    arguments = plan.arguments
    clip = open_clip(
        source,
        fps=parse_fps(arguments["fps"]),
        max_pixels=arguments["max_pixels"],
        on_damage=OnDamage(arguments["on_damage"]),
        hwaccel=arguments["hwaccel"],
    )
    if plan.window is not None and isinstance(clip, VideoClip):
        clip = clip.trim(plan.window)
    pipeline = Pipeline(clip)
    if plan.command == STABILIZE:
        return pipeline
    settings = decode_upscaling(arguments["upscaling"])
    processing = Processing(UPSCALE, model or arguments["model"], settings, arguments["deflicker"])
    weights = find_model(pipeline, processing)
    if hash_file(weights) != arguments["weights_hash"]:
        raise ClipError(f"{weights}: these are not the weights of the plan; use the same file, or plan the job again")
    name = resolve_devices(device or arguments["device"])
    return with_stats(pipeline.then(*upscale_with(pipeline, processing, name, UpscaleStats())))
