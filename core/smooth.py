"""Where the camera should have been: smoothers, one function each, and the averaging that applies them to poses.

Every smoother is a linear function `(values (n, k), period) -> (n, k)` over the frames of one shot, column by column;
period is the time in frames of a swing of which half is taken away. Swings quicker than that are shake, slower ones are
intended. `smooth` is told the period in seconds, so the frame rate does not change the look.

Poses cannot be averaged as numbers: a turned and tilted picture has to stay one. So each frame looks at its
neighbours from where it stands, averages what it sees there (their tangents, geometry.py) with the smoother's weights,
and moves to the mean. To add a smoother: write the function, add a line to `Smoothing` and one to `_SMOOTHERS`. Locking
and the L1 path (l1.py) are no averages and go their own ways.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from . import geometry
from .clip import ClipError
from .l1 import l1
from .trajectory import Trajectory

Smoother = Callable[[NDArray[np.float64], float], NDArray[np.float64]]


class Smoothing(str, Enum):
    """How the path is smoothed."""

    KALMAN = "kalman"
    KALMAN_CAUSAL = "kalman-causal"
    GAUSSIAN = "gaussian"
    L1 = "l1"
    LOCKED = "locked"


def smooth(
    trajectory: Trajectory,
    method: Smoothing = Smoothing.KALMAN,
    seconds: float = 3.0,
    *,
    reference: int | None = None,
    max_zoom: float = 1.3,
) -> Trajectory:
    """The way that the camera should have taken, shot by shot.

    seconds: swings of the camera with a shorter period than this are removed; ignored by LOCKED.
    reference: LOCKED only: the frame whose view is held in its shot, counted from 0; None, and shots without it, hold
    the view of the frame nearest to the middle of all their views.
    max_zoom: L1 only: the path never needs more magnification than this to fill the frame (1.2 means 20 %). The others
    know no budget: `crop.limit_zoom` holds them to one afterwards.
    Raises ClipError for a period that is not positive, a reference outside the clip, a zoom below 1, or L1 without
    scipy.
    """
    if not seconds > 0:
        raise ClipError(f"smoothing needs a period above 0 seconds, got {seconds}")
    if not max_zoom >= 1:
        raise ClipError(f"the zoom allowed is a magnification of 1 or more, got {max_zoom}: 1.2 means 20 %")
    count = len(trajectory.poses)
    if reference is not None and not 0 <= reference < count:
        raise ClipError(f"frame {reference} cannot be held: the clip has frames 0 to {count - 1}")
    method, period = Smoothing(method), seconds * float(trajectory.info.fps)
    poses = np.empty_like(trajectory.poses)
    for shot in trajectory.shots:
        if method is Smoothing.LOCKED:
            held = reference if reference is not None and shot.start <= reference < shot.stop else None
            poses[shot] = trajectory.poses[_middle(trajectory, shot) if held is None else held]
        elif method is Smoothing.L1:
            guide = _averaged(trajectory.poses[shot], kalman, period)
            poses[shot] = l1(trajectory.poses[shot], guide, period, trajectory.info, max_zoom)
        else:
            poses[shot] = _averaged(trajectory.poses[shot], _SMOOTHERS[method], period)
    return replace(trajectory, poses=poses)


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
        back = np.linalg.inv(smoothed)
        mean = np.zeros((n, 8))
        for k in range(size):
            mean += weights[index - start, k, None] * geometry.to_tangents(back @ poses[start + k])
        smoothed = geometry.normalized(smoothed @ geometry.to_matrices_of(mean))
    return smoothed


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


def kalman(path: NDArray[np.float64], period: float) -> NDArray[np.float64]:
    """Kalman filter forwards, Rauch-Tung-Striebel smoother backwards, for a camera of nearly constant velocity.

    Kalman (1960); Rauch, Tung and Striebel (1965). Away from the ends it answers a swing of angular frequency w with
    1 / (1 + (w / w0)^4), w0 = 2 pi / period: that fixes the one free number, the ratio of the two noises.
    """
    states, covariances, predicted, predictions = _filter(path, period)
    smoothed = states.copy()
    for i in range(len(path) - 2, -1, -1):
        gain = covariances[i] @ _MOVE.T @ np.linalg.inv(predictions[i + 1])
        smoothed[i] += gain @ (smoothed[i + 1] - predicted[i + 1])
    return smoothed[:, 0]


def kalman_causal(path: NDArray[np.float64], period: float) -> NDArray[np.float64]:
    """The forward filter alone: each place depends on the past only, as live use demands, and therefore lags."""
    return _filter(path, period)[0][:, 0]


_MOVE = np.array([[1.0, 1.0], [0.0, 1.0]])  # place and velocity after one frame


def _filter(path: NDArray[np.float64], period: float):
    """Forwards: states (n, 2, k) of place and velocity, covariances (n, 2, 2), after each measurement and before."""
    drift = np.array([[1 / 3, 1 / 2], [1 / 2, 1.0]]) * (2 * np.pi / period) ** 4  # measurement noise is the unit
    n, k = path.shape
    states, covariances = np.zeros((n, 2, k)), np.zeros((n, 2, 2))
    predicted, predictions = np.zeros((n, 2, k)), np.zeros((n, 2, 2))
    state, covariance = np.stack([path[0], np.zeros(k)]), np.diag([1.0, 1e6])  # the first velocity is anyone's guess
    for i in range(n):
        if i > 0:
            state, covariance = _MOVE @ state, _MOVE @ covariance @ _MOVE.T + drift
            predicted[i], predictions[i] = state, covariance
            gain = covariance[:, :1] / (covariance[0, 0] + 1)
            state = state + gain * (path[i] - state[0])
            covariance = covariance - gain @ covariance[:1]
        states[i], covariances[i] = state, covariance
    return states, covariances, predicted, predictions


_SMOOTHERS: dict[Smoothing, Smoother] = {
    Smoothing.KALMAN: kalman,
    Smoothing.KALMAN_CAUSAL: kalman_causal,
    Smoothing.GAUSSIAN: gaussian,
}
