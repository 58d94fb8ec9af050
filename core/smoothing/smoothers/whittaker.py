"""Whittaker smoother: penalized least squares, solved in linear time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def whittaker(path: NDArray[np.float64], period: float) -> NDArray[np.float64]:
    """Minimize |path - z|^2 + s |z''|^2 over z (n, k).

    z'' are second differences.

    Whittaker, On a New Method of Graduation (1923). It is optimal by this measure, so others are compared with it. Away
    from the ends the frequency response is 1 / (1 + s (2 sin(w/2))^4) at the angular frequency w.
    """
    if len(path) < 3:
        return path.copy()
    inverse_strength = (2 * np.sin(np.pi / max(period, 2.0))) ** 4  # 1 / s
    # With second differences D, z = path - D' u where (D D' + 1 / s) u = D path (Reinsch, Smoothing by Spline
    # Functions, 1967): straight lines are exact for any s. The matrix is factored into L diag L', where L has
    # two diagonals below the main one.
    u = np.diff(path, 2, axis=0)
    n = len(u)
    diagonal, first_sub, second_sub = np.zeros(n), np.zeros(n + 1), np.zeros(n + 2)  # the last entries stay 0
    for i in range(n):
        diagonal[i] = 6 + inverse_strength
        sub = -4.0
        if i > 0:
            diagonal[i] -= first_sub[i - 1] ** 2 * diagonal[i - 1]
            sub -= first_sub[i - 1] * second_sub[i - 1] * diagonal[i - 1]
            u[i] -= first_sub[i - 1] * u[i - 1]
        if i > 1:
            diagonal[i] -= second_sub[i - 2] ** 2 * diagonal[i - 2]
            u[i] -= second_sub[i - 2] * u[i - 2]
        first_sub[i], second_sub[i] = sub / diagonal[i], 1 / diagonal[i]
    u /= diagonal[:, None]
    for i in range(n - 2, -1, -1):
        u[i] -= first_sub[i] * u[i + 1]
        if i + 2 < n:
            u[i] -= second_sub[i] * u[i + 2]
    smoothed = path.copy()
    smoothed[:-2] -= u
    smoothed[1:-1] += 2 * u
    smoothed[2:] -= u
    return smoothed
