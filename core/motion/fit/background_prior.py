"""A temporal prior for the background.

An inlier map of the camera motion is averaged over frames.

Of two motions in a frame, either can be the camera's; the majority is only a guess. Where both cover about half of the
frame, independent decisions per frame would alternate and the output would jump. Regions that were background in the
previous frames most likely still are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import geometry
from ..optical_flow.correspondences import Correspondences

Coords = NDArray[np.floating[Any]]
InlierMap = NDArray[np.float64]  # (9, 16): fraction of inliers of the camera motion per cell of the frame, in [0, 1]

ALL_INLIERS: InlierMap = np.ones((9, 16))
EMA_DECAY = 0.7  # weight of the previous map at each frame: half of it is gone after two frames, nearly all after ten
MIN_WEIGHT = 0.3  # weight of a cell that never had inliers: it may be uncovered background
HALF_WEIGHT_PIXELS = 0.5  # residual at which a point counts as half an inlier


def sample_inlier_map(inlier_map: InlierMap, x: Coords, y: Coords, height: int, width: int) -> NDArray[np.float64]:
    """Sample the map at points of a frame.

    x, y: (P,), in pixels from the center; height, width: size of the frame. Returns (P,) in [0, 1].
    """
    return inlier_map.ravel()[cell_indices(x, y, height, width)]


def apply_inlier_map(matches: Correspondences, inlier_map: InlierMap, height: int, width: int) -> Correspondences:
    """Reduce the weights of points where the map has few inliers.

    height, width: size of the frame of the source points.
    """
    prior = sample_inlier_map(inlier_map, matches.src_points[:, 0], matches.src_points[:, 1], height, width)
    return matches._replace(weights=matches.weights * (MIN_WEIGHT + prior))


def update_inlier_map(
    inlier_map: InlierMap, matches: Correspondences, step: geometry.Matrices, height: int, width: int
) -> InlierMap:
    """Update the map with the residuals of `matches` under the camera motion `step`.

    Cells without points keep their value. height, width: size of the frame of the source points.
    """
    cells = cell_indices(matches.src_points[:, 0], matches.src_points[:, 1], height, width)
    residuals = np.square(geometry.transform_points(step, matches.src_points) - matches.dst_points).sum(axis=-1)
    inliers = np.bincount(cells, matches.weights / (1 + residuals / HALF_WEIGHT_PIXELS**2), inlier_map.size)
    total = np.bincount(cells, matches.weights, inlier_map.size)
    current = np.where(total > 0, inliers / np.where(total > 0, total, 1), inlier_map.ravel())
    return EMA_DECAY * inlier_map + (1 - EMA_DECAY) * current.reshape(inlier_map.shape)


def cell_indices(x: Coords, y: Coords, height: int, width: int) -> NDArray[np.intp]:
    """(P,): flat index of the cell that contains each point."""
    rows, columns = ALL_INLIERS.shape
    row = ((y / height + 0.5) * rows).astype(np.intp).clip(0, rows - 1)
    column = ((x / width + 0.5) * columns).astype(np.intp).clip(0, columns - 1)
    return row * columns + column
