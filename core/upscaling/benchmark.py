"""How fast a network is on this machine, and how much memory it takes: a few made frames through the enlarging stage.

What the stage chose (format, cut, engine) is read off what the network is shown, so it is what really ran.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..clip import ClipError, Frames
from ..runtime.format import format_duration
from .deprecated_keywords import accept_deprecated_keywords
from .precision import find_module, model_device
from .settings import UpscaleSettings
from .tiles import Roi
from .upscale import ImageModel, upscale

# Seconds between two looks at the memory of this process; a layer of a small frame is done in less, a frame is not.
MEMORY_POLL_SECONDS = 0.005
_DTYPE_NAMES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}


@dataclass(frozen=True)
class BenchmarkResult:
    """What a trial found.

    width, height: of the source frames, in pixels. scale: result over source.
    frames, seconds: how many frames were timed, and how long they took together by the clock. What only the first
    chunk costs (loading, the self-check, plans and compilation) is in `first`, in seconds. Reading and writing files is
    not part of either.
    memory, grown: bytes held at the most, and how many of them were not held before: of a card's memory by torch, on a
    CPU by this process, which uses memory again that it already held; None where the system does not tell.
    precision: "fp32", "fp16" or "bf16". window: (width, height) in source pixels of the largest piece that the network
    was shown at once, halo included; calls: how many pieces a frame took.
    engine: "torch" or "native". device, machine: names for people.
    """

    model: str
    width: int
    height: int
    scale: int
    frames: int
    seconds: float
    first: float
    memory: int | None
    grown: int | None
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
        """Seconds that a clip of so many seconds takes to enlarge, at `fps` frames per second of the clip."""
        return self.first + self.seconds_per_frame * clip_seconds * fps

    def to_dict(self) -> dict[str, Any]:
        """All of it, with the derived figures, as JSON can hold it."""
        return {**asdict(self), "fps": self.fps, "seconds_per_frame": self.seconds_per_frame}

    def __str__(self) -> str:
        large = f"{self.width * self.scale}x{self.height * self.scale}"
        whole = self.window == (self.width, self.height)
        pieces = f"tiles of {self.window[0]}x{self.window[1]}, {self.calls:g} a frame"
        memory = "memory: not known on this system"
        if self.memory is not None and self.grown is not None:
            memory = f"memory: at most {self.memory / 1e6:,.0f} MB, {self.grown / 1e6:,.0f} MB of it new"
        engine = "the native CPU engine" if self.engine == "native" else self.engine
        return "\n".join([
            f"{self.model}: {self.width}x{self.height} to {large}",
            f"{self.fps:.3g} frames per second, {self.seconds_per_frame:.3g} s a frame "
            f"({self.frames} timed, after {self.first:.2g} s to begin)",
            f"one minute at 24 fps takes {format_duration(self.estimate_seconds(60, 24))}",
            memory,
            f"{self.precision}, {'whole frames' if whole else pieces}, by {engine}",
            f"{self.device}; {self.machine}" if self.device not in self.machine else self.machine,
        ])  # fmt: skip


@accept_deprecated_keywords
def benchmark(
    frames: Iterator[Frames],
    model: ImageModel,
    settings: UpscaleSettings | None = None,
    *,
    device: torch.device | str | None = None,
) -> BenchmarkResult:
    """Enlarge frames as `upscale` does with these settings, throw the results away, and say what it took.

    frames: at least two chunks of one size, of which the first is not timed; `footage` makes some. Frames that repeat
    would be reused, and the figures would flatter. What `upscale` raises passes through.
    """
    place = model_device(model) if device is None else torch.device(device)
    seen, done, warm, size = _ModelProbe(model), 0, 0, (0, 0)
    begun = started = ended = time.perf_counter()
    with _PeakMemory(place) as memory:
        stream = upscale(frames, seen, settings, device=place)
        for large in stream:
            ended = time.perf_counter()
            done += len(large)
            if not warm:
                warm, started = done, ended
                seen.calls, seen.window = 0, (0, 0)  # the self-check has shown it other sizes
                size = (large.shape[-1] // seen.scale, large.shape[-2] // seen.scale)
            del large
    if done == warm:
        raise ClipError(f"a trial needs two chunks of frames or more, one of them to warm up; it got {done} frames")
    return BenchmarkResult(
        model=str(_get_trait(model, "name", type(find_module(model) or model).__name__)),
        width=size[0],
        height=size[1],
        scale=seen.scale,
        frames=done - warm,
        seconds=ended - started,
        first=started - begun,
        memory=memory.peak,
        grown=None if memory.peak is None else memory.peak - memory.baseline,
        precision=_DTYPE_NAMES.get(seen.dtype, str(seen.dtype)),
        window=seen.window,
        calls=seen.calls / (done - warm),
        engine=str(_get_trait(model, "engine", "torch")),
        device=torch.cuda.get_device_name(place) if place.type == "cuda" else place.type,
        machine=describe_machine(),
    )


def synthetic_frames(width: int, height: int, count: int) -> Iterator[Frames]:
    """Made frames (1, 3, height, width): detail at every scale, as photographs have, and a camera's noise.

    No part of a frame repeats the one before. The same frames come out each time.
    """
    random = torch.Generator().manual_seed(0)
    picture, weight, side = torch.zeros(1, 3, height, width), 1.0, 2
    while side < 2 * max(width, height):
        blobs = torch.rand(1, 3, max(1, side * height // max(width, height)), side, generator=random) - 0.5
        picture += weight * F.interpolate(blobs, (height, width), mode="bilinear", align_corners=False)
        weight, side = weight * 0.6, side * 2
    # Two looks in turn are enough: frames are compared with the one before, and making them must cost no time.
    looks = [(0.5 + 0.4 * picture + 0.01 * torch.randn(picture.shape, generator=random)).clamp(0, 1) for _ in range(2)]
    return (looks[number % 2] for number in range(count))


def describe_machine() -> str:
    """The processor, threads and torch of this process, for people."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


class _ModelProbe:
    """The same network, which notes what it is shown."""

    def __init__(self, model: ImageModel) -> None:
        self.model = model  # where core looks for everything that is not here
        self.scale = int(model.scale)
        self.supports_roi = bool(getattr(model, "supports_roi", False))
        self._call: Callable[..., Tensor] = model
        self.calls = 0
        self.window = (0, 0)
        self.dtype = torch.float32

    def __call__(self, images: Tensor, /, *, roi: Roi | None = None, out: Tensor | None = None) -> Tensor:
        result = self._call(images) if roi is None else self._call(images, roi=roi, out=out)
        self.calls += 1
        self.window = max(self.window, (images.shape[-1], images.shape[-2]), key=lambda size: size[0] * size[1])
        self.dtype = images.dtype
        return result


class _PeakMemory:
    """`most`: bytes held at the most while it is open, None where that is not known; `before`: when it was opened."""

    def __init__(self, device: torch.device) -> None:
        self.baseline = 0
        self.peak: int | None = None
        self._device = device
        self._stop_event = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> _PeakMemory:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            self.baseline = torch.cuda.memory_allocated(self._device)
        elif (held := _resident_bytes()) is not None:
            self.baseline = self.peak = held
            self._thread = threading.Thread(target=self._poll, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._device.type == "cuda":
            self.peak = torch.cuda.max_memory_allocated(self._device)
        elif self._thread is not None:
            self._stop_event.set()
            self._thread.join()

    def _poll(self) -> None:
        while not self._stop_event.wait(MEMORY_POLL_SECONDS):
            self.peak = max(self.peak or 0, _resident_bytes() or 0)


def _resident_bytes() -> int | None:
    """Bytes of memory that this process holds now; None where the system does not tell (all but Linux)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def _get_trait(model: object, name: str, default: object) -> object:
    """What a model, or else the one that it wraps, says of itself."""
    while model is not None:
        if hasattr(model, name):
            return getattr(model, name)
        model = getattr(model, "model", None)
    return default
