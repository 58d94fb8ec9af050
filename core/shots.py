"""Detect scene cuts, duplicate frames and screen recordings.

All are properties of two neighboring frames, computed once while motion is measured. The results are stored in
`Motion`, so that smoothing and zoom use the same shots.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MIN_SCENE_CORRELATION = 0.5  # correlation of a frame with the warped next one, below which the two are unrelated
UNCHANGED = 0.6 / 255  # difference in luma that compression leaves in what does not change
SHARP_EDGE = 8 / 255  # difference of neighboring pixels that a motion of a fraction of a pixel would change
MIN_UNCHANGED_LINES = 0.02  # fraction of the rows, and of the columns, that a screen leaves unchanged
MIN_DIFFERENCE = 4 / 255  # mean difference below which uncorrelated frames may be flat, dark or noise
# Two dark scenes: the averages of blocks, in which noise cancels, are hardly correlated, and differ by at least one
# 8-bit level, and by more than the noise of pixels.
MIN_RELATED_CORRELATION, SCENE_BLOCKS = 0.8, (8, 16)
MIN_SCENE_DIFFERENCE, MIN_DIFFERENCE_PER_NOISE = 1 / 255, 0.3

Planes = NDArray[np.floating[Any]]


def is_duplicate(first: Planes, second: Planes) -> bool:
    """Return whether the second frame repeats the first; luma (H, W) in [0, 1].

    The largest difference decides, not the mean: a mean hides a moving cursor. Half an 8-bit step is rounding.
    """
    return bool(np.abs(first - second).max() < 0.5 / 255)


def is_screen(first: Planes, second: Planes) -> bool:
    """Return whether two frames are of a screen recording, without a camera.

    Luma is (H, W) in [0, 1]. Content that scrolls or plays in a window leaves whole rows and whole columns with sharp
    edges as they were. Under a moving camera nothing stays, and a logo or a ticker covers no row or no column. Bars of
    one color have no edges.
    """
    same = np.abs(first - second) < UNCHANGED
    for axis in (0, 1):
        lines = np.flatnonzero(same.all(axis=axis))
        if len(lines) < MIN_UNCHANGED_LINES * first.shape[1 - axis]:
            return False
        contrast = np.abs(np.diff(first.take(lines, axis=1 - axis), axis=axis)).max(axis=axis, initial=0)
        if np.count_nonzero(contrast > SHARP_EDGE) < MIN_UNCHANGED_LINES * first.shape[1 - axis]:
            return False
    return True


def is_cut(first: Planes, second: Planes, flow: Planes) -> bool:
    """Return whether there is a scene cut between two frames.

    Luma is (H, W) in [0, 1]; flow is (2, H, W) in pixels, x and y.

    After a cut, no flow maps one frame onto the other, and the frames do not correlate without motion either. The
    criterion is correlation, not difference, so that a flash or a change of exposure, which keep the structure, are not
    cuts. Both frames are reduced to a quarter of the size: noise averages out there, and details that the flow
    misplaces by a pixel have no weight. Dark frames differ by little; they have to pass `are_unrelated` as well.
    """
    reference, other = _downscale_by_4(first), _downscale_by_4(second)
    warped = _sample_bilinear(other, *(_downscale_by_4(flow) / 4))
    if max(_correlation(reference, warped), _correlation(reference, other)) >= MIN_SCENE_CORRELATION:
        return False
    if float(np.abs(reference - warped).mean()) >= MIN_DIFFERENCE:
        return True
    return are_unrelated(first, second) and are_unrelated(first, _sample_bilinear(second, *flow))


def are_unrelated(first: Planes, second: Planes) -> bool:
    """Return whether two frames show different scenes, in spite of noise.

    They may be dark. Luma (H, W) in [0, 1], the second one warped to the first. A gain or an offset of all pixels does
    not matter.
    """
    least = max(MIN_SCENE_DIFFERENCE, MIN_DIFFERENCE_PER_NOISE * _noise_level(first))
    for size in SCENE_BLOCKS:
        a, b = (means - means.mean() for means in (_block_means(first, size), _block_means(second, size)))
        products = float((a * a).sum()) * float((b * b).sum())
        if float((a * b).sum()) >= MIN_RELATED_CORRELATION * products**0.5:
            return False
        if size == SCENE_BLOCKS[0] and float(np.abs(a - b).mean()) < least:
            return False
    return True


def _noise_level(plane: Planes) -> float:
    """Estimate the standard deviation of white noise in luma (H, W).

    From the differences between pixels and the mean of their 2 x 2 block, whose deviation is sqrt(3/4) of it.
    """
    height, width = plane.shape
    mean = _block_means(plane, 2).repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    return float(np.median(np.abs(plane - mean))) / (0.6745 * 0.75**0.5)


def _block_means(plane: Planes, size: int) -> Planes:
    """Average blocks of size x size pixels; those at the end may be smaller."""
    for axis in (0, 1):
        starts = np.arange(0, plane.shape[axis], size, dtype=np.intp)
        counts = np.diff(np.append(starts, plane.shape[axis]))
        plane = np.add.reduceat(plane, starts, axis=axis) / np.expand_dims(counts, 1 - axis)
    return plane


def _correlation(first: Planes, second: Planes) -> float:
    """Correlation of two planes, from -1 to 1."""
    a, b = ((plane - plane.mean()).ravel() for plane in (first, second))
    return float(a @ b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-6)


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
