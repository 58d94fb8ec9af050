"""Where the camera's motion was seen so far: a subject that grows or comes close does not become the camera.

Of two motions in a picture, neither is the camera's by itself; most of the frame is a guess, and where both have about
half, each frame would guess anew and the picture would leap between them. What was background a moment ago most likely
still is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from .correspondences import Correspondences

InlierMap = NDArray[np.float64]  # (9, 16): of each part of the frame, how much of it followed the camera, in [0, 1]

ALL_INLIERS: InlierMap = np.ones((9, 16))
EMA_DECAY = 0.7  # how much of what was known is kept at each frame: half is forgotten after two, nearly all after ten
MIN_WEIGHT = 0.3  # weight that is left to a part which never followed, for it may be uncovered background
HALF_WEIGHT_PIXELS = 0.5  # pixels between a point and the camera's motion at which it is taken to follow by half


def sample_inlier_map(inlier_map: InlierMap, x: NDArray, y: NDArray, height: int, width: int) -> NDArray[np.float64]:
    """What is known of places x, y (P,) in pixels from the centre of a frame of that size: (P,) in [0, 1]."""
    return inlier_map.ravel()[_cell_indices(x, y, height, width)]


def apply_inlier_map(matches: Correspondences, inlier_map: InlierMap, height: int, width: int) -> Correspondences:
    """The same points, those where the camera was not followed weighing less. They lie in a frame of that size."""
    known = sample_inlier_map(inlier_map, matches.src_points[:, 0], matches.src_points[:, 1], height, width)
    return matches._replace(weights=matches.weights * (MIN_WEIGHT + known))


def update_inlier_map(
    inlier_map: InlierMap, matches: Correspondences, step: geometry.Matrices, height: int, width: int
) -> InlierMap:
    """What is known after the camera has done `step` and points were found to move. Parts without points stay."""
    parts = _cell_indices(matches.src_points[:, 0], matches.src_points[:, 1], height, width)
    off = np.square(geometry.transform_points(step, matches.src_points) - matches.dst_points).sum(axis=-1)
    follow = np.bincount(parts, matches.weights / (1 + off / HALF_WEIGHT_PIXELS**2), inlier_map.size)
    heard = np.bincount(parts, matches.weights, inlier_map.size)
    now = np.where(heard > 0, follow / np.where(heard > 0, heard, 1), inlier_map.ravel())
    return EMA_DECAY * inlier_map + (1 - EMA_DECAY) * now.reshape(inlier_map.shape)


def _cell_indices(x: NDArray, y: NDArray, height: int, width: int) -> NDArray[np.intp]:
    """(P,): the number of the part in which each place lies."""
    rows, columns = ALL_INLIERS.shape
    row = ((y / height + 0.5) * rows).astype(np.intp).clip(0, rows - 1)
    column = ((x / width + 0.5) * columns).astype(np.intp).clip(0, columns - 1)
    return row * columns + column
