"""The step of a job that decides what its shards compute."""

from __future__ import annotations

from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from ...clip import parse_fps
from ...jobs.segments import SEGMENT_SECONDS
from ...motion.optical_flow.gray_frame import Masks
from ...pipeline.estimate import check_memory
from ...stabilize import StabilizeSettings
from ...storage.location import parse_location
from ...upscaling.settings import UpscaleSettings
from ...video.decode.corruption_report import OnDamage
from ...video.decode.packets.demux import MAX_PIXELS
from ...video.encode.codecs import Encoding
from ..processing import STABILIZE, Processing, build_pipeline, choose_deflicker, find_model
from ..report import ProgressCallback
from ..run import RunOptions, open_run
from .stored_plan import encode_upscaling

if TYPE_CHECKING:
    from ...jobs.state.job_plan import JobPlan


def plan_job(
    source: str | Path,
    target: str | Path,
    job: str | Path,
    *,
    command: str = "enhance",
    model: str | Path | None = None,
    upscaling: UpscaleSettings | None = None,
    stabilization: StabilizeSettings | None = None,
    deflicker: float | None = None,
    mask: Masks | str | Path | None = None,
    encoding: Encoding | None = None,
    fps: Fraction | float = 24,
    max_pixels: int = MAX_PIXELS,
    on_damage: OnDamage = OnDamage.FAIL,
    hwaccel: str = "none",
    device: str = "auto",
    segment_seconds: float = SEGMENT_SECONDS,
    progress: ProgressCallback | None = None,
) -> JobPlan:
    """Plan a job whose pieces can be computed by several processes and machines.

        plan_job("shaky.mp4", "large.mp4", "shared/job", model="steadyscale-2x")
        run_shard("shared/job", 0, 2)  # and, elsewhere, run_shard("shared/job", 1, 2)
        join_job("shared/job")

    Measures motion, computes one frame to learn the pixel format, the engine and the precision, and writes plan.json.
    The machine must be of the kind that computes the shards. Planning again with the same arguments changes nothing.
    Arguments that are not listed are as for `enhance_video`.

    Args:
        source: a video file, or images.
        target: a video file. The plan stores both paths; `run_shard` and `join_job` accept other ones, for a machine
            that has the files elsewhere.
        job: the folder of the job, on a disk that all machines share; it is created if needed. Source, target and job
            may be URLs, such as s3://bucket/clip.mp4; see `upscale_video`.
        command: "upscale", "stabilize" or "enhance": the function of the API that the job runs.
        model: a name or a weight file.
        mask: as for `stabilize_video`, but not a function.

    Returns:
        The plan. `len(plan.pieces)` is the largest useful number of shards.

    Raises:
        ClipError, ValueError, models.WeightsError: as `enhance_video` does.
    """
    from ...jobs.plan import make_plan, with_stats
    from ...jobs.state.fingerprint import hash_file

    options = RunOptions(
        encoding, None, fps, max_pixels, on_damage, hwaccel, device, False, job, segment_seconds, progress
    )
    processing = Processing(
        command, model, upscaling or UpscaleSettings(), deflicker, stabilization or StabilizeSettings(), mask
    )
    with open_run(command, source, target, options) as run:
        assert run.job is not None, "a job was given"
        built = build_pipeline(run, processing)
        check_memory(built.pipeline)
        weights = None if command == STABILIZE else find_model(run.pipeline, processing)
        arguments = {
            "fps": str(parse_fps(fps)),
            "max_pixels": max_pixels,
            "on_damage": OnDamage(on_damage).value,
            "hwaccel": hwaccel,
            "device": device,
            "model": None if weights is None else str(weights.absolute()),
            "weights_hash": None if weights is None else hash_file(weights),
            "upscaling": None if command == STABILIZE else encode_upscaling(processing.upscaling),
            "deflicker": choose_deflicker(run.pipeline, processing),
            "stabilization": None if built.stabilization is None else asdict(built.stabilization),
        }
        return make_plan(
            run.job,
            with_stats(built.pipeline),
            parse_location(target),
            encoding=encoding or Encoding(),
            segment_seconds=segment_seconds,
            command=command,
            arguments=arguments,
            source=parse_location(source),
        )
