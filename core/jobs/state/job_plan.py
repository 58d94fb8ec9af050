"""The plan of a job as a value and as plan.json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from hashlib import sha256
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any

from ...clip import ClipError, ClipInfo
from ...pipeline.pipeline import Pipeline
from ...pipeline.upscale_op import UpscaleOp
from ...video.decode.timestamps import TimeRange, Timestamps
from ...video.encode.codecs import Encoding
from .fingerprint import software_versions
from .layout import PLAN, JobFolder


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
        """Raise ClipError where networks would run on another device or engine.

        The kind of device, the engine and the candidate precisions are compared with the plan.
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
        """Raise ClipError where networks have run in another engine or precision.

        index: of the piece that they computed, for the message.
        """
        computed = computed_by(pipeline)
        if computed != self.computed:
            raise ClipError(
                f"piece {index} was computed by {describe_computed(computed)}, and the plan is for "
                f"{describe_computed(self.computed)}; state --engine and --precision, and plan again"
            )


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


def upscale_ops(pipeline: Pipeline) -> list[UpscaleOp]:
    """The operations of a pipeline that run a network."""
    return [operation for operation in pipeline.operations if isinstance(operation, UpscaleOp)]


def computed_by(pipeline: Pipeline) -> list[list[str]]:
    """(engine, precision) of each network of the pipeline, as it ran last."""
    return [[o.stats.engine, o.stats.mode] for o in upscale_ops(pipeline) if o.stats is not None]


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


def describe_computed(computed: Iterable[Sequence[str]]) -> str:
    """List engine and precision of each network, for a message."""
    return ", ".join(" ".join(names) for names in computed) or "no network"


def _describe_runtime(runtime: Sequence[dict[str, Any]]) -> str:
    parts = [f"{one['device']} with {one['engine']} ({' or '.join(one['modes'])})" for one in runtime]
    return ", ".join(parts) or "no network"
