"""Residual motion on a mesh: what the homography of a step leaves of the motion between two frames.

Depth and textures that move by themselves leave such residuals (Liu et al., MeshFlow: Minimum Latency Online Video
Stabilization, 2016). They come from the correspondences that the homography was fitted to.
"""

from __future__ import annotations

import numpy as np

from .. import geometry
from ..path.mesh import MESH_SHAPE, MeshOffsets, fill_unknown
from .correspondences import Correspondences
from .gray_frame import Plane

MIN_WEIGHT = 0.3  # of a correspondence: in the middle of the frame, that of a texture as strong as MIN_TEXTURE
MAX_RESIDUAL = 0.05  # frame widths by which content moves against the camera: more is a wrong match
MIN_POINTS = 2  # correspondences near a vertex
MAX_BRIGHTNESS_CHANGE = 0.02  # of the mean luma, from one frame to the next


def vertex_residuals(matches: Correspondences, step: geometry.Matrices, height: int, width: int) -> MeshOffsets:
    """Return the median residual of the correspondences near each vertex.

    matches, step: in pixels of frames of `height` by `width`. Returns (*MESH_SHAPE, 2), in these pixels, in the second
    frame. Vertices with too few correspondences get the mean of their neighbors.
    """
    rows, columns = MESH_SHAPE
    residuals = matches.dst_points - geometry.transform_points(step, matches.src_points)
    x, y = matches.src_points.T
    column = np.rint((x / width + 0.5) * (columns - 1)).astype(np.intp)
    row = np.rint((y / height + 0.5) * (rows - 1)).astype(np.intp)
    is_valid = (matches.weights > MIN_WEIGHT) & (np.abs(residuals).max(axis=1, initial=0) < MAX_RESIDUAL * width)
    is_valid &= (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    vertex = (row * columns + column)[is_valid]
    values = np.full((rows * columns, 2), np.nan)
    counts = np.bincount(vertex, minlength=rows * columns)
    starts = np.cumsum(counts) - counts
    known = counts >= MIN_POINTS
    low, high = (starts + (counts - 1) // 2)[known], (starts + counts // 2)[known]
    for axis in (0, 1):
        of_axis = residuals[is_valid, axis]
        of_axis = of_axis[np.lexsort((of_axis, vertex))]
        values[known, axis] = (of_axis[low] + of_axis[high]) / 2
    return fill_unknown(values.reshape(1, rows, columns, 2).astype(np.float32))[0]


def changes_brightness(first: Plane, second: Plane) -> bool:
    """Whether so much light comes or goes between two planes that flow takes it for motion.

    The homography of a step does not suffer, because it averages over the frame.
    """
    before, after = float(first.mean()), float(second.mean())
    return abs(after - before) > MAX_BRIGHTNESS_CHANGE * max(before, 1e-3)


def no_residuals() -> MeshOffsets:
    """The residuals of a step that explains all motion, or none."""
    return np.zeros((*MESH_SHAPE, 2), np.float32)
