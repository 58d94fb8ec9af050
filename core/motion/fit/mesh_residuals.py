"""Residual motion between two frames at the vertices of a mesh.

It is what the homography of a step leaves. Depth and textures that swim leave residuals (Liu et al., MeshFlow: Minimum
Latency Online Video Stabilization, 2016). They come from the correspondences that the homography was fitted to.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ... import geometry
from ...path.mesh import MESH_SHAPE, MeshOffsets, fill_unknown, interpolate_mesh
from ..optical_flow.correspondences import Correspondences
from ..optical_flow.gray_frame import GrayFrame, Plane

MIN_WEIGHT = 0.3  # of a correspondence: in the middle of the frame, that of a texture as strong as MIN_TEXTURE
MAX_RESIDUAL = 0.05  # frame widths by which content moves against the camera: more is a wrong match
MAX_BRIGHTNESS_CHANGE = 0.02  # of the mean luma, from one frame to the next
MIN_IMPROVEMENT = 0.005  # share of the difference between two frames that residuals have to explain
POINT_STRIDE = 3  # of the selected pixels that are compared


def vertex_residuals(matches: Correspondences, step: geometry.Matrices, height: int, width: int) -> MeshOffsets:
    """Return the median residual of the correspondences near each vertex.

    matches, step: in pixels of frames of `height` by `width`. Returns (*MESH_SHAPE, 2), in these pixels, in the second
    frame. Vertices without correspondences get the mean of their neighbors.
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
    known = counts > 0
    low, high = (starts + (counts - 1) // 2)[known], (starts + counts // 2)[known]
    for axis in (0, 1):
        of_axis = residuals[is_valid, axis]
        of_axis = of_axis[np.lexsort((of_axis, vertex))]
        values[known, axis] = (of_axis[low] + of_axis[high]) / 2
    return fill_unknown(values.reshape(1, rows, columns, 2).astype(np.float32))[0]


def are_visible(residuals: MeshOffsets, step: geometry.Matrices, first: GrayFrame, second: GrayFrame) -> bool:
    """Whether residuals explain the second frame.

    The frames have to agree better along the step with its residuals than along the step alone.
    Flow errs where there is little texture, much noise or changing light. The step does not suffer, because it averages
    over the frame and is aligned with the pixels. residuals: (*MESH_SHAPE, 2), in pixels of the frames, as `step` is.
    """
    light = float(first.plane.mean())
    if abs(float(second.plane.mean()) - light) > MAX_BRIGHTNESS_CHANGE * max(light, 1e-3):
        return False
    level, (height, width) = first.coarse, second.coarse.layers.shape[:2]  # of the half size
    points = np.stack([level.x[::POINT_STRIDE], level.y[::POINT_STRIDE]], axis=-1).astype(np.float64)
    straight = geometry.transform_points(geometry.rescale(step, 0.5, 0.5), points)
    bent = straight + interpolate_mesh(residuals, points, width, height) / 2
    index = [np.add(each, [(width - 1) / 2, (height - 1) / 2]) for each in (straight, bent)]
    is_inside = np.logical_and.reduce([((i >= 0) & (i < [width - 1, height - 1])).all(axis=1) for i in index])
    if not is_inside.any():
        return False
    luma, layer = level.values[0, ::POINT_STRIDE][is_inside], second.coarse.layers[..., 0]
    without, with_residuals = (float(np.abs(_sample(layer, i[is_inside]) - luma).mean()) for i in index)
    return with_residuals < (1 - MIN_IMPROVEMENT) * without


def _sample(layer: Plane, index: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values (P,) of a plane at pixel indices (P, 2) inside it, linearly."""
    left, top = index.astype(np.intp).T
    along_x, along_y = (index - np.floor(index)).T
    upper = layer[top, left] * (1 - along_x) + layer[top, left + 1] * along_x
    lower = layer[top + 1, left] * (1 - along_x) + layer[top + 1, left + 1] * along_x
    return upper * (1 - along_y) + lower * along_y


def no_residuals() -> MeshOffsets:
    """The residuals of a step that explains all motion, or none."""
    return np.zeros((*MESH_SHAPE, 2), np.float32)
