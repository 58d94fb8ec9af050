"""The plan of a job: all that its shards need besides the source and the weights.

A plan is made by one process, which measures motion and computes one frame of the result. Its pieces are ranges of
frames. The frames of a piece depend on the plan and the source only, not on the process that computes it, the time, or
the piece before.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from hashlib import sha256
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any, cast

from ..clip import ClipError, ClipInfo, Frames, clip_bit_depth
from ..crop.border import Border
from ..path.serialize import load_path, save_path
from ..path.trajectory import Correction
from ..pipeline.pipeline import Pipeline
from ..pipeline.slicing import pipeline_shots, resolve_zoom
from ..pipeline.upscale_op import UpscaleOp
from ..pipeline.warp_op import WarpOp
from ..storage.location import Location, absolute
from ..upscaling.settings import UpscaleStats
from ..video.decode.timestamps import TimeRange, Timestamps
from ..video.encode.codecs import Encoding, codec_for, codec_name, container_for
from ..video.encode.hardware_encoders import choose_encoder
from ..video.encode.output_format import OutputFormat, probe_format
from .render import render_pieces
from .segments import split_clip
from .state.fingerprint import software_versions
from .state.folder import Job
from .state.job_files import remove_earlier_segments
from .state.layout import PLAN, JobFolder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JobPlan:
    """The plan of a job: pieces, settings, encoding and corrections.

    command: "upscale", "stabilize" or "enhance"; empty for a pipeline that only its own process can build. source,
    target: absolute paths where the plan was made, or URLs. arguments: JSON values from which `core.api` builds the
    pipeline. settings: fingerprints of all that frames depend on; see `Job.settings`. encoding: with an explicit pixel
    format and encoder. computed: (engine, precision) of each network. info: of the result. times: of its frames.
    window: the part of a video that is processed. is_video: whether the source is a video, whose audio is copied.
    pieces: consecutive ranges of frames. warps: the file of the correction, its SHA-256, border and pad of each warp.
    """

    command: str
    source: str
    target: str
    arguments: dict[str, Any]
    settings: dict[str, Any]
    encoding: Encoding
    computed: list[list[str]]
    info: ClipInfo
    times: Timestamps
    window: TimeRange | None
    is_video: bool
    pieces: list[range]
    warps: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    @property
    def key(self) -> str:
        """Identifies the frames: plans with the same key can share parts."""
        identity = [self.settings, asdict(self.encoding), self.computed, Path(self.target).suffix.lower()]
        return sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    @property
    def frame_count(self) -> int:
        """The number of frames of the result."""
        return len(self.times.starts)

    @property
    def suffix(self) -> str:
        """The suffix of the result and of its parts."""
        return Path(self.target).suffix.lower()

    def count_frames(self, indices: Iterable[int]) -> int:
        """Return the number of frames in these pieces."""
        return sum(len(self.pieces[index]) for index in indices)

    @property
    def source_hash(self) -> str:
        """The hash of the content of the source, see `hash_files`."""
        return self.settings["source"]

    def check_software(self) -> None:
        """Raise ClipError where this process has other versions than the plan."""
        for name, version in software_versions().items():
            planned = self.settings["software"].get(name)
            if planned != version:
                raise ClipError(
                    f"the job was planned with {name} {planned}, and this is {version}, which computes other frames; "
                    "use the same version, or plan again"
                )

    def check_runtime(self, pipeline: Pipeline) -> None:
        """Raise ClipError where a network would run otherwise than planned.

        The kind of device, the engine and the precisions are compared.
        """
        runtime = [operation.runtime for operation in upscale_ops(pipeline)]
        planned = self.settings.get("runtime", [])
        if runtime != planned:
            raise ClipError(
                f"the job was planned for {_describe_runtime(planned)}, and here the network would run on "
                f"{_describe_runtime(runtime)}, whose frames differ by rounding; use the same kind of device and "
                "engine, or plan again on such a machine"
            )

    def check_computed(self, pipeline: Pipeline, index: int) -> None:
        """Raise ClipError where the network has run otherwise than planned."""
        computed = computed_by(pipeline)
        if computed != self.computed:
            raise ClipError(
                f"piece {index} was computed by {_names(computed)}, and the plan is for {_names(self.computed)}; "
                "state --engine and --precision, and plan again"
            )


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


def load_plan(folder: JobFolder, *, is_needed: bool = True) -> JobPlan | None:
    """Read plan.json; None where there is no valid one.

    With `is_needed`, raises ClipError instead.
    """
    document = folder.read(PLAN)
    if document is not None:
        return decode_plan(document)
    if is_needed:
        damage = "its plan is damaged" if folder.exists(PLAN) else "there is no plan in this folder"
        raise ClipError(f"{folder.path}: {damage}; plan the job first (--plan)")
    return None


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


def upscale_ops(pipeline: Pipeline) -> list[UpscaleOp]:
    """The operations of a pipeline that run a network."""
    return [operation for operation in pipeline.operations if isinstance(operation, UpscaleOp)]


def computed_by(pipeline: Pipeline) -> list[list[str]]:
    """(engine, precision) of each network of the pipeline, as it ran last."""
    return [[o.stats.engine, o.stats.mode] for o in upscale_ops(pipeline) if o.stats is not None]


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
        changed.append(f"computed by {_names(new.computed)}, not {_names(old.computed)}")
    log.warning(
        "%s: the settings of this run differ (%s), so finished pieces are discarded",
        folder.path,
        ", ".join(changed or ["encoding"]),
    )


def _names(computed: Iterable[Sequence[str]]) -> str:
    return ", ".join(" ".join(names) for names in computed) or "no network"


def _describe_runtime(runtime: Sequence[dict[str, Any]]) -> str:
    parts = [f"{one['device']} with {one['engine']} ({' or '.join(one['modes'])})" for one in runtime]
    return ", ".join(parts) or "no network"


def _save_plan(folder: JobFolder, plan: JobPlan) -> None:
    folder.write(PLAN, encode_plan(plan))


def encode_plan(plan: JobPlan) -> dict[str, Any]:
    """Convert a plan to JSON values."""
    times, info, window = plan.times, plan.info, plan.window
    durations = [[value, len([*run])] for value, run in groupby(times.durations)]
    return {
        "command": plan.command,
        "source": plan.source,
        "target": plan.target,
        "arguments": plan.arguments,
        "settings": plan.settings,
        "encoding": asdict(plan.encoding),
        "computed": plan.computed,
        "info": {"width": info.width, "height": info.height, "fps": str(info.fps), "length": info.length},
        "times": {
            "start": times.starts[0],
            "durations": durations,
            "time_base": str(times.time_base),
            "origin": str(times.origin),
            "trim": None if times.trim_duration is None else str(times.trim_duration),
            "is_exact": times.is_exact,
            "shifts": [
                [index, [[first, str(shift)] for first, shift in shifts]] for index, shifts in times.shifts.items()
            ],
        },
        "window": None if window is None else [window.start, window.duration],
        "is_video": plan.is_video,
        "pieces": [[piece.start, piece.stop] for piece in plan.pieces],
        "warps": plan.warps,
    }


def decode_plan(document: dict[str, Any]) -> JobPlan:
    """Convert the JSON values of `encode_plan` to the plan."""
    info, window = document["info"], document["window"]
    return JobPlan(
        command=document["command"],
        source=document["source"],
        target=document["target"],
        arguments=document["arguments"],
        settings=document["settings"],
        encoding=Encoding(**document["encoding"]),
        computed=document["computed"],
        info=ClipInfo(info["width"], info["height"], Fraction(info["fps"]), info["length"]),
        times=_decode_times(document["times"]),
        window=None if window is None else TimeRange(*window),
        is_video=document["is_video"],
        pieces=[range(start, stop) for start, stop in document["pieces"]],
        warps=document["warps"],
    )


def _decode_times(document: dict[str, Any]) -> Timestamps:
    durations = [value for value, count in document["durations"] for _ in range(count)]
    trim = document["trim"]
    return Timestamps(
        [*accumulate(durations[:-1], initial=document["start"])],
        durations,
        Fraction(document["time_base"]),
        Fraction(document["origin"]),
        None if trim is None else float(trim) if trim == "inf" else Fraction(trim),
        document["is_exact"],
        {index: [(first, Fraction(shift)) for first, shift in shifts] for index, shifts in document["shifts"]},
    )
