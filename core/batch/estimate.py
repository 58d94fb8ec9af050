"""Estimate the time, the size and the cost of a batch from a short measurement.

The first frames of a clip are processed as in the batch, once half of them and once all; the difference is the time per
frame without starting and loading. Other clips are assumed to take the same time per pixel.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from math import log
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from ..clip import Clip, ClipError, ClipInfo, TensorClip, parse_fps
from ..runtime.error_line import error_line
from ..storage.copies import local_source
from ..upscaling.settings import UpscaleSettings
from ..video.decode.timestamps import TimeRange
from ..video.decode.video_clip import VideoClip
from .errors import BatchFailed, prefix_path
from .local_executor import core_count
from .tasks import ClipTask

if TYPE_CHECKING:
    from torch import Tensor

SAMPLE_FRAMES = 8


@dataclass(frozen=True)
class Rates:
    """Time and size per pixel, for clips with the same settings.

    seconds, core_seconds, gpu_seconds: wall time, CPU time of all threads, and time that a GPU is occupied (0 on a
    CPU), for each source pixel of each frame. bytes: size of the result for each of its pixels. area: pixels of the
    result for each pixel of the source. size: of the result (width, height), where the settings state it.
    """

    seconds: float
    core_seconds: float
    gpu_seconds: float
    bytes: float
    area: float
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Prices:
    """Prices of hardware and storage, in any currency.

    They are for an hour of a CPU core, an hour of a GPU, and 10^9 bytes of results.
    """

    core_hour: float = 0.0
    gpu_hour: float = 0.0
    gigabyte: float = 0.0


@dataclass(frozen=True)
class ClipEstimate:
    """Time and size of one result; `error` is one line where they cannot be estimated.

    width, height: of the source. hours: on one worker. bytes: of the result.
    """

    source: str
    frames: int = 0
    width: int = 0
    height: int = 0
    hours: float = 0.0
    core_hours: float = 0.0
    gpu_hours: float = 0.0
    bytes: float = 0.0
    cost: float = 0.0
    error: str | None = None


@dataclass(frozen=True)
class BatchEstimate:
    """Estimated time, file sizes and cost of a batch of clips.

    workers: how many process clips at a time; `hours` is divided by it.
    """

    clips: list[ClipEstimate]
    workers: int = 1

    @property
    def hours(self) -> float:
        """Wall time of the whole batch."""
        return sum(clip.hours for clip in self.clips) / self.workers

    def total(self, name: str) -> float:
        """The sum of an attribute of all clips."""
        return sum(getattr(clip, name) for clip in self.clips)

    def check(self) -> None:
        """Raise BatchFailed where clips cannot be estimated."""
        if failed := [prefix_path(clip.source, clip.error) for clip in self.clips if clip.error is not None]:
            lines = [f"{len(failed)} of {len(self.clips)} clips cannot be estimated"]
            raise BatchFailed("\n".join([*lines, *(f"  {line}" for line in failed)]))

    def as_dict(self) -> dict[str, object]:
        """The estimate as JSON values: what `steadyscale estimate --json` prints."""
        names = ("frames", "core_hours", "gpu_hours", "bytes", "cost")
        return {
            "command": "estimate",
            "workers": self.workers,
            "hours": self.hours,
            **{name: self.total(name) for name in names},
            "clips": [asdict(clip) for clip in self.clips],
        }

    def __str__(self) -> str:
        """A table with a row for each clip, and the sums."""
        rows = [["clip", "frames", "size", "hours", "core hours", "GPU hours", "GB", "cost"]]
        for clip in self.clips:
            if clip.error is None:
                numbers = (clip.hours, clip.core_hours, clip.gpu_hours, clip.bytes / 1e9, clip.cost)
                rows.append([clip.source, str(clip.frames), f"{clip.width}x{clip.height}", *map(_format, numbers)])
        workers = f"{self.workers} workers" if self.workers > 1 else "1 worker"
        sums = (*(self.total(name) for name in ("core_hours", "gpu_hours")), self.total("bytes") / 1e9)
        numbers = (self.hours, *sums, self.total("cost"))
        rows.append([f"all, by {workers}", str(int(self.total("frames"))), "", *map(_format, numbers)])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
            for row in rows
        )


def _format(number: float) -> str:
    return f"{number:,.0f}" if number >= 1000 else f"{number:.3g}"


def estimate_batch(
    clips: Sequence[ClipTask],
    *,
    device: str = "auto",
    frames: int = SAMPLE_FRAMES,
    rows: str | Path | None = None,
    prices: Prices = Prices(),
    workers: int = 1,
) -> BatchEstimate:
    """Estimate the time, the file sizes and the cost of a batch of clips.

    For each group of clips with the same settings, the first frames of one of them are processed on this machine.

    Args:
        device: where networks run.
        frames: how many frames of that clip to process.
        rows: a file of benchmark results (`steadyscale bench --json`, or `bench/card.py`) of the machine that will run
            the network. Its time is taken from there, and only the other stages are measured here; they run beside it.
        workers: how many process clips at a time.

    Raises:
        ClipError: the rows do not contain the network.
    """
    rates: dict[str, Rates] = {}
    table = None if rows is None else read_rows(rows)
    estimates: list[ClipEstimate] = []
    for task in clips:
        try:
            with local_source(task.source) as path:
                clip = _open(task, path)
                if not clip.info.length:
                    raise ClipError(f"{task.source}: the file does not state how many frames it has")
                key = repr((task.operation, sorted(task.arguments.items(), key=lambda item: item[0])))
                if key not in rates:
                    rates[key] = measure_rates(task, clip, device, frames, table)
                estimates.append(estimate_clip(task.source, clip.info, rates[key], prices))
        except RowsError:
            raise
        except Exception as error:  # of whatever kind: the other clips are estimated
            estimates.append(ClipEstimate(task.source, error=error_line(error)))
    return BatchEstimate(estimates, workers)


def estimate_clip(source: str, info: ClipInfo, rates: Rates, prices: Prices) -> ClipEstimate:
    """Estimate the time and the size of a result from measured rates."""
    frames, pixels = info.length or 0, float(info.width * info.height)
    result = pixels * rates.area if rates.size is None else float(rates.size[0] * rates.size[1])
    hours, core_hours, gpu_hours = (
        frames * pixels * seconds / 3600 for seconds in (rates.seconds, rates.core_seconds, rates.gpu_seconds)
    )
    size = frames * result * rates.bytes
    cost = core_hours * prices.core_hour + gpu_hours * prices.gpu_hour + size / 1e9 * prices.gigabyte
    return ClipEstimate(source, frames, info.width, info.height, hours, core_hours, gpu_hours, size, cost)


def measure_rates(
    task: ClipTask, clip: Clip, device: str, frames: int, rows: Sequence[Mapping[str, Any]] | None = None
) -> Rates:
    """Process the first frames of a clip, and return time and size per pixel.

    rows: as `read_rows` returns them, for the time of the network.
    """
    from ..runtime.device.device_names import resolve_devices

    on_gpu = task.operation != "stabilize" and resolve_devices(device) != "cpu"
    arguments, network_seconds = dict(task.arguments), 0.0
    if rows is not None and task.operation != "stabilize":
        model = _find_network(task, clip)
        row = _nearest_row(rows, model.name, clip.info)
        network_seconds = 1 / (row["fps"] * row["pixels"])
        arguments["model"], on_gpu, device = _Resize(model.scale), row["is_gpu"], "cpu"
    with TemporaryDirectory() as folder:
        count = min(frames, clip.info.length or frames)
        few = max(1, count // 2)
        samples = [_Sample.take(task.operation, clip, n, arguments, device, Path(folder)) for n in (few, few, count)]
    _, start, whole = samples  # The first one also loaded the network.
    source_pixels = clip.info.width * clip.info.height
    result_pixels = whole.size[0] * whole.size[1]
    added = whole.frames - start.frames
    seconds = _per_frame(start.seconds, whole.seconds, added, whole.frames) / source_pixels
    core_seconds = _per_frame(start.core_seconds, whole.core_seconds, added, whole.frames) / source_pixels
    settings = arguments.get("upscaling", arguments.get("settings"))
    size = settings.size.size if isinstance(settings, UpscaleSettings) else None
    if rows is not None and task.operation != "stabilize":
        seconds = max(network_seconds, seconds)
        if not on_gpu:
            core_seconds += network_seconds * core_count()
    gpu_seconds = 0.0 if not on_gpu else network_seconds or seconds
    return Rates(
        seconds,
        core_seconds,
        gpu_seconds,
        whole.bytes / (whole.frames * result_pixels),
        result_pixels / source_pixels,
        size,
    )


def _per_frame(start: float, whole: float, added: int, frames: int) -> float:
    """Time per frame, from that of a few frames and that of all, `added` more.

    Without more frames, or where other load hides what they cost, the start is included.
    """
    return (whole - start) / added if added and whole > start else whole / frames


class RowsError(ClipError):
    """A file of benchmark rows cannot be used."""


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """Read the rows of a benchmark that state the speed of a network.

    path: one JSON object, or a line for each row. Each returned row also has `pixels`, of a frame, and `is_gpu`.
    Raises RowsError.
    """
    from ...models.zoo.bundled import ALIASES

    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        rows = [cast("dict[str, Any]", json.loads(line)) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise RowsError(
            f"{path}: the rows cannot be read ({error}); write them with `steadyscale bench --json`"
        ) from error
    found: list[dict[str, Any]] = []
    for row in rows:
        width, _, height = str(row.get("size", "")).partition("x")
        if row.get("status", "ok") == "ok" and "network" in row and row.get("fps") and width.isdecimal():
            is_gpu = "cpu" not in str(row.get("device", "")).lower()
            network = ALIASES.get(str(row["network"]), row["network"])
            found.append({**row, "network": network, "pixels": int(width) * int(height), "is_gpu": is_gpu})
    if not found:
        raise RowsError(f"{path}: there is no row with network, size and fps; write it with `steadyscale bench --json`")
    return found


def _nearest_row(rows: Sequence[Mapping[str, Any]], network: str, info: ClipInfo) -> Mapping[str, Any]:
    """The fastest row of the network, for frames whose size is nearest."""
    candidates = [row for row in rows if row["network"] == network]
    if not candidates:
        names = ", ".join(sorted({str(row["network"]) for row in rows}))
        raise RowsError(
            f"the rows are of {names}, not of {network}; measure it with `steadyscale bench {network} --json`"
        )
    pixels = info.width * info.height
    return min(candidates, key=lambda row: (abs(log(row["pixels"] / pixels)), -row["fps"]))


@dataclass(frozen=True)
class _Sample:
    """The first frames of a clip, and what they took.

    size: of the result (width, height).
    """

    frames: int
    seconds: float
    core_seconds: float
    bytes: int
    size: tuple[int, int]

    @classmethod
    def take(
        cls, operation: str, clip: Clip, frames: int, arguments: Mapping[str, Any], device: str, folder: Path
    ) -> _Sample:
        from .. import api
        from .run_task import load_named_model

        part = _first_frames(clip, frames)
        target = folder / "sample.mp4"
        options = {**load_named_model(arguments), "device": device}
        core_start = time.process_time()
        report = getattr(api, f"{operation}_video")(part, target, **options)
        core_seconds = time.process_time() - core_start
        return cls(report.frames_out, report.seconds, core_seconds, target.stat().st_size, report.info.size)


def _first_frames(clip: Clip, count: int) -> Clip:
    if isinstance(clip, VideoClip):
        with suppress(ClipError):  # for a video that begins later
            return clip.trim(TimeRange(0.0, (count - 0.5) / float(clip.info.fps)))
    import torch

    return TensorClip(torch.cat([*islice(clip.frames(), count)]), clip.info.fps)


class _Resize:
    """In place of a network: repeats pixels, so that only the other stages take time."""

    def __init__(self, scale: int) -> None:
        self.scale = scale

    def __call__(self, images: Tensor, /) -> Tensor:
        return images.repeat_interleave(self.scale, dim=-1).repeat_interleave(self.scale, dim=-2)


def _open(task: ClipTask, path: Path) -> Clip:
    from ..video.decode.packets.demux import MAX_PIXELS
    from ..video.open import open_clip

    arguments = task.arguments
    fps, max_pixels = parse_fps(arguments.get("fps", 24)), arguments.get("max_pixels", MAX_PIXELS)
    return open_clip(path, fps=fps, max_pixels=max_pixels)


@dataclass(frozen=True)
class _Network:
    name: str
    scale: int


def _find_network(task: ClipTask, clip: Clip) -> _Network:
    from ...models import load_upscaler
    from ..api.processing import Processing, find_model
    from ..pipeline.pipeline import Pipeline

    settings = task.arguments.get("upscaling", task.arguments.get("settings")) or UpscaleSettings()
    processing = Processing("upscale", task.arguments.get("model"), settings)
    model = load_upscaler(find_model(Pipeline(clip), processing))
    return _Network(model.name, model.scale)
