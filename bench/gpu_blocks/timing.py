"""Time work on a device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from .session import Row, Session

REPEATS, WARM_UPS = 5, 2
# Shorter calls are repeated within a sample, so that waiting for the device does not count.
MIN_SAMPLE_SECONDS = 0.02


@dataclass(frozen=True)
class Timing:
    """The time of one call: median and minimum in seconds, spread of the repeats."""

    seconds: float
    best: float
    spread: float
    repeats: int

    def as_row(self) -> Row:
        return {"ms": 1000 * self.seconds, "spread": self.spread, "repeats": self.repeats}


def time_calls(session: Session, function: Callable[[], object], *, max_seconds: float = 4.0) -> Timing:
    """Time a function, with the device idle before and after.

    max_seconds: of all repeats; slow functions are repeated less often, at least once.
    """
    synchronize = session.accelerator.synchronize

    def sample(calls: int) -> float:
        synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            function()
        synchronize()
        return (time.perf_counter() - start) / calls

    if session.is_quick:
        return summarize([sample(1)])
    duration = sample(1)  # compiles and allocates
    if duration < max_seconds / 4:
        duration = min(sample(1) for _ in range(WARM_UPS - 1))
    calls = max(1, min(100, round(MIN_SAMPLE_SECONDS / max(duration, 1e-6))))
    repeats = max(1, min(REPEATS, int(max_seconds / (duration * calls))))
    return summarize([sample(calls) for _ in range(repeats)])


def summarize(samples: list[float]) -> Timing:
    """The timing of samples in seconds."""
    median = statistics.median(samples)
    return Timing(median, min(samples), (max(samples) - min(samples)) / median, len(samples))
