"""Where the camera should have been: smoothers, one function each, and the averaging that applies them to poses.

Every smoother here is a linear function `(values (n, k), period) -> (n, k)` over the frames of one shot, column by
column; period is the time in frames of a swing of which half is taken away. Swings quicker than that are shake, slower
ones are intended. `smooth` is told the period in seconds, so the frame rate does not change the look.

Poses cannot be averaged as numbers: a turned and tilted picture has to stay one. So each frame looks at its
neighbours from where it stands, averages what it sees there (their tangents, geometry.py) with the smoother's weights,
and moves to the mean. To add a smoother: write the function, add a line to `Smoothing` and one to `_SMOOTHERS`. Locking
and the L1 path (l1.py) are no averages and go their own ways; and so does a smoother that is handed to `smooth` as a
function, such as a trained network, which need not be linear and is therefore shown the path itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from ..clip import ClipError
from .axes import Strength, levelled, partly
from .kalman import kalman, kalman_causal
from .l1 import l1
from .trajectory import Trajectory, correction

Smoother: TypeAlias = Callable[[NDArray[np.float64], float], NDArray[np.float64]]
"""(values (n, k) of the frames of one shot, in order, period in frames) -> the smooth values (n, k)."""


class Smoothing(str, Enum):
    """How the path is smoothed."""

    KALMAN = "kalman"
    KALMAN_CAUSAL = "kalman-causal"
    GAUSSIAN = "gaussian"
    L1 = "l1"
    LOCKED = "locked"
    WHITTAKER = "whittaker"
    LEARNED = "learned"


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
    """The way that the camera should have taken, shot by shot.

    method: one of ours, or a function `(values, period) -> values`, see `Smoother`. LEARNED only names such a
    function: pass what `smoother` of `models.load_path_smoother()` returns. A function is shown the path of each shot
    unrolled, twice: (n, 8) tangents (x and y in pixels, roll in radians, logarithm of the zoom, two of shear, two of
    perspective), summed up along the picture's own axes from about zero; and it may make of them what it likes.
    seconds: swings of the camera with a shorter period than this are removed; ignored by LOCKED.
    reference: LOCKED only: the frame whose view is held in its shot, counted from 0; None, and shots without it, hold
    the view of the frame nearest to the middle of all their views. With a horizon, its roll is level in its shot.
    max_zoom: L1 only: the path never needs more magnification than this to fill the frame (1.2 means 20 %). For the
    others, and for a path that strength or horizon change, `crop.limit_zoom` finds the nearest one within a budget.
    strength: how much of the correction is applied, axis by axis; None all of it.
    horizon: 0 to 1, how much of the slow roll that the smoother leaves is removed too; see `axes.levelled`.
    Raises ClipError for a period that is not positive, a reference outside the clip, a zoom below 1, a horizon outside
    0 to 1, L1 without scipy, LEARNED without its network, or a function that does not return finite numbers of the
    shape it was given.
    """
    if not seconds > 0:
        raise ClipError(f"smoothing needs a period above 0 seconds, got {seconds}")
    if not max_zoom >= 1:
        raise ClipError(f"the zoom allowed is a magnification of 1 or more, got {max_zoom}: 1.2 means 20 %")
    count = len(trajectory.poses)
    if reference is not None and not 0 <= reference < count:
        raise ClipError(f"frame {reference} cannot be held: the clip has frames 0 to {count - 1}")
    period = seconds * float(trajectory.info.fps)
    method = method if callable(method) else Smoothing(method)
    if method is Smoothing.LEARNED:
        raise ClipError(
            "the learned smoother is a network: instead of its name, pass "
            "models.load_path_smoother().smoother(width, height, max_zoom) as the method"
        )
    poses = np.empty_like(trajectory.poses)
    for shot in trajectory.shots:
        if callable(method):
            poses[shot] = _unrolled(trajectory.poses[shot], method, period)
        elif method is Smoothing.LOCKED:
            held = reference if reference is not None and shot.start <= reference < shot.stop else None
            poses[shot] = trajectory.poses[_middle(trajectory, shot) if held is None else held]
        elif method is Smoothing.L1:
            guide = _averaged(trajectory.poses[shot], kalman, period)
            poses[shot] = l1(trajectory.poses[shot], guide, period, trajectory.info, max_zoom)
        else:
            poses[shot] = _averaged(trajectory.poses[shot], _SMOOTHERS[method], period)
    wanted = levelled(trajectory, replace(trajectory, poses=poses), horizon, reference)
    if strength in (None, Strength()):
        return wanted
    return trajectory.corrected(partly(correction(trajectory, wanted), strength))


def _middle(trajectory: Trajectory, shot: slice) -> int:
    """The frame of a shot whose place is nearest to the median of all."""
    place = trajectory.path[shot, :2]
    return shot.start + int(np.linalg.norm(place - np.median(place, axis=0), axis=1).argmin())


def _averaged(poses: geometry.Matrices, smoother: Smoother, period: float) -> geometry.Matrices:
    """Poses (n, 3, 3) of one shot -> smoothed, each the weighted mean of its neighbours' in its own view."""
    n = len(poses)
    reach = int(np.ceil(2 * period))  # no smoother's weights reach farther, to four digits
    size = min(n, 2 * reach + 1)
    weights = smoother(np.eye(size), period)  # row i: what each value of a window counts for its i-th result
    index = np.arange(n)
    start = np.clip(index - reach, 0, n - size)
    smoothed = poses
    for _ in range(2):  # the mean is taken around a first guess, which for the second round is nearly the mean itself
        back = geometry.inverse(smoothed)
        mean = np.zeros((n, 8))
        for k in range(size):
            mean += weights[index - start, k, None] * geometry.to_tangents(back @ poses[start + k])
        smoothed = geometry.normalized(smoothed @ geometry.to_matrices_of(mean))
    return smoothed


def _unrolled(poses: geometry.Matrices, smoother: Smoother, period: float) -> geometry.Matrices:
    """Poses (n, 3, 3) of one shot -> smoothed by a function that sees the path as one table, and not as weights.

    The table is made along a base that is smooth already: the sum of its steps, each in its own axes, and where each
    frame is seen from it. So no pose is expressed in the axes of a far one, whatever the camera turned by meanwhile.
    What the function moves a frame by is done from the base, which for the second round is the result of the first.
    """
    base = _averaged(poses, kalman, period)
    for _ in range(2):
        along = np.zeros((len(poses), 8))
        along[1:] = np.cumsum(geometry.to_tangents(geometry.inverse(base[:-1]) @ base[1:]), axis=0)
        values = along + geometry.to_tangents(geometry.inverse(base) @ poses)
        smoothed = np.asarray(smoother(values.copy(), period), dtype=np.float64)
        if smoothed.shape != values.shape or not np.isfinite(smoothed).all():
            raise ClipError(
                f"the smoother was given values of the shape {values.shape} and has to return finite numbers of the "
                f"same shape, got {'numbers that are not finite' if smoothed.shape == values.shape else smoothed.shape}"
            )
        with np.errstate(all="ignore"):
            base = geometry.normalized(base @ geometry.to_matrices_of(smoothed - along))
        if not geometry.regular(base).all():
            raise ClipError("the smoother returned values of which no picture is left: too large, or degenerate")
    return base


def gaussian(path: NDArray[np.float64], period: float) -> NDArray[np.float64]:
    """A Gaussian-weighted mean of the places before and after. At the ends, the path goes on point-mirrored.

    The mirror keeps the speed of a pan that runs to the last frame, where repeating the last place would brake it.
    """
    sigma = np.sqrt(np.log(2) / 2) / np.pi * period  # |H| = exp(-2 (pi sigma / period)^2) = 1/2
    reach = min(int(np.ceil(3 * sigma)), len(path) - 1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-9)) ** 2)
    before = 2 * path[0] - path[reach:0:-1]
    after = 2 * path[-1] - path[-2 : -2 - reach : -1]
    extended = np.concatenate([before, path, after])
    return np.stack([np.convolve(c, kernel / kernel.sum(), mode="valid") for c in extended.T], axis=-1)


def whittaker(path: NDArray[np.float64], period: float) -> NDArray[np.float64]:
    """Penalised least squares: the z with the least |path - z|^2 + s |z''|^2, z'' being second differences.

    Whittaker, On a New Method of Graduation (1923). No smoother is better by that measure, which makes it the one to
    compare others with. Away from the ends it answers a swing of angular frequency w with 1 / (1 + s (2 sin(w/2))^4).
    """
    if len(path) < 3:
        return path.copy()
    softness = (2 * np.sin(np.pi / max(period, 2.0))) ** 4  # 1 / s
    # With second differences D, z = path - D' u where (D D' + softness) u = D path (Reinsch, Smoothing by Spline
    # Functions, 1967): straight lines stay what they are, however large s is. The matrix is factored into L diag L',
    # where L has two diagonals beside the main one.
    u = np.diff(path, 2, axis=0)
    n = len(u)
    diagonal, beside, next_but_one = np.zeros(n), np.zeros(n + 1), np.zeros(n + 2)  # the last entries stay 0
    for i in range(n):
        diagonal[i] = 6 + softness
        slope = -4.0
        if i > 0:
            diagonal[i] -= beside[i - 1] ** 2 * diagonal[i - 1]
            slope -= beside[i - 1] * next_but_one[i - 1] * diagonal[i - 1]
            u[i] -= beside[i - 1] * u[i - 1]
        if i > 1:
            diagonal[i] -= next_but_one[i - 2] ** 2 * diagonal[i - 2]
            u[i] -= next_but_one[i - 2] * u[i - 2]
        beside[i], next_but_one[i] = slope / diagonal[i], 1 / diagonal[i]
    u /= diagonal[:, None]
    for i in range(n - 2, -1, -1):
        u[i] -= beside[i] * u[i + 1]
        if i + 2 < n:
            u[i] -= next_but_one[i] * u[i + 2]
    smoothed = path.copy()
    smoothed[:-2] -= u
    smoothed[1:-1] += 2 * u
    smoothed[2:] -= u
    return smoothed


_SMOOTHERS: dict[Smoothing, Smoother] = {
    Smoothing.KALMAN: kalman,
    Smoothing.KALMAN_CAUSAL: kalman_causal,
    Smoothing.GAUSSIAN: gaussian,
    Smoothing.WHITTAKER: whittaker,
}
