"""Point correspondences between two frames, from a dense flow.

They are sampled on a grid and weighted by texture. Sparse trackers (klt.py) return the same type.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .gray_frame import Plane, gradient

GRID_PIXELS = 6  # distance between samples of the flow, in its pixels; closer samples are redundant
MIN_TEXTURE = 0.003  # gradient, in luma [0, 1] per pixel, above which flow measures more than noise


class Correspondences(NamedTuple):
    """Points of two frames that show the same content, with weights.

    src_points: (P, 2) float64, in pixels from the center. dst_points: (P, 2), in the second frame. weights: (P,), >= 0.
    """

    src_points: NDArray[np.float64]
    dst_points: NDArray[np.float64]
    weights: NDArray[np.float64]


def sample_flow(flow: Plane, gray: Plane, ignore_mask: NDArray[np.bool_] | None = None) -> Correspondences:
    """Sample a flow at the center of each grid cell, with weights by texture.

    flow: (2, h, w) of the frame `gray` (h, w); points are in its pixels. ignore_mask: (h, w), True where the motion is
    not the camera's.
    """
    height, width = gray.shape
    weight = flow_weight(texture_strength(gray))
    rows, columns = (
        np.minimum(np.arange(n, dtype=np.int_) * GRID_PIXELS + GRID_PIXELS // 2, last - 1)
        for n, last in zip(weight.shape, (height, width), strict=True)
    )
    y, x = (g.ravel() for g in np.meshgrid(rows, columns, indexing="ij"))
    weights = weight.ravel()
    if ignore_mask is not None:
        weights = weights * ~ignore_mask[y, x]
    points = np.stack([x + 0.5 - width / 2, y + 0.5 - height / 2], axis=-1)
    moved = np.add(points, flow[:, y, x].T, dtype=np.float64)
    return Correspondences(points, moved, weights)


def texture_strength(gray: Plane) -> NDArray[np.float64]:
    """Return the texture of each grid cell in its weaker direction.

    (h, w) -> (rows, columns), >= 0.

    The square root of the smaller eigenvalue of the structure tensor (Shi and Tomasi, Good Features to Track, 1994), in
    luma per pixel. It is almost 0 in flat areas and on straight edges, where flow is a guess.
    """
    dx, dy = gradient(gray)
    xx, xy, yy = (_cell_means(product) for product in (dx * dx, dx * dy, dy * dy))
    min_eigenvalue = (xx + yy) / 2 - np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
    return np.sqrt(np.maximum(min_eigenvalue, 0))


def flow_weight(texture: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weight of the flow as camera motion from texture (rows, columns), in [0, 2).

    The weight saturates: a richly textured subject must not outvote a plain background. The edge of the frame has more
    weight than the middle, where subjects are.
    """
    rows, columns = (np.abs(np.linspace(-1, 1, n)) if n > 1 else np.zeros(1) for n in texture.shape)
    return texture / (texture + MIN_TEXTURE) * (0.6 + np.maximum(rows[:, None], columns))


def _cell_means(plane: Plane) -> NDArray[np.float64]:
    """Average squares of GRID_PIXELS: (h, w) -> (rows, columns).

    Squares at the right and lower edge contain only the pixels of the frame.
    """
    rows, columns = (np.arange(0, n, GRID_PIXELS, dtype=np.int_) for n in plane.shape)
    sums = np.add.reduceat(np.add.reduceat(plane, rows, axis=0), columns, axis=1)
    sizes = (np.diff([*starts, n]) for starts, n in zip((rows, columns), plane.shape, strict=True))
    return sums.astype(np.float64) / np.outer(*sizes)
