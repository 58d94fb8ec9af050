"""Limit how far a mesh bends straight lines.

The offsets of a frame are split into an affine part, which keeps lines straight, and a remainder whose length is
limited. Between vertices both are interpolated linearly, so that no point of a line is farther from a straight one than
the limit, whatever the offsets were.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..path.mesh import MeshOffsets, mesh_vertices

WEIGHT_EXPONENT = 0.75  # of the inverse energy: above 0.5, the influence of a near thing falls with its deviation
ITERATIONS = 40  # of the fit; the bound holds after any number

Array = NDArray[np.float64]


def limit_bend(deviation: MeshOffsets, limit: float, held: float, window: int) -> MeshOffsets:
    """Return the offsets nearest to deviations that bend lines by `limit` at most.

    deviation: (n, *MESH_SHAPE, 2), of consecutive frames, in pixels. limit: pixels. held: deviation in pixels up to
    which the homography holds a vertex; such vertices count most, so that those with a large deviation move no others.
    window: frames over which deviations are averaged for that. Minimizes the weighted squares of what is left.
    """
    basis = _affine_basis()
    values = deviation.reshape(len(deviation), -1, 2).astype(np.float64)
    energy = _moving_mean(np.square(values).sum(axis=-1), window)
    weights = (energy + held**2) ** -WEIGHT_EXPONENT
    weighted: Array = basis.T * weights[:, None, :]
    fit = np.asarray(np.linalg.solve(weighted @ basis, weighted), np.float64)  # (n, 3, vertices)
    affine: Array = np.zeros((len(values), basis.shape[1], 2))
    for _ in range(ITERATIONS):
        remainder = values - basis @ affine
        affine += fit @ (remainder - _clip_length(remainder, limit))
    flat = basis @ affine
    return (flat + _clip_length(values - flat, limit)).reshape(deviation.shape).astype(np.float32)


def _affine_basis() -> Array:
    """(vertices, 3): 1, x and y of the vertices of a frame."""
    vertices = mesh_vertices(1.0, 1.0).reshape(-1, 2)
    return np.concatenate([np.ones((len(vertices), 1)), vertices], axis=1)


def _clip_length(vectors: Array, limit: float) -> Array:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors * np.minimum(1, limit / np.maximum(length, 1e-12))


def _moving_mean(values: Array, window: int) -> Array:
    """Mean of columns (n, k) over the rows within half a window, fewer at the ends."""
    radius, count = window // 2, len(values)
    sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    first, last = (np.clip(np.arange(count) + step, 0, count) for step in (-radius, radius + 1))
    return (sums[last] - sums[first]) / (last - first)[:, None]
