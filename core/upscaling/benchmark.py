"""Benchmark a model on synthetic frames: speed and memory.

The dtype, the tiles and the engine are observed at the network's input, so they are those that really ran.
"""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
import torch.nn.functional as F
from torch import Tensor

from ..clip import ClipError, Frames
from ..runtime.device.accelerator import accelerator_for
from ..runtime.format import format_duration
from .deprecated_keywords import accept_deprecated_keywords
from .model.model_traits import ImageModel, ModelTraits, model_device, read_engine, read_traits
from .settings import UpscaleSettings, UpscaleStats
from .tiles import Roi
from .upscale import upscale

# Seconds between two samples of this process's memory: longer than a layer of a small frame, shorter than a frame.
MEMORY_POLL_SECONDS = 0.005
_DTYPE_NAMES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}


@dataclass(frozen=True)
class BenchmarkResult:
    """Speed and memory of a network, as a benchmark measured them.

    width, height: of the source frames, in pixels. scale: output size over input size.
    frames, seconds: number of timed frames, and their wall time. first: seconds of the first chunk, which also loads,
    checks, plans and compiles. Files are not read or written.
    memory, grown: peak bytes, and how many of them were not allocated before: of a GPU's memory in torch's allocator,
    on a CPU of this process, which reuses memory.
    precision: "fp32", "tf32", "fp16" or "bf16". window: (width, height) in source pixels of the largest tile, halo
    included. calls: tiles per frame. engine: "torch", "native" or for example "onnx (CPU)". device, machine: names for
    people.
    """

    model: str
    width: int
    height: int
    scale: int
    frames: int
    seconds: float
    first: float
    memory: int
    grown: int
    precision: str
    window: tuple[int, int]
    calls: float
    engine: str
    device: str
    machine: str

    @property
    def seconds_per_frame(self) -> float:
        return self.seconds / self.frames

    @property
    def fps(self) -> float:
        """Frames per second."""
        return self.frames / self.seconds

    def estimate_seconds(self, clip_seconds: float, fps: float) -> float:
        """Seconds to upscale a clip of `clip_seconds` at `fps` frames per second."""
        return self.first + self.seconds_per_frame * clip_seconds * fps

    def to_dict(self) -> dict[str, Any]:
        """All fields and the derived numbers, for JSON; among them those of `to_row`."""
        return {**asdict(self), **self.to_row(), "seconds_per_frame": self.seconds_per_frame}

    def to_row(self) -> dict[str, Any]:
        """The speed as a row of bench/card.py, so that both can be put together."""
        return {
            "block": "benchmark",
            "status": "ok",
            "device": self.device,
            "machine": self.machine,
            **speed_fields(self.model, self.precision, self.width, self.height),
            "fps": self.fps,
        }

    def __str__(self) -> str:
        output_size = f"{self.width * self.scale}x{self.height * self.scale}"
        is_untiled = self.window == (self.width, self.height)
        tiles = f"tiles of {self.window[0]}x{self.window[1]}, {self.calls:g} a frame"
        engine = "the native CPU engine" if self.engine == "native" else self.engine
        return "\n".join([
            f"{self.model}: {self.width}x{self.height} to {output_size}",
            f"{self.fps:.3g} frames per second, {self.seconds_per_frame:.3g} s a frame "
            f"({self.frames} timed, after {self.first:.2g} s to start)",
            f"one minute at 24 fps takes {format_duration(self.estimate_seconds(60, 24))}",
            f"memory: at most {self.memory / 1e6:,.0f} MB, {self.grown / 1e6:,.0f} MB of it new",
            f"{self.precision}, {'untiled frames' if is_untiled else tiles}, by {engine}",
            f"{self.device}; {self.machine}" if self.device not in self.machine else self.machine,
        ])  # fmt: skip


def speed_fields(network: str, dtype: str, width: int, height: int) -> dict[str, Any]:
    """Fields of every row about a network's speed.

    width, height: of the frames before upscaling, in pixels.
    """
    return {"network": network, "dtype": dtype, "size": f"{width}x{height}"}


@accept_deprecated_keywords
def benchmark(
    frames: Iterator[Frames],
    model: ImageModel,
    settings: UpscaleSettings | None = None,
    *,
    device: torch.device | str | None = None,
) -> BenchmarkResult:
    """Upscale frames as `upscale` does with these settings, and measure it.

    frames: at least two chunks of one size, of which the first is not timed, for example `synthetic_frames`. Repeated
    frames would be reused, which falsifies the result. Raises ClipError for fewer chunks, and what `upscale` raises.
    """
    place = model_device(model) if device is None else torch.device(device)
    traits, calls, stats = read_traits(model), _CallLog(), UpscaleStats()
    done = warm_up_frames = 0
    width = height = 0
    start = first_done = last_done = time.perf_counter()
    with _PeakMemory(place) as memory:
        for upscaled in upscale(frames, _ModelProbe(model, traits, calls), settings, device=place, stats=stats):
            last_done = time.perf_counter()
            done += len(upscaled)
            if not warm_up_frames:
                warm_up_frames, first_done = done, last_done
                calls.reset()  # The self-check ran on other sizes.
                width, height = (side // traits.scale for side in (upscaled.shape[-1], upscaled.shape[-2]))
            del upscaled
    if done == warm_up_frames:
        raise ClipError(
            f"a benchmark needs at least two chunks of frames, one of them to warm up; it got {done} frames"
        )
    return BenchmarkResult(
        model=traits.name,
        width=width,
        height=height,
        scale=traits.scale,
        frames=done - warm_up_frames,
        seconds=last_done - first_done,
        first=first_done - start,
        memory=memory.peak,
        grown=memory.peak - memory.baseline,
        precision=_mode_name(calls.dtype, stats.mode),
        window=calls.window,
        calls=calls.count / (done - warm_up_frames),
        engine=calls.engine,
        device=accelerator_for(place).name,
        machine=describe_machine(),
    )


def synthetic_frames(width: int, height: int, count: int) -> Iterator[Frames]:
    """Generate synthetic frames (1, 3, height, width).

    They have detail at every scale, as in photographs, and camera noise. No region repeats from frame to frame. The
    frames are the same at each call.
    """
    random = torch.Generator().manual_seed(0)
    image, weight, side = torch.zeros(1, 3, height, width), 1.0, 2
    while side < 2 * max(width, height):
        blobs = torch.rand(1, 3, max(1, side * height // max(width, height)), side, generator=random) - 0.5
        image += weight * F.interpolate(blobs, (height, width), mode="bilinear", align_corners=False)
        weight, side = weight * 0.6, side * 2
    # Two alternating frames are enough, because frames are compared with the one before only.
    noise = (0.01 * torch.randn(image.shape, generator=random) for _ in range(2))
    frames = [(0.5 + 0.4 * image + frame_noise).clamp(0, 1) for frame_noise in noise]
    return (frames[number % 2] for number in range(count))


def describe_machine() -> str:
    """CPU, threads and torch version of this process, for people."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def _mode_name(dtype: torch.dtype, first_mode: str) -> str:
    """The mode of the last call.

    TF32 is not visible in the dtype, but if it ran first, it also ran last.
    """
    is_tf32 = dtype is torch.float32 and first_mode == "tf32"
    return "tf32" if is_tf32 else _DTYPE_NAMES.get(dtype, str(dtype))


class _CallLog:
    """A log of the calls of a network.

    It holds the number of calls, the largest window (width, height), the dtype and the engine.
    """

    def __init__(self) -> None:
        self.dtype, self.engine = torch.float32, "torch"
        self.reset()

    def reset(self) -> None:
        self.count, self.window = 0, (0, 0)


class _ModelProbe:
    """A model that logs its calls; replicas of it share the log."""

    def __init__(self, model: ImageModel, traits: ModelTraits, log: _CallLog) -> None:
        self.model = model  # where `read_traits` finds all other traits
        self.scale, self.supports_roi = traits.scale, traits.supports_roi
        self._call: Callable[..., Tensor] = model
        self._log = log

    def __call__(self, images: Tensor, /, *, roi: Roi | None = None, out: Tensor | None = None) -> Tensor:
        result = self._call(images) if roi is None else self._call(images, roi=roi, out=out)
        log = self._log
        log.count += 1
        log.window = max(log.window, (images.shape[-1], images.shape[-2]), key=lambda size: size[0] * size[1])
        log.dtype, log.engine = images.dtype, read_engine(self.model)
        return result


class _PeakMemory:
    """A context manager that measures memory in bytes.

    `baseline` is the memory at its start, `peak` the maximum while it was open.
    """

    def __init__(self, device: torch.device) -> None:
        self.baseline = self.peak = 0
        self._accelerator = accelerator_for(device)
        self._stop_event = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> _PeakMemory:
        if self._accelerator.reports_peak_memory:
            self._accelerator.reset_peak_memory()
            self.baseline = self._accelerator.allocated_memory()
        else:
            self.baseline = self.peak = _resident_bytes()
            self._thread = threading.Thread(target=self._poll, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._accelerator.reports_peak_memory:
            self.peak = self._accelerator.peak_memory()
        elif self._thread is not None:
            self._stop_event.set()
            self._thread.join()

    def _poll(self) -> None:
        while not self._stop_event.wait(MEMORY_POLL_SECONDS):
            self.peak = max(self.peak, _resident_bytes())


def _resident_bytes() -> int:
    """Resident memory of this process."""
    return psutil.Process().memory_info().rss
