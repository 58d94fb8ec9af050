"""The plan of a job: all that its shards need besides the source and the weights.

A plan is made by one process, which measures motion and computes one frame of the result. Its pieces are ranges of
frames. The frames of a piece depend on the plan and the source only, not on the process that computes it, the time, or
the piece before.
"""

from __future__ import annotations

import json
import logging
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from ..clip import ClipError, Frames, clip_bit_depth
from ..crop.border import Border
from ..path.serialize import load_path, save_path
from ..path.trajectory import Correction
from ..pipeline.pipeline import Pipeline
from ..pipeline.slicing import pipeline_shots, resolve_zoom
from ..pipeline.upscale_op import UpscaleOp
from ..pipeline.warp_op import WarpOp
from ..storage.location import Location, absolute
from ..upscaling.settings import UpscaleStats
from ..video.decode.timestamps import Timestamps
from ..video.encode.codecs import Encoding, codec_for, codec_name, container_for
from ..video.encode.hardware_encoders import choose_encoder
from ..video.encode.output_format import OutputFormat, probe_format
from .render import render_pieces
from .segments import split_clip
from .state.folder import Job
from .state.job_files import remove_earlier_segments
from .state.job_plan import (
    JobPlan,
    computed_by,
    describe_computed,
    encode_plan,
    load_plan,
    upscale_ops,
)
from .state.layout import PLAN, JobFolder

log = logging.getLogger(__name__)


def make_plan(
    job: Job,
    pipeline: Pipeline,
    target: Location,
    *,
    encoding: Encoding,
    segment_seconds: float,
    command: str = "",
    arguments: dict[str, Any] | None = None,
    source: Location | None = None,
) -> JobPlan:
    """Plan the pieces of a pipeline, and write plan.json.

    pipeline: as `with_stats` returns it; it reads the source of the job. An existing plan stays if it is for the same
    result. Otherwise it is replaced, its parts are removed, and this is logged. source: path or URL to store in the
    plan; None stores the path that the job reads.
    Raises ClipError where the clip has no frames, or a correction is for another number of frames.
    """
    folder, times = JobFolder(job.location), job.timestamps(pipeline.info.fps)
    pieces = split_clip(times.starts, times.time_base, segment_seconds, pipeline_shots(pipeline))
    runtime = [operation.runtime for operation in upscale_ops(pipeline)]
    settings = job.settings(
        **({"runtime": runtime} if runtime else {}),
        operations=[pipeline.source.info, pipeline.operations],
        encoding=[target.suffix.lower(), encoding],
        pieces=pieces,
    )
    if isinstance(job.location, Path) and (old_segments := remove_earlier_segments(job.location)):
        log.warning(
            "%s: %d segments of an earlier version cannot be used, and are computed again", job.location, old_segments
        )
    settings = json.loads(json.dumps(settings))  # comparable with those of a file
    resolved, old = resolve_zoom(pipeline, len(times.starts)), load_plan(folder, is_needed=False)
    trial = with_stats(resolved, are_new=True)
    with closing(render_pieces(trial, [range(1)], times)) as frames:
        first = next(frames, None)
        if first is None:
            raise ClipError(f"{job.source}: the clip has no frames; export it again")
    if old is not None and (old.settings, old.computed) == (settings, computed_by(trial)):
        encoding = old.encoding  # Parts of two encoders cannot be joined, whatever this machine would choose.
    else:
        video = job.source if job.times else None
        encoding = _resolve_encoding(encoding, Path(target.name), first, video, clip_bit_depth(pipeline))
    plan = JobPlan(
        command=command,
        source=absolute(source or job.source),
        target=absolute(target),
        arguments=arguments or {},
        settings=settings,
        encoding=encoding,
        computed=computed_by(trial),
        info=pipeline.info,
        times=times,
        window=job.window,
        is_video=job.times is not None,
        pieces=pieces,
    )
    if old is not None and old.key == plan.key and _warps_are_intact(folder, old):
        kept = replace(plan, warps=old.warps)
        if encode_plan(kept) != encode_plan(old):  # such as another name of the target
            _save_plan(folder, kept)
        return kept
    if old is not None:
        _log_difference(folder, old, plan)
    plan = replace(plan, warps=[_save_warp(folder, warp) for warp in _warp_ops(resolved)])
    _save_plan(folder, plan)
    folder.remove_unused({warp["file"] for warp in plan.warps})
    return plan


def with_planned_warps(folder: JobFolder, plan: JobPlan, pipeline: Pipeline) -> Pipeline:
    """Return the pipeline with the corrections of the plan, whose zooms are resolved.

    They replace those of the pipeline's warps, or follow its operations if it has none. Raises ClipError.
    """
    warps = [_load_warp(folder, warp) for warp in plan.warps]
    if not any(isinstance(operation, WarpOp) for operation in pipeline.operations):
        return replace(pipeline, operations=(*pipeline.operations, *warps))
    following = iter(warps)
    operations = [
        replace(next(following), device=operation.device) if isinstance(operation, WarpOp) else operation
        for operation in pipeline.operations
    ]
    return replace(pipeline, operations=tuple(operations))


def with_stats(pipeline: Pipeline, *, are_new: bool = False) -> Pipeline:
    """The same pipeline; each of its networks counts what it does.

    are_new: create new counters, rather than share those of the given pipeline.
    """
    operations = [
        replace(operation, stats=UpscaleStats())
        if isinstance(operation, UpscaleOp) and (are_new or operation.stats is None)
        else operation
        for operation in pipeline.operations
    ]
    return replace(pipeline, operations=tuple(operations))


def slice_timestamps(times: Timestamps, piece: range) -> Timestamps:
    """Return the timestamps of these frames, starting at 0."""
    rows = slice(piece.start, piece.stop)
    first = times.starts[piece.start]
    return Timestamps(
        [start - first for start in times.starts[rows]], times.durations[rows], times.time_base, times.origin
    )


def _resolve_encoding(encoding: Encoding, file: Path, first: Frames, source: Path | None, bits: int | None) -> Encoding:
    """Return the encoding with an explicit pixel format and encoder.

    They are the same for all parts: those that `write_video` would choose for the first frame.
    """
    container = container_for(file)
    codec = codec_for(file, container, encoding)
    source_format = probe_format(source) if source is not None else None
    output_format = OutputFormat.of(first, codec, encoding, source_format, file, bits)
    pixel_format, size = output_format.pixel_format, output_format.padded_size
    setup = choose_encoder(file, codec_name(container, encoding), codec, encoding, pixel_format, size)
    return replace(encoding, pixel_format=pixel_format, encoder=setup.name if setup.is_hardware else "software")


def _warp_ops(pipeline: Pipeline) -> list[WarpOp]:
    return [operation for operation in pipeline.operations if isinstance(operation, WarpOp)]


def _save_warp(folder: JobFolder, warp: WarpOp) -> dict[str, Any]:
    record = folder.add_correction(lambda file: save_path(warp.correction, file))
    return {
        "file": record["file"],
        "sha256": record["sha256"],
        "border": Border(warp.border).value,
        "pad": warp.pad,
    }


def _load_warp(folder: JobFolder, warp: dict[str, Any]) -> WarpOp:
    with folder.local_file(warp) as file:
        if file is None:
            name = folder.path / warp["file"]
            raise ClipError(f"{name}: is missing or not what the plan refers to; plan the job again")
        return WarpOp(cast(Correction, load_path(file)), Border(warp["border"]), warp["pad"])


def _warps_are_intact(folder: JobFolder, plan: JobPlan) -> bool:
    for warp in plan.warps:
        with folder.local_file(warp) as file:
            if file is None:
                return False
    return True


def _log_difference(folder: JobFolder, old: JobPlan, new: JobPlan) -> None:
    changed = [k for k in {**new.settings, **old.settings} if new.settings.get(k) != old.settings.get(k)]
    if old.computed != new.computed:
        changed.append(f"computed by {describe_computed(new.computed)}, not {describe_computed(old.computed)}")
    log.warning(
        "%s: the settings of this run differ (%s), so finished pieces are discarded",
        folder.path,
        ", ".join(changed or ["encoding"]),
    )


def _save_plan(folder: JobFolder, plan: JobPlan) -> None:
    folder.write(PLAN, encode_plan(plan))
