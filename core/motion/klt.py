"""Points worth following, spread over the frame, and where they are in the next: Lucas and Kanade's tracks, by OpenCV.

Points are chosen anew in every frame. A camera's step needs each of them for two frames only; so none has to be
replaced when it leaves or fades, none drifts, and what is measured of a pair does not depend on the frames before it.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..clip import Frames
from .correspondences import Correspondences, flow_weight
from .gray_frame import GrayFrame

if TYPE_CHECKING:
    from torch import Tensor

CELL_PIXELS = 18  # pixels; the best point of each square of this side is followed: 400 of a frame of 480 x 270
BLOCK_PIXELS = 5  # pixels of half the size: the side of the window whose texture is judged
WINDOW_PIXELS = 15  # pixels: the side of the window that is looked for in the next frame
PYRAMID_LEVELS = 3  # halvings: from the smallest picture, motions of some 50 pixels are found
FB_ERROR_PIXELS = (
    0.5  # pixels beside its start at which a point followed there and back is half believed; beyond twice, lost
)


class KltTracker:
    """Feature tracks, with a dense estimator beside them for who asks for a flow: tracks say nothing between points."""

    def __init__(self, cv2: ModuleType, dense_flow: Callable[[Frames, Frames], Tensor]) -> None:
        self._cv2, self._dense_flow = cv2, dense_flow

    def __call__(self, first: Frames, second: Frames) -> Tensor:
        """The dense estimator's flow, as `FlowModel` says."""
        return self._dense_flow(first, second)

    def track_points(self, first: GrayFrame, second: GrayFrame) -> Correspondences:
        """Good features of the first frame (Shi and Tomasi, 1994) and where they went, in pixels of the frames.

        What does not come back to its start when followed backwards is left out.
        """
        height, width = first.plane.shape
        if min(height, width) < 2 * WINDOW_PIXELS:
            return Correspondences(np.empty((0, 2)), np.empty((0, 2)), np.empty(0))
        points, weights = self._select_features(first)
        settings = {
            "winSize": (WINDOW_PIXELS, WINDOW_PIXELS),
            "maxLevel": PYRAMID_LEVELS,
            "criteria": (self._cv2.TERM_CRITERIA_COUNT | self._cv2.TERM_CRITERIA_EPS, 10, 0.03),
        }
        there, found, _ = self._cv2.calcOpticalFlowPyrLK(
            first.plane_uint8, second.plane_uint8, points, None, **settings
        )
        back, returned, _ = self._cv2.calcOpticalFlowPyrLK(
            second.plane_uint8, first.plane_uint8, there, None, **settings
        )
        astray = np.hypot(*(back - points).T)
        kept = (found[:, 0] > 0) & (returned[:, 0] > 0) & (astray < 2 * FB_ERROR_PIXELS) & (weights > 0)
        weights = (weights / (1 + (astray / FB_ERROR_PIXELS) ** 2))[kept]
        middle = np.array([0.5 - width / 2, 0.5 - height / 2])
        start, end = (place[kept].astype(np.float64) + middle for place in (points, there))
        return Correspondences(start, end, weights)

    def _select_features(self, frame: GrayFrame) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """The point of each square with the most texture in both directions: pixel indices (P, 2), and weights (P,)."""
        half, side = frame.half, CELL_PIXELS // 2
        # OpenCV's slopes are twice ours.
        texture = np.sqrt(self._cv2.cornerMinEigenVal(half.plane, BLOCK_PIXELS).clip(min=0)) / 2
        if half.ignore_mask is not None:
            texture[half.ignore_mask] = 0
        rows, columns = (n // side for n in texture.shape)
        cells = texture[: rows * side, : columns * side].reshape(rows, side, columns, side)
        cells = cells.transpose(0, 2, 1, 3).reshape(rows, columns, -1)
        best = cells.argmax(axis=-1)
        y, x = np.arange(rows)[:, None] * side + best // side, np.arange(columns) * side + best % side
        points = np.stack([x.ravel(), y.ravel()], axis=-1) * 2 + 0.5  # halves have their centres between pixels
        return points.astype(np.float32), flow_weight(cells.max(axis=-1).astype(np.float64)).ravel()
