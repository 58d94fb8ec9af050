"""Gaussian smoother: a weighted mean of the values before and after."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def gaussian(path: NDArray[np.float64], period: float) -> NDArray[np.float64]:
    """Filter the columns (n, k) with a Gaussian.

    At the ends, the path is continued by point reflection. The reflection keeps the speed of a pan that continues to
    the last frame; repeating the last value would slow it.
    """
    sigma = np.sqrt(np.log(2) / 2) / np.pi * period  # |H| = exp(-2 (pi sigma / period)^2) = 1/2
    radius = min(int(np.ceil(3 * sigma)), len(path) - 1)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / max(sigma, 1e-9)) ** 2)
    before = 2 * path[0] - path[radius:0:-1]
    after = 2 * path[-1] - path[-2 : -2 - radius : -1]
    extended = np.concatenate([before, path, after])
    columns: list[NDArray[np.float64]] = [np.convolve(c, kernel / kernel.sum(), mode="valid") for c in extended.T]
    return np.stack(columns, axis=-1)
