"""KLT feature tracking between two frames, with OpenCV.

Features are selected anew in every frame. The camera motion needs each of them for two frames only; so none has to be
replaced when it leaves the frame, none drifts, and the result of a pair does not depend on the frames before it.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...clip import Frames
from .correspondences import Correspondences, flow_weight
from .gray_frame import GrayFrame

if TYPE_CHECKING:
    from torch import Tensor

CELL_PIXELS = 18  # side of the cells with one feature each: 400 in a frame of 480 x 270
BLOCK_PIXELS = 5  # side of the window of the structure tensor, in pixels of the half size
WINDOW_PIXELS = 15  # side of the window that is tracked
PYRAMID_LEVELS = 3  # halvings: sufficient for motions of about 50 pixels
FB_ERROR_PIXELS = 0.5  # forward-backward error at which the weight is halved; twice that rejects the point


class KltTracker:
    """A feature tracker that is also a `FlowModel`.

    Calls as a `FlowModel` use the dense estimator, as tracks give no dense flow.
    """

    def __init__(self, cv2: ModuleType, dense_flow: Callable[[Frames, Frames], Tensor]) -> None:
        self._cv2, self._dense_flow = cv2, dense_flow

    def __call__(self, first: Frames, second: Frames) -> Tensor:
        """Dense flow, see `FlowModel`."""
        return self._dense_flow(first, second)

    def track_points(self, first: GrayFrame, second: GrayFrame) -> Correspondences:
        """Track features of the first frame into the second.

        Features are those of Shi and Tomasi (1994); points are in pixels of the frames. Points that fail the
        forward-backward test are rejected.
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
        track = self._cv2.calcOpticalFlowPyrLK
        moved, forward_status, _ = track(first.plane_uint8, second.plane_uint8, points, None, **settings)
        returned, backward_status, _ = track(second.plane_uint8, first.plane_uint8, moved, None, **settings)
        error = np.hypot(*(returned - points).T)
        valid = (forward_status[:, 0] > 0) & (backward_status[:, 0] > 0) & (error < 2 * FB_ERROR_PIXELS) & (weights > 0)
        weights = (weights / (1 + (error / FB_ERROR_PIXELS) ** 2))[valid]
        to_center = np.array([0.5 - width / 2, 0.5 - height / 2])
        src_points, dst_points = (p[valid].astype(np.float64) + to_center for p in (points, moved))
        return Correspondences(src_points, dst_points, weights)

    def _select_features(self, frame: GrayFrame) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Select the pixel of each cell with the most texture in both directions.

        Returns indices (P, 2) and weights (P,).
        """
        half, side = frame.half, CELL_PIXELS // 2
        # OpenCV's gradients are twice those of `gradient`.
        texture = np.sqrt(self._cv2.cornerMinEigenVal(half.plane, BLOCK_PIXELS).clip(min=0)) / 2
        if half.ignore_mask is not None:
            texture[half.ignore_mask] = 0
        rows, columns = (n // side for n in texture.shape)
        cells = texture[: rows * side, : columns * side].reshape(rows, side, columns, side)
        cells = cells.transpose(0, 2, 1, 3).reshape(rows, columns, -1)
        best = cells.argmax(axis=-1)
        y = np.arange(rows, dtype=np.int_)[:, None] * side + best // side
        x = np.arange(columns, dtype=np.int_) * side + best % side
        points = np.stack([x.ravel(), y.ravel()], axis=-1) * 2 + 0.5  # half-size pixel centers lie between pixels
        return points.astype(np.float32), flow_weight(cells.max(axis=-1).astype(np.float64)).ravel()
