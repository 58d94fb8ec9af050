"""Robust fit of a slope."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Slope(NamedTuple):
    """A slope that `fit_slope` found.

    residual_power: weighted mean square of effect - slope * cause. cause_power: weighted mean square of the cause.
    """

    value: float
    std_error: float
    residual_power: float
    cause_power: float


def fit_slope(
    cause: NDArray[np.float64], effect: NDArray[np.float64], *, fitted: int = 2, floor: float = 1e-15
) -> Slope:
    """Fit effect = slope * cause, with Tukey's biweight on the residuals.

    fitted: values that were estimated from the same data, which count for the standard error. floor: of powers; a
    thousand times that is added to the limit of the residuals.
    """
    weights, slope, power = np.ones_like(cause), 0.0, 1.0
    for _ in range(10):
        power = max(float((weights * cause**2).sum()), floor)
        slope = float((weights * cause * effect).sum() / power)
        residuals = np.abs(effect - slope * cause)
        weights = np.maximum(0, 1 - (residuals / (7 * float(np.median(residuals)) + 1000 * floor)) ** 2) ** 2
    variance = float((weights * (effect - slope * cause) ** 2).sum() / max(weights.sum() - fitted, 1)) + floor
    return Slope(slope, float(np.sqrt(variance / power)), variance, power / max(float(weights.sum()), 1.0))
