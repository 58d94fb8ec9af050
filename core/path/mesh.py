"""A mesh of offsets that bends the sampling map of a frame.

The vertices span the frame evenly, from edge to edge. Offsets are in pixels and added to source coordinates; between
vertices they are interpolated linearly, beyond the edge the nearest ones count.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MESH_SHAPE = (9, 16)  # rows and columns of vertices
MAX_SLOPE = 0.5  # change of an offset along the mesh, per pixel: with 1, the map would fold

MeshOffsets = NDArray[np.float32]  # (..., *MESH_SHAPE, 2): x, y in pixels
STORED_STEP = 1 / 128  # pixels: offsets are multiples of it, which are exact in few digits


def mesh_vertices(width: float, height: float) -> NDArray[np.float64]:
    """(*MESH_SHAPE, 2): the vertices of a frame, in pixels from its center."""
    y, x = (np.linspace(-0.5, 0.5, count) * size for count, size in zip(MESH_SHAPE, (height, width), strict=True))
    return np.stack(np.meshgrid(x, y), axis=-1)


def interpolate_mesh(
    offsets: NDArray[np.floating[Any]], points: NDArray[np.float64], width: float, height: float
) -> NDArray[np.float64]:
    """Interpolate one mesh (*MESH_SHAPE, 2) at points: (P, 2).

    points: (P, 2), in pixels from the center of the frame.
    """
    rows, columns = MESH_SHAPE
    x = np.clip((points[:, 0] / max(width, 1) + 0.5) * (columns - 1), 0, columns - 1)
    y = np.clip((points[:, 1] / max(height, 1) + 0.5) * (rows - 1), 0, rows - 1)
    left, top = np.minimum(x.astype(np.intp), columns - 2), np.minimum(y.astype(np.intp), rows - 2)
    along_x, along_y = (x - left)[:, None], (y - top)[:, None]
    upper = offsets[top, left] * (1 - along_x) + offsets[top, left + 1] * along_x
    lower = offsets[top + 1, left] * (1 - along_x) + offsets[top + 1, left + 1] * along_x
    return upper * (1 - along_y) + lower * along_y


def resample_mesh(
    mesh: MeshOffsets, size: tuple[int, int], area: tuple[int, int], center: tuple[float, float]
) -> MeshOffsets:
    """Convert meshes (N, *MESH_SHAPE, 2) of a frame to meshes of an area in it.

    size, area: (width, height). center: of the area, in pixels from that of the frame.
    """
    points = mesh_vertices(*area).reshape(-1, 2) + center
    resampled = [interpolate_mesh(offsets, points, *size) for offsets in mesh]
    return quantize(np.array(resampled, np.float32).reshape(-1, *MESH_SHAPE, 2))


def bend_points(offsets: MeshOffsets, points: NDArray[np.float64], width: float, height: float) -> NDArray[np.float64]:
    """Add the offsets of one mesh to points (P, 2) from the center of the frame."""
    return points + interpolate_mesh(offsets, points, width, height)


def unbend_points(
    offsets: MeshOffsets, points: NDArray[np.float64], width: float, height: float
) -> NDArray[np.float64]:
    """The inverse of `bend_points`."""
    unbent = points
    for _ in range(12):  # with MAX_SLOPE, each iteration halves the error, usually far more
        unbent = points - interpolate_mesh(offsets, unbent, width, height)
    return unbent


def hidden_margins(mesh: MeshOffsets) -> NDArray[np.float64]:
    """Return how far the outer vertices point out of the frame: (N, 4).

    mesh: (N, *MESH_SHAPE, 2). Pixels at the left, top, right and bottom, 0 or more. Points that are farther inside the
    frame than that stay inside when they are bent.
    """
    x, y = mesh[..., 0], mesh[..., 1]
    # A point within the margin lies in the outermost cell, so that only its vertices count.
    sides = [-x[:, :, :2], -y[:, :2], x[:, :, -2:], y[:, -2:]]
    return np.stack([side.max(axis=(1, 2), initial=0).astype(np.float64) for side in sides], axis=-1)


def quantize(offsets: MeshOffsets) -> MeshOffsets:
    """Round to multiples of `STORED_STEP`."""
    return np.rint(offsets / np.float32(STORED_STEP)) * np.float32(STORED_STEP)


def fill_unknown(residuals: MeshOffsets) -> MeshOffsets:
    """Replace NaN in residuals (N, *MESH_SHAPE, 2) by the mean of known neighbors.

    The residuals of a frame without known ones become zero.
    """
    filled = residuals
    for _ in range(max(MESH_SHAPE)):
        unknown = np.isnan(filled)
        if not unknown.any():
            return filled
        total, count = np.zeros_like(filled), np.zeros_like(filled)
        known = np.where(unknown, 0, filled)
        for axis, step in ((1, 1), (1, -1), (2, 1), (2, -1)):
            total += _shift(known, axis, step)
            count += _shift((~unknown).astype(np.float32), axis, step)
        filled = np.where(unknown & (count > 0), total / np.maximum(count, 1), filled)
    return np.nan_to_num(filled)


def median_of_neighbors(residuals: MeshOffsets) -> MeshOffsets:
    """Median of each vertex and its neighbors, (N, *MESH_SHAPE, 2).

    The second filter of MeshFlow.
    """
    padded = np.pad(residuals, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    rows, columns = MESH_SHAPE
    windows = [padded[:, i : i + rows, j : j + columns] for i in range(3) for j in range(3)]
    return np.median(np.stack(windows), axis=0).astype(np.float32)


def mean_of_neighbors(offsets: MeshOffsets) -> MeshOffsets:
    """Weighted mean of each vertex and its neighbors, (N, *MESH_SHAPE, 2).

    The weights are (1, 2, 1) / 4 along both axes.
    """
    mean = offsets.astype(np.float64)
    for axis in (1, 2):
        padded = np.pad(mean, [(1, 1) if axis == each else (0, 0) for each in range(mean.ndim)], mode="edge")
        before, after = np.split(padded, [-2], axis=axis)[0], np.split(padded, [2], axis=axis)[1]
        mean = (before + 2 * mean + after) / 4
    return mean.astype(np.float32)


def _shift(values: MeshOffsets, axis: int, step: int) -> MeshOffsets:
    """Shift by one vertex along an axis; zeros move in."""
    pad = [(0, 0)] * values.ndim
    pad[axis] = (1, 0) if step > 0 else (0, 1)
    padded = np.pad(values, pad)
    return padded.take(range(values.shape[axis]) if step > 0 else range(1, values.shape[axis] + 1), axis=axis)
