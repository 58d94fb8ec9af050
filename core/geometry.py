"""The coordinate convention and conversions of matrices, parameters and tangents.

Convention
    points: (x, y) in pixels, x to the right, y down, origin at the center of the frame; pixel column i has its center
        at i + 0.5 - width / 2
    matrices: 3x3, float64, act on column vectors (x, y, 1), m[2, 2] = 1
    scaling a frame by k multiplies translations by k and changes nothing else of a similarity; `rescale` does it for
        any matrix

A matrix has two vector representations. Parameters are for display: (x, y, angle, log_zoom), the image of the center
in pixels, the local rotation (radians; positive turns x towards y, clockwise on the screen) and the natural logarithm
of the local scale. Tangents are for arithmetic: 8 numbers that can be averaged and multiplied, without loss.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Matrices = NDArray[np.float64]  # (..., 3, 3)
Parameters = NDArray[np.float64]  # (..., 4): x, y, angle, log_zoom
Tangents = NDArray[np.float64]  # (..., 8): see to_tangents

CHUNK_FRAMES = 1000  # frames per NumPy operation: temporaries stay within a few megabytes for any clip length


def matrices_from_parameters(parameters: Parameters) -> Matrices:
    """Convert parameters (..., 4) to similarities (..., 3, 3).

    Rotates and scales about the origin, then translates.
    """
    p = np.asarray(parameters, dtype=np.float64)
    cos = np.exp(p[..., 3]) * np.cos(p[..., 2])
    sin = np.exp(p[..., 3]) * np.sin(p[..., 2])
    m = np.zeros((*p.shape[:-1], 3, 3))
    m[..., 0, 0], m[..., 0, 1], m[..., 0, 2] = cos, -sin, p[..., 0]
    m[..., 1, 0], m[..., 1, 1], m[..., 1, 2] = sin, cos, p[..., 1]
    m[..., 2, 2] = 1.0
    return m


def to_parameters(matrices: Matrices) -> Parameters:
    """Convert matrices (..., 3, 3) to parameters (..., 4).

    The parameters are the image of the center, and the nearest similarity there. Angles lie in (-pi, pi].
    """
    rotation, _, shift, _ = _decompose(matrices)
    return np.stack([shift.real, shift.imag, np.angle(rotation), np.log(np.abs(rotation))], axis=-1)


def to_tangents(matrices: Matrices) -> Tangents:
    """Convert matrices (..., 3, 3) to tangents (..., 8).

    The identity becomes zeros; `matrices_from_tangents` is the exact inverse.

    x, y: image of the center; angle, log_zoom: local rotation and scale; two of shear and two of perspective: the
    difference from that similarity. Uniform linear motion of the center has collinear tangents, whatever the rotation
    meanwhile; with the matrix logarithm it would be an arc.
    """
    rotation, shear, shift, depth = _decompose(matrices)
    similarity = [shift.real, shift.imag, np.angle(rotation), np.log(np.abs(rotation))]
    return np.stack([*similarity, shear.real, shear.imag, *np.moveaxis(depth, -1, 0)], axis=-1)


def matrices_from_tangents(tangents: Tangents) -> Matrices:
    """Convert tangents (..., 8) to matrices (..., 3, 3)."""
    t = np.asarray(tangents, dtype=np.float64)
    rotation, shear = np.exp(t[..., 3] + 1j * t[..., 2]), t[..., 4] + 1j * t[..., 5]
    m = np.empty((*t.shape[:-1], 3, 3))
    m[..., :2, 0], m[..., :2, 1] = _real_imag(rotation * (1 + shear)), _real_imag(rotation * (1j - 1j * shear))
    m[..., :2, 2], m[..., 2, :2], m[..., 2, 2] = t[..., :2], t[..., 6:], 1.0
    m[..., :2, :2] += m[..., :2, 2, None] * m[..., 2, None, :2]
    return m


def accumulate_roll(poses: Matrices) -> NDArray[np.float64]:
    """Return the roll of each pose (n, 3, 3) from the first one on: (n,), in radians.

    It counts complete turns, as tangents and parameters do not: consecutive poses turn by less than half a turn.
    """
    steps = to_parameters(inverse(poses[:-1]) @ poses[1:])[:, 2]
    return np.append(np.zeros(min(len(poses), 1)), np.cumsum(steps))


def unwrap_near(angles: NDArray[np.float64], expected: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Add the complete turns that bring each angle nearest to the expected one."""
    return angles + 2 * np.pi * np.round((expected - angles) / (2 * np.pi))


def _decompose(
    matrices: Matrices,
) -> tuple[NDArray[np.complex128], NDArray[np.complex128], NDArray[np.complex128], NDArray[np.float64]]:
    """Decompose matrices into (rotation, shear, shift, depth).

    Points are complex numbers z = x + iy. Near the center a matrix maps z -> rotation * (z + shear * conj(z)) + shift.
    depth, (..., 2), is its lower row, which divides by 1 + depth . (x, y).
    """
    m = normalize(np.asarray(matrices, dtype=np.float64))
    near = m[..., :2, :2] - m[..., :2, 2, None] * m[..., 2, None, :2]
    rotation = (near[..., 0, 0] + near[..., 1, 1] + 1j * (near[..., 1, 0] - near[..., 0, 1])) / 2
    rest = (near[..., 0, 0] - near[..., 1, 1] + 1j * (near[..., 1, 0] + near[..., 0, 1])) / 2
    return rotation, rest / rotation, m[..., 0, 2] + 1j * m[..., 1, 2], m[..., 2, :2]


def _real_imag(z: NDArray[np.complex128]) -> NDArray[np.float64]:
    return np.stack([z.real, z.imag], axis=-1)


def transform_points(matrices: Matrices, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Map points (..., P, 2) by matrices (..., 3, 3) -> (..., P, 2)."""
    moved = points @ np.swapaxes(matrices[..., :2, :2], -1, -2) + matrices[..., None, :2, 2]
    depth = points @ matrices[..., 2, :2, None] + matrices[..., 2, 2, None, None]
    return moved / depth


def inverse(matrices: Matrices) -> Matrices:
    """Inverse matrices, not normalized; NaN for a singular matrix.

    `np.linalg.inv` raises LinAlgError for a whole array if one matrix is singular, and for a nearly singular one it
    depends on rounding, which differs between CPUs.
    """
    try:
        return np.linalg.inv(matrices).astype(np.float64)
    except np.linalg.LinAlgError:
        return np.reshape([_invert_one(m) for m in np.reshape(matrices, (-1, 3, 3))], np.shape(matrices))


def _invert_one(matrix: Matrices) -> Matrices:
    try:
        return np.linalg.inv(matrix).astype(np.float64)
    except np.linalg.LinAlgError:
        return np.full((3, 3), np.nan)


def is_regular(matrices: Matrices, max_scale: float = 1e100) -> NDArray[np.bool_]:
    """Return whether each matrix (..., 3, 3) has tangents and an inverse: (...,).

    The criterion leaves a margin for rounding. Regular matrices are finite, do not mirror, scale by less than
    `max_scale` and more than its inverse near the center, and scale no direction a million times as much as another.
    """
    with np.errstate(all="ignore"):
        rotation, shear, _, _ = _decompose(matrices)
        longest = np.abs(rotation) * (1 + np.abs(shear))
        shortest = np.abs(rotation) * (1 - np.abs(shear))
        is_bounded = (longest < max_scale) & (shortest > 1 / max_scale) & (shortest > 1e-6 * longest)
        return is_bounded & np.isfinite(normalize(matrices)).all(axis=(-1, -2))


def normalize(matrices: Matrices) -> Matrices:
    """Scale homographies so that m[2, 2] = 1."""
    return matrices / matrices[..., 2:3, 2:3]


def chunks(count: int) -> Iterator[slice]:
    """Yield slices of at most `CHUNK_FRAMES` that cover `count` frames."""
    for start in range(0, count, CHUNK_FRAMES):
        yield slice(start, min(start + CHUNK_FRAMES, count))


def rescale(matrices: Matrices, scale_x: float, scale_y: float) -> Matrices:
    """Convert a motion to frames whose width and height are scaled.

    `scale_x` multiplies the width and `scale_y` the height.
    """
    return np.diag([scale_x, scale_y, 1.0]) @ matrices @ np.diag([1 / scale_x, 1 / scale_y, 1.0])


def corners(width: float, height: float) -> NDArray[np.float64]:
    """(4, 2): the outer corners of a frame, clockwise from the top left."""
    x, y = width / 2, height / 2
    return np.array([[-x, -y], [x, -y], [x, y], [-x, y]])
