"""THE coordinate convention, and the way between matrices and the numbers that people understand.

Points are (x, y) in pixels, x to the right, y down, the origin at the centre of the frame: pixel column i has its centre
at i + 0.5 - width / 2. Matrices are 3x3, float64, act on column vectors (x, y, 1) and are scaled so that m[2, 2] = 1.
With the origin in the centre, enlarging a frame by k multiplies translations by k and changes nothing else of a
similarity; `rescaled` does it for any matrix.

Parameters of a similarity are (x, y, angle, log_zoom): translation in pixels, angle in radians (positive turns x towards
y, clockwise on the screen), natural logarithm of the magnification.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrices = NDArray[np.float64]  # (..., 3, 3)
Parameters = NDArray[np.float64]  # (..., 4): x, y, angle, log_zoom


def to_matrices(parameters: Parameters) -> Matrices:
    """(..., 4) parameters -> (..., 3, 3) similarities: turn and magnify about the origin, then shift."""
    p = np.asarray(parameters, dtype=np.float64)
    cos = np.exp(p[..., 3]) * np.cos(p[..., 2])
    sin = np.exp(p[..., 3]) * np.sin(p[..., 2])
    m = np.zeros((*p.shape[:-1], 3, 3))
    m[..., 0, 0], m[..., 0, 1], m[..., 0, 2] = cos, -sin, p[..., 0]
    m[..., 1, 0], m[..., 1, 1], m[..., 1, 2] = sin, cos, p[..., 1]
    m[..., 2, 2] = 1.0
    return m


def to_parameters(matrices: Matrices) -> Parameters:
    """(..., 3, 3) -> (..., 4) parameters of the similarity nearest to each matrix's upper two rows. Angles lie in (-pi, pi]."""
    m = np.asarray(matrices, dtype=np.float64)
    cos = (m[..., 0, 0] + m[..., 1, 1]) / 2
    sin = (m[..., 1, 0] - m[..., 0, 1]) / 2
    return np.stack([m[..., 0, 2], m[..., 1, 2], np.arctan2(sin, cos), np.log(np.hypot(cos, sin))], axis=-1)


def apply(matrices: Matrices, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Carry points (..., P, 2) through matrices (..., 3, 3) -> (..., P, 2)."""
    moved = points @ np.swapaxes(matrices[..., :2, :2], -1, -2) + matrices[..., None, :2, 2]
    depth = points @ matrices[..., 2, :2, None] + matrices[..., 2, 2, None, None]
    return moved / depth


def normalized(matrices: Matrices) -> Matrices:
    """The same maps with m[2, 2] = 1."""
    return matrices / matrices[..., 2:3, 2:3]


def rescaled(matrices: Matrices, across: float, down: float) -> Matrices:
    """The same motion as seen on frames enlarged by `across` in width and `down` in height."""
    return np.diag([across, down, 1.0]) @ matrices @ np.diag([1 / across, 1 / down, 1.0])


def corners(width: float, height: float) -> NDArray[np.float64]:
    """(4, 2): the outer corners of a frame, clockwise from the top left."""
    x, y = width / 2, height / 2
    return np.array([[-x, -y], [x, -y], [x, y], [-x, y]])
