"""Points of one frame and where they are in the next: what a dense flow says of them, and how far it is believed.

Estimators that find points themselves (features.py) come to the same three arrays.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .gray_frame import Plane, gradient

GRID_PIXELS = 6  # distance in the flow's pixels of the points at which it is read; nearer neighbours say the same
MIN_TEXTURE = 0.003  # texture, in grey levels of 1 per pixel, at which flow begins to see more than noise


class Correspondences(NamedTuple):
    """points: (P, 2) float64, pixels from the centre. moved: (P, 2), where they went. weights: (P,), >= 0, of each."""

    src_points: NDArray[np.float64]
    dst_points: NDArray[np.float64]
    weights: NDArray[np.float64]


def sample_flow(flow: Plane, gray: Plane, ignore_mask: NDArray[np.bool_] | None = None) -> Correspondences:
    """Read a flow (2, h, w) from the frame `grey` (h, w) in the middle of each small square, in the flow's pixels.

    hidden: (h, w), True where the flow is not the camera's.
    """
    height, width = gray.shape
    weight = flow_weight(texture_strength(gray))
    rows, columns = (
        np.minimum(np.arange(n) * GRID_PIXELS + GRID_PIXELS // 2, last - 1)
        for n, last in zip(weight.shape, (height, width), strict=True)
    )
    y, x = (g.ravel() for g in np.meshgrid(rows, columns, indexing="ij"))
    weights = weight.ravel()
    if ignore_mask is not None:
        weights = weights * ~ignore_mask[y, x]
    points = np.stack([x + 0.5 - width / 2, y + 0.5 - height / 2], axis=-1)
    moved = points + flow[:, y, x].T
    return Correspondences(points, moved, weights)


def texture_strength(gray: Plane) -> NDArray[np.float64]:
    """How well the motion of each small square is determined in both directions: (h, w) -> (rows, columns), >= 0.

    The smaller eigenvalue of the structure tensor (Shi and Tomasi, Good Features to Track, 1994), square-rooted: in
    grey levels per pixel. Flat areas and straight edges have almost none, and what flow says there is a guess.
    """
    dx, dy = gradient(gray)
    xx, xy, yy = (_cell_means(product) for product in (dx * dx, dx * dy, dy * dy))
    smaller = (xx + yy) / 2 - np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
    return np.sqrt(np.maximum(smaller, 0))


def flow_weight(texture: NDArray[np.float64]) -> NDArray[np.float64]:
    """(rows, columns) of texture -> how far the flow there is to be believed as the camera's, in [0, 2).

    Once there is enough texture to see motion at all, more of it does not count for more: a richly patterned subject
    must not outvote a plain background. The edge of the picture counts for more than its middle, where subjects are.
    """
    rows, columns = (np.abs(np.linspace(-1, 1, n)) if n > 1 else np.zeros(1) for n in texture.shape)
    return texture / (texture + MIN_TEXTURE) * (0.6 + np.maximum(rows[:, None], columns))


def _cell_means(plane: Plane) -> NDArray[np.float64]:
    """Over squares of GRID x GRID pixels, those at the right and lower edge smaller: (h, w) -> (rows, columns)."""
    rows, columns = (np.arange(0, n, GRID_PIXELS) for n in plane.shape)
    sums = np.add.reduceat(np.add.reduceat(plane, rows, axis=0), columns, axis=1)
    sizes = (np.diff([*starts, n]) for starts, n in zip((rows, columns), plane.shape, strict=True))
    return sums.astype(np.float64) / np.outer(*sizes)
