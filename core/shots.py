"""Detect cuts and duplicate frames.

Both are properties of two neighboring frames, computed once while motion is measured. The results are stored in
`Motion`, so that smoothing and zoom use the same shots.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MIN_SCENE_CORRELATION = 0.5  # correlation of a frame with the warped next one, below which the two are unrelated
MIN_DIFFERENCE = 4 / 255  # mean difference below which uncorrelated frames (flat, dark, noise) still are one scene

Planes = NDArray[np.floating[Any]]


def is_duplicate(first: Planes, second: Planes) -> bool:
    """Return whether the second frame repeats the first; luma (H, W) in [0, 1].

    The largest difference decides, not the mean: a mean hides a moving cursor. Half an 8-bit step is rounding.
    """
    return bool(np.abs(first - second).max() < 0.5 / 255)


def is_cut(first: Planes, second: Planes, flow: Planes) -> bool:
    """Return whether a new shot starts at the second frame.

    Luma is (H, W) in [0, 1]; flow is (2, H, W) in pixels, x and y.

    After a cut no flow maps one frame onto the other. The criterion is correlation, not difference, so that a flash or
    a change of exposure, which keep the structure, are not cuts. Both frames are reduced to a quarter of the size:
    noise averages out there, and details that the flow misplaces by a pixel have no weight.
    """
    reference, other, (flow_x, flow_y) = (_downscale_by_4(planes) for planes in (first, second, flow))
    warped = _sample_bilinear(other, flow_x / 4, flow_y / 4)
    if float(np.abs(reference - warped).mean()) < MIN_DIFFERENCE:
        return False
    a, b = ((plane - plane.mean()).ravel() for plane in (reference, warped))
    return float(a @ b) < MIN_SCENE_CORRELATION * max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-6)


def _downscale_by_4(planes: Planes) -> Planes:
    """Average 4 x 4 pixels: (..., H, W) -> (..., h, w).

    The last row and column are repeated to a multiple of 4.
    """
    *more, height, width = planes.shape
    planes = np.pad(planes, [(0, 0)] * len(more) + [(0, -height % 4), (0, -width % 4)], mode="edge")
    rows = planes[..., ::4, :] + planes[..., 1::4, :] + planes[..., 2::4, :] + planes[..., 3::4, :]
    return (rows[..., ::4] + rows[..., 1::4] + rows[..., 2::4] + rows[..., 3::4]) / 16


def _sample_bilinear(plane: Planes, flow_x: Planes, flow_y: Planes) -> Planes:
    """Sample a plane (h, w) bilinearly at each pixel plus its flow.

    Positions outside are clamped to the edge.
    """
    height, width = plane.shape
    x: Planes = np.clip(np.arange(width, dtype=np.int_) + flow_x, 0, width - 1)
    y: Planes = np.clip(np.arange(height, dtype=np.int_)[:, None] + flow_y, 0, height - 1)
    left, above = x.astype(np.intp), y.astype(np.intp)
    right, below = np.minimum(left + 1, width - 1), np.minimum(above + 1, height - 1)
    x, y = x - left, y - above
    upper = plane[above, left] * (1 - x) + plane[above, right] * x
    lower = plane[below, left] * (1 - x) + plane[below, right] * x
    return upper * (1 - y) + lower * y
