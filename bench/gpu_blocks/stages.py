"""Stages of a frame: upload, color, network, post-processing, download."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from .networks import Variant, make_network, photo, place_network
from .session import Row, Session
from .timing import summarize as summarize_samples

NETWORK, SIZE = "compact4x", (960, 540)
FRAMES = 12  # of which the first two are not counted


def run(session: Session) -> None:
    variant = Variant(session.modes[0])
    module = place_network(make_network(NETWORK, is_quick=session.is_quick), variant, session)
    width, height = session.size(*SIZE)
    keys = {"network": NETWORK, "dtype": variant.mode.value, "size": f"{width}x{height}"}
    steps = _PlaneSteps if _has_planes() else _RgbSteps
    clock = _StageClock(session)
    with variant.settings(session):
        pipeline = steps(session, module, variant, width, height)
        for index in range(session.count(FRAMES, 3)):
            clock.run(pipeline.stages, is_counted=index >= session.count(2))
    total = sum(summarize_samples(samples).seconds for samples in clock.read().values())
    for stage, samples in clock.read().items():
        timing = summarize_samples(samples)
        session.write(
            **keys,
            stage=stage,
            format=steps.format,
            clock=clock.kind,
            share=timing.seconds / total,
            bytes_per_pixel=pipeline.bytes_per_pixel.get(stage),
            **timing.as_row(),
        )


def summarize(rows: list[Row]) -> str:
    stages = [row for row in rows if "stage" in row]
    parts = [f"{row['stage']} {row['ms']:.3g} ms ({row['share']:.0%})" for row in stages]
    return ", ".join(parts) + (f" as {stages[0]['format']}" if stages else "")


def _has_planes() -> bool:
    try:
        from steadyscale.core.video.planes import rgb_conversion
    except ImportError:
        return False
    return hasattr(rgb_conversion, "rgb_to_planes")


class _PlaneSteps:
    """A frame goes up and down as the planes of 8-bit YUV 4:2:0."""

    format = "yuv420p"

    def __init__(self, session: Session, module: nn.Module, variant: Variant, width: int, height: int) -> None:
        from steadyscale.core.runtime.device.transfer import Uploader, download
        from steadyscale.core.video.planes.layout import layout_for
        from steadyscale.core.video.planes.rgb_conversion import planes_to_rgb, rgb_to_planes

        large = width * 4, height * 4
        layout = layout_for("yuv420p")
        assert layout is not None
        source = rgb_to_planes(photo(width, height), layout, (width, height))
        uploader = Uploader(session.accelerator)
        values: dict[str, Any] = {}

        def assign(name: str, value: Any) -> None:
            values[name] = value

        self.stages: dict[str, Callable[[], object]] = {
            "upload": lambda: assign("planes", uploader.upload(source)),
            "to rgb": lambda: assign("image", _to_network(planes_to_rgb(values["planes"], layout), variant)),
            "network": lambda: assign("result", module(values["image"])),
            "post-processing": lambda: assign("result", values["result"].float().clamp_(0, 1)),
            "to yuv": lambda: assign("encoded", rgb_to_planes(values["result"], layout, large)),
            "download": lambda: [download(plane, session.accelerator) for plane in values["encoded"]],
        }
        # The result has 16 times as many pixels and the same format.
        size = sum(plane.nbytes for plane in source) / (width * height)
        self.bytes_per_pixel = {"upload": size, "download": size}


class _RgbSteps:
    """A frame goes up as float32, and down as 8-bit RGB."""

    format = "rgb"

    def __init__(self, session: Session, module: nn.Module, variant: Variant, width: int, height: int) -> None:
        source = session.accelerator.empty_pinned(1, 3, height, width, dtype=torch.float32)
        source.copy_(photo(width, height))
        target = session.accelerator.empty_pinned(1, 3, height * 4, width * 4, dtype=torch.uint8)
        values: dict[str, Tensor] = {}

        def assign(name: str, value: Tensor) -> None:
            values[name] = value

        self.stages: dict[str, Callable[[], object]] = {
            "upload": lambda: assign("frame", source.to(session.device, non_blocking=True)),
            "to network": lambda: assign("image", _to_network(values["frame"], variant)),
            "network": lambda: assign("result", module(values["image"])),
            "post-processing": lambda: assign("result", values["result"].clamp_(0, 1)),
            "to 8 bits": lambda: assign("bytes", values["result"].mul(255).round_().to(torch.uint8)),
            "download": lambda: target.copy_(values["bytes"], non_blocking=True),
        }
        self.bytes_per_pixel = {"upload": 12.0, "download": 3.0}


def _to_network(image: Tensor, variant: Variant) -> Tensor:
    return image.to(variant.mode.dtype, memory_format=variant.memory_format, copy=True)


class _StageClock:
    """Times stages by events on the device, or else by waiting for it after each."""

    def __init__(self, session: Session) -> None:
        make = getattr(session.device_module, "Event", None)
        self._make_event = None
        with suppress(TypeError, RuntimeError):  # Some backends have no events, or none that measure time.
            if make is not None and hasattr(make(enable_timing=True), "elapsed_time"):
                self._make_event = make
        self._synchronize = session.accelerator.synchronize
        self._samples: dict[str, list[float]] = {}
        self.kind = "device events" if self._make_event else "synchronized wall time"

    def run(self, stages: dict[str, Callable[[], object]], *, is_counted: bool) -> None:
        """Run the stages of one frame."""
        self._synchronize()
        marks = [self._mark()]
        for stage in stages.values():
            stage()
            marks.append(self._mark())
        self._synchronize()
        if is_counted:
            for name, before, after in zip(stages, marks, marks[1:], strict=False):
                self._samples.setdefault(name, []).append(self._seconds(before, after))

    def read(self) -> dict[str, list[float]]:
        """Seconds of each stage, one for each counted frame."""
        return self._samples

    def _mark(self) -> Any:
        if self._make_event is None:
            self._synchronize()
            return time.perf_counter()
        event = self._make_event(enable_timing=True)
        event.record()
        return event

    def _seconds(self, before: Any, after: Any) -> float:
        return before.elapsed_time(after) / 1000 if self._make_event else after - before
