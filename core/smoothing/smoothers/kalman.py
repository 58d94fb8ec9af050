"""Kalman smoothers with linear camera motion models.

Each is a `Smoother` (path/smooth.py): (values (n, k) of one shot, period in frames) -> (n, k). Each model has one free
parameter, which is set so that an oscillation of the given period is halved.
"""

from __future__ import annotations

from math import factorial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

PERIOD_RANGE_FRAMES = 1e-3, 1e9  # outside, the covariances lose all precision, and results look the same


def kalman(path: NDArray[np.float64], period: float) -> NDArray[np.float64]:
    """Smooth with a Kalman filter and a Rauch-Tung-Striebel smoother.

    The model has exponentially decaying acceleration.

    Kalman (1960); Rauch, Tung and Striebel (1965); the model is that of Singer, Estimating Optimal Tracking Filter
    Performance for Manned Maneuvering Targets (1970), with a time constant of period / 2 pi. Away from the ends, its
    frequency response is 1 / (1 + (w^4 + w^6) / 2), where w is `period` over the period of an oscillation. A model of
    nearly constant velocity, with the response 1 / (1 + w^4), leaves more than twice as much of an oscillation of half
    the period; without the w^4, the ends of a shot would follow the last oscillation.
    """
    return _rts_smooth(path, _singer_model(period))


def kalman_lagged(path: NDArray[np.float64], period: float) -> NDArray[np.float64]:
    """Kalman smoother with nearly constant velocity, for a short look-ahead.

    With few future frames an estimated acceleration overshoots. The frequency response is 1 / (1 + w^4).
    """
    return _rts_smooth(path, _constant_velocity(period))


def kalman_causal(path: NDArray[np.float64], period: float) -> NDArray[np.float64]:
    """Smooth with the forward filter of `kalman_lagged` alone.

    Each value depends on the past only, and therefore lags.
    """
    return _forward_filter(path, _constant_velocity(period))[0][:, 0]


class LaggedWeights:
    """Rows of the matrix by which `kalman_lagged` multiplies a path.

    The filter is causal, so a path shares it with all longer ones, and a row needs only the short backward pass.
    """

    def __init__(self, period: float) -> None:
        self._model = _constant_velocity(period)
        self._filter(128)
        self._rows: dict[tuple[int, int], Array] = {}

    def row(self, length: int, index: int) -> NDArray[np.float64]:
        """Return the weights (length,) of a path in its smoothed value `index`."""
        if (row := self._rows.get((length, index))) is None:
            if length > len(self._states):
                self._filter(2 * length)
            smoothed = self._states[length - 1]
            for i in range(length - 2, index - 1, -1):
                smoothed = self._states[i] + self._gains[i] @ (smoothed - self._predicted[i + 1])
            row = self._rows[length, index] = smoothed[0, :length].copy()
        return row

    def _filter(self, length: int) -> None:
        self._states, covariances, self._predicted, predictions = _forward_filter(np.eye(length), self._model)
        self._gains = _smoother_gains(covariances, predictions, self._model)


class _MotionModel(NamedTuple):
    """A linear state-space model: a position and k - 1 of its derivatives.

    The measurement noise has variance 1.

    transition, process_noise: (k, k), per frame. initial_covariance: (k, k), of the first state, whose velocity is
    unknown.
    """

    transition: NDArray[np.float64]
    process_noise: NDArray[np.float64]
    initial_covariance: NDArray[np.float64]


def _constant_velocity(period: float) -> _MotionModel:
    """Return a model of nearly constant velocity.

    The process noise halves an oscillation of the given period.
    """
    period = float(np.clip(period, *PERIOD_RANGE_FRAMES))
    process_noise = np.array([[1 / 3, 1 / 2], [1 / 2, 1.0]]) * (2 * np.pi / period) ** 4
    return _MotionModel(np.array([[1.0, 1.0], [0.0, 1.0]]), process_noise, np.diag([1.0, 1e6]))


def _singer_model(period: float) -> _MotionModel:
    """Return Singer's model.

    The unit of time is a radian of the period, in which acceleration decays to 1 / e.
    """
    h = 2 * np.pi / float(np.clip(period, *PERIOD_RANGE_FRAMES))  # one frame

    def impulse_response(s: float) -> NDArray[np.float64]:
        """Position, velocity and acceleration a time s after a unit acceleration."""
        # A series for short times: the closed form would cancel.
        position = sum((-s) ** k / factorial(k) for k in range(2, 16)) if s < 1 else s - 1 + np.exp(-s)
        return np.array([position, -np.expm1(-s), np.exp(-s)])

    transition = np.array([[1, h, 0], [0, 1, 0], [0, 0, 0]], np.float64)
    transition[:, 2] = impulse_response(h)
    times, weights = np.polynomial.legendre.leggauss(12)  # integrates over a frame to machine precision
    responses = np.stack([impulse_response(h * (1 + t) / 2) for t in times])
    process_noise = h * h * np.einsum("t,ti,tj->ij", weights, responses, responses)
    return _MotionModel(transition, process_noise, np.diag([1.0, 1e6 / h**2, h]))


def _forward_filter(path: Array, model: _MotionModel) -> tuple[Array, Array, Array, Array]:
    """Kalman filter of the columns of path (n, k), with d state variables.

    Returns states (n, d, k) and covariances (n, d, d) after each measurement, then both before it.
    """
    (n, k), d = path.shape, len(model.transition)
    states, covariances = np.zeros((n, d, k)), np.zeros((n, d, d))
    predicted, predictions = np.zeros((n, d, k)), np.zeros((n, d, d))
    state, covariance = np.zeros((d, k)), model.initial_covariance
    state[0] = path[0]
    for i in range(n):
        if i > 0:
            state, covariance = (
                model.transition @ state,
                model.transition @ covariance @ model.transition.T + model.process_noise,
            )
            predicted[i], predictions[i] = state, covariance
            gain = covariance[:, :1] / (covariance[0, 0] + 1)
            state = state + gain * (path[i] - state[0])
            covariance = covariance - gain @ covariance[:1]
        states[i], covariances[i] = state, covariance
    return states, covariances, predicted, predictions


def _smoother_gains(covariances: Array, predictions: Array, model: _MotionModel) -> Array:
    """Return the gains of the backward pass: (n - 1, d, d).

    It multiplies the corrections of the following states by them.
    """
    return covariances[:-1] @ model.transition.T @ np.linalg.inv(predictions[1:])


def _rts_smooth(path: NDArray[np.float64], model: _MotionModel) -> NDArray[np.float64]:
    """Filter and smooth the columns of path: (n, k) -> (n, k)."""
    states, covariances, predicted, predictions = _forward_filter(path, model)
    gains = _smoother_gains(covariances, predictions, model)
    smoothed = states.copy()
    for i in range(len(path) - 2, -1, -1):
        smoothed[i] += gains[i] @ (smoothed[i + 1] - predicted[i + 1])
    return smoothed[:, 0]
