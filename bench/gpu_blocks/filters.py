"""Warp, deflicker and fill on the device beside the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
import torch
from steadyscale.core import (
    Border,
    ClipInfo,
    Correction,
    Frames,
    Motion,
    Trajectory,
    correction,
    flow_model,
    smooth,
    warp,
)
from steadyscale.core.filters.deflicker import deflicker
from torch import Tensor

from .networks import photos
from .session import Row, Session
from .timing import time_calls

SIZES = ((960, 540), (1920, 1080))
FRAMES = 6
MAX_SECONDS = 2.0  # of each row
SHAKE_PIXELS, SHAKE_RADIANS = 8.0, 0.01

Filter = Callable[[list[Tensor], torch.device], Iterator[Frames]]


def run(session: Session) -> None:
    for size in SIZES[: session.count(len(SIZES))]:
        width, height = session.size(*size)
        frames = photos(width, height, session.count(FRAMES, 3))
        shaky = _make_correction(width, height, len(frames))
        filters: dict[str, Filter] = {
            "warp": lambda source, place, shaky=shaky: (
                warped.frames for warped in warp(iter(source), shaky, Border.MIRROR, device=place)
            ),
            "fill": lambda source, place, shaky=shaky: (
                warped.frames for warped in warp(iter(source), shaky, Border.FILL, device=place)
            ),
            "deflicker": lambda source, place: deflicker(iter([frame.to(place) for frame in source]), flow_model()),
        }
        for name, run_filter in filters.items():
            _compare(session, name, run_filter, frames)


def summarize(rows: list[Row]) -> str:
    ratios = [row for row in rows if row.get("times_cpu") is not None]
    return "; ".join(f"{row['filter']} {row['size']} {row['times_cpu']:.2f}x the CPU" for row in ratios)


def _compare(session: Session, name: str, run_filter: Filter, frames: list[Tensor]) -> None:
    height, width = frames[0].shape[-2:]
    results: dict[str, tuple[Tensor, float]] = {}
    for place in dict.fromkeys((torch.device("cpu"), session.device)):

        def measure(place: torch.device = place) -> Row:
            def run_all() -> list[Tensor]:
                return [result.cpu() for result in run_filter(frames, place)]

            result = torch.cat(run_all())
            timing = time_calls(session, run_all, max_seconds=MAX_SECONDS)
            results[place.type] = result, timing.seconds
            row = {"fps": len(frames) / timing.seconds, **timing.as_row(), "frames": len(frames)}
            if place.type != "cpu" and "cpu" in results:
                expected, seconds = results["cpu"]
                row["times_cpu"] = seconds / timing.seconds
                row["mean_difference_of_255"] = 255 * float((result - expected).abs().mean())
            return row

        session.measure_row(measure, filter=name, place=place.type, size=f"{width}x{height}")


def _make_correction(width: int, height: int, count: int) -> Correction:
    """The correction of a random shake."""
    random, steps = np.random.default_rng(1), np.tile(np.eye(3), (count, 1, 1))
    for step in steps[1:]:
        angle = SHAKE_RADIANS * random.standard_normal()
        step[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        step[:2, 2] = SHAKE_PIXELS * random.standard_normal(2) * width / 1920
    confidence = np.ones(count)
    confidence[0] = 0  # the first frame of a shot
    path = Trajectory.of(Motion(steps, confidence, ClipInfo(width, height, Fraction(24), count)))
    return correction(path, smooth(path, seconds=1.0))
