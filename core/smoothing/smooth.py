"""Camera path smoothing: the methods of `Smoothing`, and `smooth` for poses.

A smoother is a linear function `(values (n, k), period) -> (n, k)` over the frames of one shot, column by column
(smoothers/); period is the length in frames of an oscillation that is halved. Faster oscillations are shake, slower
ones are intended. `smooth` takes the period in seconds, so the frame rate does not change the result, nor do uneven
timestamps: smoothers get values at even intervals (even_time.py).

Poses are not averaged as matrices, which would distort frames. Each frame takes its neighbors' poses relative to its
own, averages their tangents (geometry.py) with the smoother's weights, and moves to the mean. Angles are unwrapped: a
roll may have any number of turns. To add a smoother, write
the function in smoothers/ and add a line to `Smoothing`. LOCKED and L1 are not averages and have their own branches in
`smooth`. A smoother that is passed as a function, such as a trained network, need not be linear: it gets the path.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from ..clip import ClipError
from ..path.even_time import smooth_evenly
from ..path.trajectory import Trajectory, correction
from .smoothers.gaussian import gaussian
from .smoothers.kalman import kalman, kalman_causal
from .smoothers.l1 import l1_path
from .smoothers.whittaker import whittaker
from .strength import Strength, apply_strength, level_horizon

Smoother: TypeAlias = Callable[[NDArray[np.float64], float], NDArray[np.float64]]
"""(values (n, k) of one shot at even intervals, in order, period in intervals) -> the smooth values (n, k).

The values are those of the frames or, for uneven timestamps, of times between them."""


class Smoothing(str, Enum):
    """Smoothing method: its value, and its smoother if it is an average."""

    KALMAN = "kalman", kalman
    KALMAN_CAUSAL = "kalman-causal", kalman_causal
    GAUSSIAN = "gaussian", gaussian
    L1 = "l1"
    LOCKED = "locked"
    WHITTAKER = "whittaker", whittaker
    LEARNED = "learned"

    smoother: Smoother | None

    def __new__(cls, value: str, smoother: Smoother | None = None) -> Smoothing:
        member = str.__new__(cls, value)
        member._value_ = value
        member.smoother = smoother
        return member


def smooth(
    trajectory: Trajectory,
    method: Smoothing | Smoother = Smoothing.KALMAN,
    seconds: float = 4.0,
    *,
    reference: int | None = None,
    max_zoom: float = 1.3,
    strength: Strength | None = None,
    horizon: float = 0.0,
) -> Trajectory:
    """Smooth a camera path, shot by shot.

    method: a `Smoothing`, or a function `(values, period) -> values`, see `Smoother`. LEARNED is only the name of such
    a function: pass the result of `models.load_path_smoother().make_smoother(...)`. A function is called twice per shot
    with the path as (n, 8) tangents (x and y in pixels, roll in radians, logarithm of the zoom, two of shear, two of
    perspective), accumulated along the frame's own axes from about zero; it need not be linear.
    seconds: oscillations of the camera with a shorter period are removed; ignored by LOCKED.
    reference: for LOCKED, the frame whose view is kept in its shot, counted from 0; None, and other shots, keep the
    view of the frame nearest to the median position. With a horizon, its roll is level in its shot.
    max_zoom: for L1, the path never needs more magnification than this to fill the frame (1.2 means 20 %). For other
    methods, and for a path changed by strength or horizon, use `limit_zoom`.
    strength: fraction of the correction per axis; None all of it.
    horizon: 0 to 1, fraction of the slow roll that is removed too; see `level_horizon`.
    Raises ClipError for a period that is not positive, a reference outside the clip, a zoom below 1, a horizon outside
    0 to 1, L1 without SciPy, LEARNED without its network, or a function that does not return finite numbers of the
    shape of its input.
    """
    if not seconds > 0:
        raise ClipError(f"smoothing needs a period above 0 seconds, got {seconds}")
    if not max_zoom >= 1:
        raise ClipError(f"the zoom allowed is a magnification of 1 or more, got {max_zoom}: 1.2 means 20 %")
    count = len(trajectory.poses)
    if reference is not None and not 0 <= reference < count:
        raise ClipError(f"frame {reference} cannot be the reference: the clip has frames 0 to {count - 1}")
    period = seconds * float(trajectory.info.fps)
    smoother = method if callable(method) else Smoothing(method).smoother
    if method == Smoothing.LEARNED:
        raise ClipError(
            "the learned smoother is a network: instead of its name, pass "
            "models.load_path_smoother().make_smoother(width, height, max_zoom) as the method"
        )
    poses = np.empty_like(trajectory.poses)
    for shot in trajectory.shots:
        times = trajectory.frame_times[shot]
        if smoother is None and method == Smoothing.LOCKED:
            has_reference = reference is not None and shot.start <= reference < shot.stop
            poses[shot] = trajectory.poses[reference if has_reference else _median_frame(trajectory, shot)]
        elif smoother is None:
            guide = smooth_evenly(trajectory.poses[shot], times, period, partial(_average_poses, kalman))
            poses[shot] = l1_path(trajectory.poses[shot], guide, period, trajectory.info, max_zoom, times)
        else:
            apply = _smooth_as_table if callable(method) else _average_poses
            poses[shot] = smooth_evenly(trajectory.poses[shot], times, period, partial(apply, smoother))
    wanted = level_horizon(trajectory, replace(trajectory, poses=poses), horizon, reference)
    if strength in (None, Strength()):
        return wanted
    return trajectory.corrected(apply_strength(correction(trajectory, wanted), strength))


def _median_frame(trajectory: Trajectory, shot: slice) -> int:
    """The frame of a shot whose position is nearest to the median position."""
    positions = trajectory.path[shot, :2]
    return shot.start + int(np.linalg.norm(positions - np.median(positions, axis=0), axis=1).argmin())


def _average_poses(smoother: Smoother, poses: geometry.Matrices, period: float) -> geometry.Matrices:
    """Smooth the poses (n, 3, 3) of one shot by weighted means.

    Each is the mean of its neighbors in its own frame.
    """
    n = len(poses)
    radius = int(np.ceil(2 * period))  # weights farther away are negligible for all smoothers
    size = min(n, 2 * radius + 1)
    weights = smoother(np.eye(size), period)  # row i: weights of a window for its i-th result
    index = np.arange(n)
    start = np.clip(index - radius, 0, n - size)
    smoothed, rolls = poses, geometry.accumulate_roll(poses)
    smoothed_rolls = rolls
    for _ in range(2):  # the mean is relative to an estimate; in the second iteration, that is nearly the mean itself
        to_estimate = geometry.inverse(smoothed)
        mean = np.zeros((n, 8))
        for k in range(size):
            tangents = geometry.to_tangents(to_estimate @ poses[start + k])
            tangents[:, 2] = geometry.unwrap_near(tangents[:, 2], rolls[start + k] - smoothed_rolls)
            mean += weights[index - start, k, None] * tangents
        smoothed_rolls = smoothed_rolls + mean[:, 2]
        smoothed = geometry.normalize(smoothed @ geometry.matrices_from_tangents(mean))
    return smoothed


def _smooth_as_table(smoother: Smoother, poses: geometry.Matrices, period: float) -> geometry.Matrices:
    """Smooth the poses (n, 3, 3) of one shot as one table.

    The smoother is a function that gets the whole path, (n, 8).

    The table is relative to a base path that is already smooth: the accumulated tangents of its steps, each in its own
    axes, plus the tangents from the base to each frame. So no pose is expressed in the axes of a distant one, whatever
    the rotation between them. The result is applied to the base, which in the second iteration is that of the first.
    """
    base = _average_poses(kalman, poses, period)
    for _ in range(2):
        along = np.zeros((len(poses), 8))
        along[1:] = np.cumsum(geometry.to_tangents(geometry.inverse(base[:-1]) @ base[1:]), axis=0)
        offsets = geometry.to_tangents(geometry.inverse(base) @ poses)
        offsets[:, 2] = np.unwrap(offsets[:, 2])
        values = along + offsets
        smoothed = np.asarray(smoother(values.copy(), period), dtype=np.float64)
        if smoothed.shape != values.shape or not np.isfinite(smoothed).all():
            raise ClipError(
                f"the smoother was given values of the shape {values.shape} and has to return finite numbers of the "
                f"same shape, got {'numbers that are not finite' if smoothed.shape == values.shape else smoothed.shape}"
            )
        with np.errstate(all="ignore"):
            base = geometry.normalize(base @ geometry.matrices_from_tangents(smoothed - along))
        if not geometry.is_regular(base).all():
            raise ClipError("the smoother returned values that are too large, or degenerate: no frame would be visible")
    return base
