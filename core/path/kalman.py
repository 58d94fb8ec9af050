"""Kalman's smoothers: the path of a camera that moves on by itself in a simple way, as far as what was measured allows.

Each is a `Smoother` (smooth.py): (values (n, k) of one shot, period in frames) -> (n, k). What it takes for simple is a
model of a camera with one free number, and that is fixed by what is left of a swing of the given period: half.
"""

from __future__ import annotations

from math import factorial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PERIODS = 1e-3, 1e9  # in frames; beyond them the covariances run out of digits, and nothing looks different


def kalman(path: NDArray[np.float64], period: float) -> NDArray[np.float64]:
    """Kalman filter forwards, Rauch-Tung-Striebel smoother backwards, for a camera whose acceleration dies away.

    Kalman (1960); Rauch, Tung and Striebel (1965); the camera is the manoeuvring target of Singer, Estimating Optimal
    Tracking Filter Performance for Manned Maneuvering Targets (1970), which gives up an acceleration within
    period / 2 pi. Away from the ends it answers a swing of w = period / its own period with 1 / (1 + (w^4 + w^6) / 2).
    A camera of nearly constant velocity, whose answer is 1 / (1 + w^4), leaves more than twice as much of a swing of
    half the period; without the w^4, the ends of a shot would bend after the last swing.
    """
    return _both_ways(path, _dying_away(period))


def kalman_lagged(path: NDArray[np.float64], period: float) -> NDArray[np.float64]:
    """The same for a camera of nearly constant velocity: where little of the future is known, a guessed acceleration
    overshoots. Its answer to a swing is 1 / (1 + w^4).
    """
    return _both_ways(path, _even(period))


def kalman_causal(path: NDArray[np.float64], period: float) -> NDArray[np.float64]:
    """The forward filter of `kalman_lagged` alone: each place depends on the past only, and therefore lags."""
    return _filter(path, _even(period))[0][:, 0]


class _Camera(NamedTuple):
    """How it moves on by itself. Its state is the place and k - 1 derivatives of it; measurement noise is the unit.

    move: (k, k), the state one frame later. drift: (k, k), the covariance of what chance adds meanwhile. first: (k, k),
    of what is not known of the first frame, whose velocity is anyone's guess.
    """

    move: NDArray[np.float64]
    drift: NDArray[np.float64]
    first: NDArray[np.float64]


def _even(period: float) -> _Camera:
    """Of nearly constant velocity. One number is free, and is fixed by what is left of a swing of that period: half."""
    period = float(np.clip(period, *PERIODS))
    drift = np.array([[1 / 3, 1 / 2], [1 / 2, 1.0]]) * (2 * np.pi / period) ** 4
    return _Camera(np.array([[1.0, 1.0], [0.0, 1.0]]), drift, np.diag([1.0, 1e6]))


def _dying_away(period: float) -> _Camera:
    """Singer's. Time is told in radians of the period, in one of which an acceleration falls to 1 / e."""
    h = 2 * np.pi / float(np.clip(period, *PERIODS))  # from frame to frame

    def later(s: float) -> NDArray[np.float64]:
        """What an acceleration of 1 becomes in the time s: a place, a velocity, an acceleration."""
        # Of a short time the first terms are added up: the closed form would lose all digits.
        place = sum((-s) ** k / factorial(k) for k in range(2, 16)) if s < 1 else s - 1 + np.exp(-s)
        return np.array([place, -np.expm1(-s), np.exp(-s)])

    move = np.array([[1, h, 0], [0, 1, 0], [0, 0, 0]], np.float64)
    move[:, 2] = later(h)
    times, weights = np.polynomial.legendre.leggauss(12)  # twice the integral over a frame, to all digits
    pushes = np.stack([later(h * (1 + t) / 2) for t in times])
    drift = h * h * np.einsum("t,ti,tj->ij", weights, pushes, pushes)
    return _Camera(move, drift, np.diag([1.0, 1e6 / h**2, h]))


def _filter(path: NDArray[np.float64], camera: _Camera):
    """Forwards: states (n, d, k) of the places' columns k, covariances (n, d, d), after each measurement and before."""
    (n, k), d = path.shape, len(camera.move)
    states, covariances = np.zeros((n, d, k)), np.zeros((n, d, d))
    predicted, predictions = np.zeros((n, d, k)), np.zeros((n, d, d))
    state, covariance = np.zeros((d, k)), camera.first
    state[0] = path[0]
    for i in range(n):
        if i > 0:
            state, covariance = camera.move @ state, camera.move @ covariance @ camera.move.T + camera.drift
            predicted[i], predictions[i] = state, covariance
            gain = covariance[:, :1] / (covariance[0, 0] + 1)
            state = state + gain * (path[i] - state[0])
            covariance = covariance - gain @ covariance[:1]
        states[i], covariances[i] = state, covariance
    return states, covariances, predicted, predictions


def _both_ways(path: NDArray[np.float64], camera: _Camera) -> NDArray[np.float64]:
    """The smoothed places (n, k)."""
    states, covariances, predicted, predictions = _filter(path, camera)
    smoothed = states.copy()
    for i in range(len(path) - 2, -1, -1):
        gain = covariances[i] @ camera.move.T @ np.linalg.inv(predictions[i + 1])
        smoothed[i] += gain @ (smoothed[i + 1] - predicted[i + 1])
    return smoothed[:, 0]
