"""A job in steps, on any number of machines: measuring, plan, shards, join."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bars import Bars
from ..clip import ClipError, ClipInfo, parse_fps
from ..jobs.segments import SEGMENT_SECONDS
from ..motion.gray_frame import Masks
from ..pipeline.estimate import check_memory, with_estimate
from ..pipeline.pipeline import Pipeline
from ..runtime.device_names import resolve_devices
from ..runtime.peak_memory import peak_memory_mb
from ..stabilization_report import StabilizationReport
from ..stabilize import StabilizeSettings, measure_motion_share, with_known_bars
from ..storage.copies import local_source, local_target, object_state
from ..storage.location import Location, ObjectUrl, parse_location
from ..upscaling.settings import (
    Alpha,
    ColorCorrection,
    Engine,
    OutputSize,
    PostProcess,
    Precision,
    Reuse,
    Tiling,
    UpscaleSettings,
    UpscaleStats,
)
from ..video.decode import demux
from ..video.decode.corruption import CorruptionReport, OnDamage
from ..video.decode.demux import MAX_PIXELS
from ..video.decode.video_clip import VideoClip
from ..video.encode.codecs import Encoding
from ..video.images.sequence_paths import is_image_source, list_image_files
from ..video.open import check_target, open_clip
from .processing import STABILIZE, UPSCALE, Processing, build_pipeline, find_model, upscale_with
from .progress import ProgressTracker
from .report import ProgressCallback, VideoReport
from .run import RunOptions, open_run

if TYPE_CHECKING:
    from ..jobs.layout import JobFolder
    from ..jobs.plan import JobPlan

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShardReport:
    """What a call of `run_shard` did.

    computed: numbers of the pieces that it computed. frames: in these. missing: pieces of the whole job that are not
    finished. pieces: of the job. seconds: wall-clock time.
    """

    computed: list[int]
    frames: int
    missing: int
    pieces: int
    seconds: float

    def as_dict(self) -> dict[str, object]:
        """The report as JSON values: what `steadyscale ... --shard --json` prints."""
        return asdict(self)

    def __str__(self) -> str:
        """One line.

        Such as "3 pieces (72 frames) in 8.1 s; 5 of 8 pieces of the job are not finished".
        """
        rest = (
            f"{self.missing} of {self.pieces} pieces of the job are not finished"
            if self.missing
            else "the job is complete"
        )
        return f"{len(self.computed)} pieces ({self.frames} frames) in {self.seconds:.1f} s; {rest}"


class MeasureReport(ShardReport):
    """What a call of `measure_job` did, likewise."""

    def __str__(self) -> str:
        """One line.

        Such as "motion of 3 pieces (720 frames) in 8.1 s; that of 5 of 8 is not measured".
        """
        rest = f"that of {self.missing} of {self.pieces} is not measured" if self.missing else "all is measured"
        return f"motion of {len(self.computed)} pieces ({self.frames} frames) in {self.seconds:.1f} s; {rest}"


def measure_job(
    source: str | Path,
    job: str | Path,
    index: int = 0,
    count: int = 1,
    *,
    stabilization: StabilizeSettings | None = None,
    mask: Masks | str | Path | None = None,
    fps: Fraction | float = 24,
    max_pixels: int = MAX_PIXELS,
    on_damage: OnDamage = OnDamage.FAIL,
    hwaccel: str = "none",
    segment_seconds: float = SEGMENT_SECONDS,
    progress: ProgressCallback | None = None,
) -> MeasureReport:
    """Measure a share of the motion of a clip, for the plan of a job.

        measure_job("shaky.mp4", "shared/job", 0, 2)  # and, elsewhere, measure_job("shaky.mp4", "shared/job", 1, 2)
        plan_job("shaky.mp4", "large.mp4", "shared/job", model="steadyscale-2x")

    `plan_job` with the same arguments then measures only what is missing, and gets the motion that it would measure
    itself, bit for bit. Without this step it measures all of it.

    Args:
        job: the folder of the job, or its URL; the folder is created if needed.
        index, count: which share, of how many: a run of neighboring pieces.
        source, stabilization, mask, fps, max_pixels, on_damage, hwaccel, segment_seconds, progress: as for `plan_job`.

    Returns:
        What was measured, and how many pieces are missing.

    Raises:
        ClipError: as `stabilize_video` does.
    """
    from ..jobs.folder import open_job
    from ..jobs.shard import Shard

    start, shard, settings = time.monotonic(), Shard(index, count), stabilization or StabilizeSettings()
    if isinstance(mask, (str, Path)):
        from ..motion.masks import read_masks

        mask = read_masks(mask)
    damage = OnDamage(on_damage)
    with local_source(source) as path, open_job(job, path, is_shared=True) as opened:
        clip = open_clip(path, fps=parse_fps(fps), max_pixels=max_pixels, on_damage=damage, hwaccel=hwaccel)
        settings = with_known_bars(settings, clip)
        tracked = ProgressTracker(progress).track_clip(clip, "measuring")
        share = measure_motion_share(
            tracked, settings, opened, shard.index, shard.count, mask=mask, segment_seconds=segment_seconds
        )
    return MeasureReport(*share, time.monotonic() - start)


def plan_job(
    source: str | Path,
    target: str | Path,
    job: str | Path,
    *,
    command: str = "enhance",
    model: str | Path | None = None,
    upscaling: UpscaleSettings | None = None,
    stabilization: StabilizeSettings | None = None,
    deflicker: float = 0.0,
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

    Args:
        source: a video file, or images. target: a video file. Both are found in the plan; `run_shard` and `join_job`
            take other paths where another machine has them elsewhere.
        job: the folder of the job, on a disk that all machines share; it is created if needed. Each of the three may
            be a URL, such as s3://bucket/clip.mp4; see `upscale_video`.
        command: "upscale", "stabilize" or "enhance": which of the three functions the job is a call of.
        model: a name or a weight file.
        mask: as for `stabilize_video`, but no function.
        upscaling, stabilization, deflicker, encoding, fps, max_pixels, on_damage, hwaccel, device, segment_seconds,
            progress:
            as for `enhance_video`.

    Returns:
        The plan. `len(plan.pieces)` is the largest useful number of shards.

    Raises:
        ClipError, ValueError, models.WeightsError: as `enhance_video` does.
    """
    from ..jobs.fingerprint import hash_file
    from ..jobs.plan import make_plan, with_stats

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
            "upscaling": None if command == STABILIZE else _encode_upscaling(processing.upscaling),
            "deflicker": deflicker,
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

    These are the pieces whose number is `index` modulo `count`.
    Pieces that are finished are not computed again, so a shard that was killed is simply run again.

    Args:
        job: the folder of the job.
        index, count: which shard, of how many; 0 and 1 take all pieces.
        claim: take any piece that no other process has claimed, rather than a fixed share. Index and count do not
            matter then. Returns when all pieces are finished.
        claim_timeout: seconds after which the piece of a worker that has vanished is taken over.
        source, model: where this machine has the source and the weights, if not where the plan was made. Their content
            is compared with that in the plan.
        device: as for `enhance_video`; None takes that of the plan.
        progress: called with each `Progress`. Whatever it raises cancels the call; finished pieces stay.

    Returns:
        What was computed, and how many pieces of the job are missing.

    Raises:
        ClipError: the folder has no plan; the source, the weights, the versions of the software, the engine or the kind
            of device are not those of the plan; or pieces failed three times (`PieceError`).
    """
    from ..jobs.layout import JobFolder
    from ..jobs.plan import with_planned_warps
    from ..jobs.shard import Shard, compute_claimed, compute_shard, unfinished_parts

    start, folder = time.monotonic(), JobFolder(job)
    plan = _load_plan(folder)
    shard = Shard(index, count)
    plan.check_software()
    tracker = ProgressTracker(progress)
    stage = "stabilizing" if plan.command == STABILIZE else "upscaling"

    def is_cancelled() -> bool:
        return tracker.is_cancelled

    with local_source(source or plan.source) as path:
        _check_source(path, plan)
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


def join_job(
    job: str | Path,
    target: str | Path | None = None,
    *,
    source: str | Path | None = None,
    keep_files: bool = False,
) -> VideoReport:
    """Join the finished pieces of a job into its target, and remove the job's files.

    The target appears complete and verified, or not at all. Joins at the same time do not disturb each other.

    Args:
        job: the folder of the job.
        target, source: where this machine has them, if not where the plan was made.
        keep_files: leave the job's files, so that it can be joined again.

    Returns:
        What the shards read, wrote and used, all together; the time and the memory are those of the join.

    Raises:
        ClipError: pieces are missing or damaged, or the source has changed; the message names the pieces.
    """
    from ..jobs.join import complete_parts, join_parts, read_join, record_join
    from ..jobs.layout import PLAN, JobFolder

    start, folder = time.monotonic(), JobFolder(job)
    joined = read_join(folder)
    plan, records = joined or (_load_plan(folder), list[dict[str, Any]]())
    result, origin = parse_location(target or plan.target), parse_location(source or plan.source)
    if result.suffix.lower() != plan.suffix:
        raise ClipError(f"{result}: the job was planned for a {plan.suffix} file; use that suffix, or plan again")
    info = None
    if joined is None:
        try:
            # A result that could not be sent is not kept, because its parts are.
            with local_source(origin) as path, local_target(result, keep_unsent=False) as output:
                check_target(output, encoding=plan.encoding, source=path)
                _check_source(path, plan)
                records = complete_parts(folder, plan)
                join_parts(folder, plan, records, output, path)
                info = _video_info(output)
            if not keep_files:
                record_join(folder, plan, records)
        except (ClipError, OSError):
            if folder.exists(PLAN) or not _is_written(result):
                raise
            log.info("%s: another join has finished and removed the job", result)
    if not keep_files:
        folder.remove()
    if info is None:
        with local_source(result) as written:
            info = _video_info(written)
    damage, stats = CorruptionReport(), UpscaleStats()
    for record in records:
        damage.merge(record["damage"])
        stats.add(UpscaleStats(**record["stats"]))
    for engine, mode in plan.computed:
        stats.add(UpscaleStats(engine=engine, mode=mode))
    stabilization = plan.arguments["stabilization"]
    return VideoReport(
        command=plan.command,
        input=str(origin),
        output=str(result),
        frames_in=plan.frame_count,
        frames_out=plan.frame_count,
        info=info,
        seconds=time.monotonic() - start,
        peak_memory_mb=peak_memory_mb(),
        device=plan.arguments["device"] if plan.computed else "cpu",
        damage=damage,
        stats=stats if plan.computed else None,
        stabilization=None if stabilization is None else _decode_stabilization(stabilization),
    )


def _video_info(file: Path) -> ClipInfo:
    return open_clip(file, max_pixels=demux.NO_PIXEL_LIMIT).info


def _is_written(result: Location) -> bool:
    return object_state(result) is not None if isinstance(result, ObjectUrl) else result.exists()


def _load_plan(folder: JobFolder) -> JobPlan:
    from ..jobs.plan import load_plan

    plan = load_plan(folder)
    assert plan is not None, "it is needed"
    if not plan.command:
        raise ClipError(
            f"{folder.path}: this job belongs to the run that began it (--resumable, or a workflow); resume that, or "
            "plan a job of its own (--plan)"
        )
    return plan


def _check_source(path: Path, plan: JobPlan) -> None:
    """Raise ClipError where the content of the source is not that of the plan."""
    from ..jobs.fingerprint import hash_files

    files = list_image_files(path) if is_image_source(path) else [path]
    try:
        digest = hash_files(files)
    except OSError as e:
        raise ClipError(f"{path}: {demux.error_message(e)}; check the name and the disk") from e
    if digest != plan.source_hash:
        raise ClipError(
            f"{path}: its content is not that of the plan's source; restore the file, or plan the job again"
        )


def _build_planned(plan: JobPlan, source: Path, model: str | Path | None, device: str | None) -> Pipeline:
    """The pipeline of a plan, without its warps."""
    from ..jobs.fingerprint import hash_file
    from ..jobs.plan import with_stats

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
    settings = _decode_upscaling(arguments["upscaling"])
    processing = Processing(UPSCALE, model or arguments["model"], settings, arguments["deflicker"])
    weights = find_model(pipeline, processing)
    if hash_file(weights) != arguments["weights_hash"]:
        raise ClipError(f"{weights}: these are not the weights of the plan; use the same file, or plan the job again")
    name = resolve_devices(device or arguments["device"])
    return with_stats(pipeline.then(*upscale_with(pipeline, processing, name, UpscaleStats())))


def _decode_stabilization(document: dict[str, Any]) -> StabilizationReport:
    values = dict(document)
    if values["bars"] is not None:
        values["bars"] = Bars(**values["bars"])
    return StabilizationReport(**values)


def _encode_upscaling(settings: UpscaleSettings) -> dict[str, Any]:
    document = asdict(settings)
    for name in ("precision", "alpha", "engine"):
        document[name] = document[name].value
    document["postprocess"]["color_correction"] = settings.postprocess.color_correction.value
    return document


def _decode_upscaling(document: dict[str, Any]) -> UpscaleSettings:
    size, post = document["size"], document["postprocess"]
    return UpscaleSettings(
        size=OutputSize(size["factor"], None if size["size"] is None else tuple(size["size"])),
        tiling=Tiling(**document["tiling"]),
        precision=Precision(document["precision"]),
        reuse=Reuse(**document["reuse"]),
        postprocess=PostProcess(**(post | {"color_correction": ColorCorrection(post["color_correction"])})),
        alpha=Alpha(document["alpha"]),
        compile=document["compile"],
        engine=Engine(document["engine"]),
    )
