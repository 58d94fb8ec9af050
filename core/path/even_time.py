"""Uneven timestamps: which ones are even, and how smoothers treat the others.

Paths are smoothed over time, not over frame numbers. The unit of time is the frame time, 1 / fps; with a constant rate
the frames of a clip are at 0, 1, 2, ... Filters need values at even intervals: for uneven timestamps, a path is
interpolated on an even grid of times, filtered there, and interpolated at the times of the frames. Both interpolations
keep straight lines in time, so an even pan stays even. The first is linear, which does not overshoot in a gap; the
second, of values that are smooth already, is cubic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .. import geometry

MAX_RATE_ERROR = 0.01  # relative difference between the rate of even timestamps and the clip's
MIN_STEP = 0.05  # frame times; closer frames count as this far apart where values are divided by the distance
MAX_GRID_FACTOR = 4  # points of an even grid per frame

Array = NDArray[np.float64]


def uneven_times(seconds: Array, fps: Fraction | float, tick: float) -> Array | None:
    """Return timestamps relative to the first, or None for a constant rate.

    The rate is constant if all timestamps (N,) are within one tick of even ones, whose rate is that of the clip. Files
    round timestamps to ticks: 33, 33 and 34 ms are 30 frames per second.
    seconds: strictly increasing. tick: the time base of the file, in seconds.
    """
    count = len(seconds)
    if count < 2:
        return None
    times = seconds - seconds[0]
    deviation: Array = times - np.linspace(0.0, float(times[-1]), count)
    is_even = float(np.ptp(deviation)) <= 2 * tick * (1 + 1e-6)
    rate_error = abs(times[-1] - (count - 1) / float(fps))
    is_clip_rate = rate_error <= 2 * tick + MAX_RATE_ERROR * times[-1]
    return None if is_even and is_clip_rate else times


def to_frame_times(times: Array | None, fps: Fraction | float, count: int) -> Array:
    """Convert timestamps in seconds to frame times (count,).

    None stands for a constant rate: 0, 1, 2, ...
    """
    return np.arange(count, dtype=np.float64) if times is None else times * float(fps)


def is_constant_rate(times: Array) -> bool:
    """Whether the frames are exactly one frame time apart."""
    return bool((np.diff(times) == 1).all())


class FrameClock:
    """Measure the time between the frames of a stream, in frame times.

    It is exactly 1 for a frame within one tick of its expected time.
    tick: the time base of the stream, in seconds.
    """

    def __init__(self, fps: Fraction | float, tick: float) -> None:
        self._fps, self._tick = float(fps), tick
        self._now: float | None = None

    def elapsed(self, seconds: float | None) -> float:
        """Return the time from the previous frame to one with this timestamp.

        1 for the first frame, one without a timestamp, and one whose timestamp does not increase.
        """
        if self._now is None or seconds is None:
            self._now = seconds if self._now is None else self._now + 1 / self._fps
            return 1.0
        previous, expected = self._now, self._now + 1 / self._fps
        self._now = seconds
        if abs(seconds - expected) <= self._tick * (1 + 1e-6):
            self._now = expected
            return 1.0
        return (seconds - previous) * self._fps if seconds > previous else 1.0


def even_grid(times: Array) -> Array:
    """Return evenly spaced times from the first to the last of 2 or more times.

    Their distance is the median one of the frames, within limits that bound their number.
    """
    span = float(times[-1] - times[0])
    mean = span / (len(times) - 1)
    step = float(np.clip(np.median(np.diff(times)), mean / MAX_GRID_FACTOR, mean))
    return np.linspace(float(times[0]), float(times[-1]), max(2, round(span / step) + 1))


def separate(times: Array) -> Array:
    """Move times (n,) apart that are closer than `MIN_STEP`."""
    steps = np.diff(times)
    return times if (steps >= MIN_STEP).all() else np.append(0.0, np.cumsum(np.maximum(steps, MIN_STEP)))


def frame_durations(times: Array) -> Array:
    """Return the mean distance to the neighbors of each frame, (n,)."""
    steps = np.diff(times)
    return (np.append(steps[:1], steps) + np.append(steps, steps[-1:])) / 2 if len(steps) else np.ones(len(times))


def smooth_evenly(
    poses: geometry.Matrices,
    times: Array,
    period: float,
    smooth: Callable[[geometry.Matrices, float], geometry.Matrices],
) -> geometry.Matrices:
    """Apply a filter for even intervals to the poses (n, 3, 3) of one shot.

    times: (n,), in frame times. period: in frame times. smooth: (poses, period in intervals) -> poses.
    Frames on the two sides of a gap that is longer than the period are filtered independently: a view held that long
    has no motion in common with the next one, and a grid across it would be too coarse.
    """
    if is_constant_rate(times):
        return smooth(poses, period)
    smoothed = poses.copy()
    for part in _split_at_gaps(times, max(period, 1.0)):
        if part.stop - part.start < 2:
            continue
        grid = even_grid(times[part])
        even = smooth(interpolate_poses(poses[part], times[part], grid, 2), period / float(grid[1] - grid[0]))
        smoothed[part] = interpolate_poses(even, grid, times[part], 4)
    return smoothed


def _split_at_gaps(times: Array, max_gap: float) -> Iterator[slice]:
    edges = [0, *(np.flatnonzero(np.diff(times) > max_gap) + 1).tolist(), len(times)]
    return (slice(a, b) for a, b in pairwise(edges))


def interpolate_poses(poses: geometry.Matrices, times: Array, at: Array, neighbors: int) -> geometry.Matrices:
    """Interpolate 2 or more poses (n, 3, 3) at other times: (m, 3, 3).

    neighbors: number of poses that determine each result, by a polynomial in the axes of the one before it.
    """
    count = min(neighbors, len(times))
    left = np.clip(np.searchsorted(times, at, side="right") - 1, 0, len(times) - 2)
    first = np.clip(left - (count // 2 - 1), 0, len(times) - count)
    knots = times[first[:, None] + np.arange(count)]
    to_left, tangents = geometry.inverse(poses[left]), np.zeros((len(at), 8))
    for k in range(count):
        others = np.delete(knots, k, axis=1)
        weights = ((at[:, None] - others) / (knots[:, k, None] - others)).prod(axis=1)  # Lagrange's polynomials
        tangents += weights[:, None] * geometry.to_tangents(to_left @ poses[first + k])
    return geometry.normalize(poses[left] @ geometry.matrices_from_tangents(tangents))


def smooth_in_time(values: Array, times: Array, seconds: float) -> Array:
    """Smooth values with a Gaussian in time.

    values: (N, k), at even or uneven times (N,), in seconds. seconds: standard deviation of the Gaussian.
    """
    step = max(float(np.median(np.diff(times))), 1e-3) if len(times) > 1 else 1.0
    grid: Array = np.arange(float(times[0]), float(times[-1]) + step, step)
    radius = min(int(np.ceil(3 * seconds / step)), len(grid))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) * step / seconds) ** 2)
    weights = np.convolve(np.ones(len(grid)), kernel)[radius:-radius]
    columns: list[Array] = []
    for column in values.T:
        on_grid = np.asarray(np.interp(grid, times, column), np.float64)
        even = np.convolve(on_grid, kernel)[radius:-radius] / weights
        columns.append(np.asarray(np.interp(times, grid, even), np.float64))
    return np.stack(columns, axis=-1)
