"""THE coordinate convention, and the way between matrices and the numbers that people understand.

Points are (x, y) in pixels, x to the right, y down, the origin at the centre of the frame: pixel column i has its
centre at i + 0.5 - width / 2. Matrices are 3x3, float64, act on column vectors (x, y, 1), and have m[2, 2] = 1. With
the origin in the centre, enlarging a frame by k multiplies translations by k and changes nothing else of a similarity;
`rescaled` does it for any matrix.

Two sets of numbers stand for a matrix. Parameters are for people: (x, y, angle, log_zoom), where the centre goes, in
pixels, and how its surroundings turn (radians; positive turns x towards y, clockwise on the screen) and grow (natural
logarithm). Tangents are for arithmetic: 8 numbers that can be averaged and multiplied, with nothing lost.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Matrices = NDArray[np.float64]  # (..., 3, 3)
Parameters = NDArray[np.float64]  # (..., 4): x, y, angle, log_zoom
Tangents = NDArray[np.float64]  # (..., 8): see to_tangents

PIECE = 1000  # frames: what numpy does with them at once stays within a few megabytes, however long the clip is


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
    """(..., 3, 3) -> (..., 4): where each matrix takes the centre, and the similarity nearest to what it does there.

    Angles lie in (-pi, pi].
    """
    turn, _, shift, _ = _parts(matrices)
    return np.stack([shift.real, shift.imag, np.angle(turn), np.log(np.abs(turn))], axis=-1)


def to_tangents(matrices: Matrices) -> Tangents:
    """(..., 3, 3) -> (..., 8). The identity becomes zeros; `to_matrices_of` is the exact way back.

    x, y: where the centre goes; angle, log_zoom: how its surroundings turn and grow; two of shear and two of
    perspective: how the rest differs from that similarity. Straight and even motion of the centre has tangents that lie
    on a line, whatever the picture turns meanwhile; the logarithm of the matrix would bend it into an arc.
    """
    turn, bend, shift, depth = _parts(matrices)
    similarity = [shift.real, shift.imag, np.angle(turn), np.log(np.abs(turn))]
    return np.stack([*similarity, bend.real, bend.imag, *np.moveaxis(depth, -1, 0)], axis=-1)


def to_matrices_of(tangents: Tangents) -> Matrices:
    """(..., 8) tangents -> (..., 3, 3)."""
    t = np.asarray(tangents, dtype=np.float64)
    turn, bend = np.exp(t[..., 3] + 1j * t[..., 2]), t[..., 4] + 1j * t[..., 5]
    m = np.empty((*t.shape[:-1], 3, 3))
    m[..., :2, 0], m[..., :2, 1] = _pair(turn * (1 + bend)), _pair(turn * (1j - 1j * bend))
    m[..., :2, 2], m[..., 2, :2], m[..., 2, 2] = t[..., :2], t[..., 6:], 1.0
    m[..., :2, :2] += m[..., :2, 2, None] * m[..., 2, None, :2]
    return m


def _parts(matrices: Matrices):
    """The plane as complex numbers z = x + iy: near the centre, a matrix does z -> turn * (z + bend * conj(z)) + shift.

    The last part is its lower row, (..., 2), which divides by 1 + depth . (x, y).
    """
    m = normalized(np.asarray(matrices, dtype=np.float64))
    near = m[..., :2, :2] - m[..., :2, 2, None] * m[..., 2, None, :2]
    turn = (near[..., 0, 0] + near[..., 1, 1] + 1j * (near[..., 1, 0] - near[..., 0, 1])) / 2
    rest = (near[..., 0, 0] - near[..., 1, 1] + 1j * (near[..., 1, 0] + near[..., 0, 1])) / 2
    return turn, rest / turn, m[..., 0, 2] + 1j * m[..., 1, 2], m[..., 2, :2]


def _pair(z: NDArray[np.complex128]) -> NDArray[np.float64]:
    return np.stack([z.real, z.imag], axis=-1)


def apply(matrices: Matrices, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Carry points (..., P, 2) through matrices (..., 3, 3) -> (..., P, 2)."""
    moved = points @ np.swapaxes(matrices[..., :2, :2], -1, -2) + matrices[..., None, :2, 2]
    depth = points @ matrices[..., 2, :2, None] + matrices[..., 2, 2, None, None]
    return moved / depth


def inverse(matrices: Matrices) -> Matrices:
    """The inverse maps; NaN for a matrix that has none.

    `np.linalg.inv` refuses all matrices for one that is singular, and rounding, which differs between CPUs, decides
    whether one that is nearly so counts as singular.
    """
    try:
        return np.linalg.inv(matrices).astype(np.float64)
    except np.linalg.LinAlgError:
        return np.reshape([_inverse_of_one(m) for m in np.reshape(matrices, (-1, 3, 3))], np.shape(matrices))


def _inverse_of_one(matrix: Matrices) -> Matrices:
    try:
        return np.linalg.inv(matrix).astype(np.float64)
    except np.linalg.LinAlgError:
        return np.full((3, 3), np.nan)


def regular(matrices: Matrices, most: float = 1e100) -> NDArray[np.bool_]:
    """(...,): whether each map has tangents and an inverse, on every CPU: rounding must not decide it.

    Its numbers are finite, it does not mirror the picture, and near the centre it neither stretches nor squeezes it by
    more than `most`, nor one direction a million times as much as another.
    """
    with np.errstate(all="ignore"):
        turn, bend, _, _ = _parts(matrices)
        longest, shortest = np.abs(turn) * (1 + np.abs(bend)), np.abs(turn) * (1 - np.abs(bend))
        sized = (longest < most) & (shortest > 1 / most) & (shortest > 1e-6 * longest)
        return sized & np.isfinite(normalized(matrices)).all(axis=(-1, -2))


def normalized(matrices: Matrices) -> Matrices:
    """The same maps with m[2, 2] = 1."""
    return matrices / matrices[..., 2:3, 2:3]


def pieces(count: int) -> Iterator[slice]:
    """So many frames in runs of at most `PIECE`: what is worked out for one after the other needs room for one."""
    for start in range(0, count, PIECE):
        yield slice(start, min(start + PIECE, count))


def rescaled(matrices: Matrices, across: float, down: float) -> Matrices:
    """The same motion as seen on frames enlarged by `across` in width and `down` in height."""
    return np.diag([across, down, 1.0]) @ matrices @ np.diag([1 / across, 1 / down, 1.0])


def corners(width: float, height: float) -> NDArray[np.float64]:
    """(4, 2): the outer corners of a frame, clockwise from the top left."""
    x, y = width / 2, height / 2
    return np.array([[-x, -y], [x, -y], [x, y], [-x, y]])
