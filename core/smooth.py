"""Where the camera should have been: smoothers of a path, one function each.

Every smoother is `(path (n, 4), period) -> (n, 4)`: the path of one shot, and the period in frames at which half of a
swing is taken away. Swings quicker than that are shake, slower ones are intended. The frame rate does not change the look,
because `smooth` is told the period in seconds. To add one: write the function, add a line to `Smoothing` and `_SMOOTHERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import numpy as np

from .clip import ClipError
from .geometry import Parameters
from .trajectory import Trajectory


class Smoothing(str, Enum):
    """How the path is smoothed."""

    KALMAN = "kalman"
    KALMAN_CAUSAL = "kalman-causal"
    GAUSSIAN = "gaussian"
    LOCKED = "locked"


def smooth(
    trajectory: Trajectory,
    method: Smoothing = Smoothing.KALMAN,
    seconds: float = 2.0,
    *,
    reference: int | None = None,
) -> Trajectory:
    """The path that the camera should have taken, shot by shot.

    seconds: swings of the camera with a shorter period than this are removed; ignored by LOCKED.
    reference: LOCKED only: the frame whose view is held in its shot, counted from 0; None holds each shot's median view.
    Raises ClipError for a period that is not positive or a reference outside the clip.
    """
    if not seconds > 0:
        raise ClipError(f"smoothing needs a period above 0 seconds, got {seconds}")
    path = trajectory.path
    if reference is not None and not 0 <= reference < len(path):
        raise ClipError(f"frame {reference} cannot be held: the clip has frames 0 to {len(path) - 1}")
    period = seconds * float(trajectory.info.fps)
    smoothed = np.empty_like(path)
    for shot in trajectory.shots:
        smoothed[shot] = _SMOOTHERS[Smoothing(method)](path[shot], period)
        if method == Smoothing.LOCKED and reference is not None and shot.start <= reference < shot.stop:
            smoothed[shot] = path[reference]
    return trajectory.with_path(smoothed)


def locked(path: Parameters, period: float) -> Parameters:
    """As if on a tripod: the median place of the shot, throughout."""
    return np.broadcast_to(np.median(path, axis=0), path.shape)


def gaussian(path: Parameters, period: float) -> Parameters:
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


def kalman(path: Parameters, period: float) -> Parameters:
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


def kalman_causal(path: Parameters, period: float) -> Parameters:
    """The forward filter alone: each place depends on the past only, as live use demands, and therefore lags."""
    return _filter(path, period)[0][:, 0]


_MOVE = np.array([[1.0, 1.0], [0.0, 1.0]])  # place and velocity after one frame


def _filter(path: Parameters, period: float):
    """Forward pass: states (n, 2, 4) of place and velocity and covariances (n, 2, 2), after and before each measurement."""
    drift = np.array([[1 / 3, 1 / 2], [1 / 2, 1.0]]) * (2 * np.pi / period) ** 4  # measurement noise is the unit
    n = len(path)
    states, covariances = np.zeros((n, 2, 4)), np.zeros((n, 2, 2))
    predicted, predictions = np.zeros((n, 2, 4)), np.zeros((n, 2, 2))
    state, covariance = np.stack([path[0], np.zeros(4)]), np.diag([1.0, 1e6])  # the first velocity is anyone's guess
    for i in range(n):
        if i > 0:
            state, covariance = _MOVE @ state, _MOVE @ covariance @ _MOVE.T + drift
            predicted[i], predictions[i] = state, covariance
            gain = covariance[:, :1] / (covariance[0, 0] + 1)
            state = state + gain * (path[i] - state[0])
            covariance = covariance - gain @ covariance[:1]
        states[i], covariances[i] = state, covariance
    return states, covariances, predicted, predictions


_SMOOTHERS: dict[Smoothing, Callable[[Parameters, float], Parameters]] = {
    Smoothing.KALMAN: kalman,
    Smoothing.KALMAN_CAUSAL: kalman_causal,
    Smoothing.GAUSSIAN: gaussian,
    Smoothing.LOCKED: locked,
}
