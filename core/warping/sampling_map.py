"""Sampling maps: where each pixel of a warped frame comes from.

A map combines the matrix of a correction with its mesh and the row homographies of a rolling shutter. Coordinates are
pixel indices of the source: 0 is the center of the first pixel. The terms of each row and each column are computed in
float64; only their sums are float32, with an error below a thousandth of a pixel at 8K. NumPy arrays are for OpenCV,
tensors for torch: results have the type of their buffers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from ..path import rolling_shutter
from ..path.mesh import MeshOffsets, bend_points, unbend_points
from ..path.ray_camera import RayCamera
from ..path.trajectory import Correction

if TYPE_CHECKING:
    from torch import Tensor

    Array = TypeVar("Array", NDArray[np.float32], Tensor)

# Rolling-shutter rows are so smooth that linear interpolation between cells is exact to 0.01 pixels. The cells are a
# quarter of those of a mesh, whose folds they round off.
CELLS_PER_HEIGHT = 32


@dataclass(frozen=True, eq=False)
class SamplingMap:
    """A map from pixel indices of an output frame to those of its source.

    to_source: (3, 3), for pixel indices. source_size, output_size: (width, height) of the frames. source_rows,
    output_rows: (1, ROW_SAMPLES, 3, 3), row homographies that rectify the source or the output, or None. source_mesh,
    output_mesh: (*MESH_SHAPE, 2), offsets that bend points of the source or the output, or None. offset: (x, y) of the
    first output pixel, for a crop of the output. camera: of both frames, or None; `to_source` then approximates
    the rotation of its rays by `view` (3, 3), or by the inverse of `view` if `inverts_view`.
    """

    to_source: geometry.Matrices
    source_size: tuple[int, int]
    output_size: tuple[int, int]
    source_rows: rolling_shutter.RowHomographies | None = None
    output_rows: rolling_shutter.RowHomographies | None = None
    offset: tuple[int, int] = (0, 0)
    source_mesh: MeshOffsets | None = None
    output_mesh: MeshOffsets | None = None
    camera: RayCamera | None = None
    view: geometry.Matrices | None = None
    inverts_view: bool = False

    @property
    def is_homography(self) -> bool:
        """Whether `to_source` is exact."""
        bends = self.source_rows, self.output_rows, self.source_mesh, self.output_mesh, self.camera
        return all(bend is None for bend in bends)

    def crop(self, rows: slice, columns: slice) -> SamplingMap:
        """The map of a rectangle of the output."""
        shift = np.array([[1, 0, columns.start], [0, 1, rows.start], [0, 0, 1.0]])
        return replace(self, to_source=self.to_source @ shift, offset=(columns.start, rows.start))

    def source_coords(self, buffers: Array) -> tuple[Array, Array]:
        """Compute the source coordinates x, y (h, w) of every output pixel.

        buffers: see the function `source_coords`.
        """
        x, y = source_coords(self.to_source, buffers)
        if not self.is_homography:
            cell = max(1.0, self.output_size[1] / CELLS_PER_HEIGHT)
            height, width = x.shape
            columns, rows = (np.linspace(0, n - 1, 1 + int(np.ceil((n - 1) / cell))) for n in (width, height))
            grid = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
            offsets = self.map_points(grid) - geometry.transform_points(self.to_source, grid)
            add_interpolated(x, y, offsets.reshape(len(rows), len(columns), 2))
        return x, y

    def fill_mask(self, x: Tensor, y: Tensor) -> Tensor:
        """(h, w): 1.0 where the coordinates are outside the source's pixels."""
        from .remap import fill_mask  # imports torch, which OpenCV's path does not need

        return fill_mask(self.to_source if self.is_homography else None, x, y, *self.source_size)

    def map_points(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Source coordinates (P, 2) of output pixels (P, 2)."""
        if self.output_rows is not None:
            center = (np.array(self.output_size) - 1) / 2 - self.offset
            height = self.output_size[1]
            rectified = rolling_shutter.rectify_points(self.output_rows, (points - center)[None], height, self.camera)
            points = rectified[0] + center
        if self.output_mesh is not None:
            center = (np.array(self.output_size) - 1) / 2 - self.offset
            points = unbend_points(self.output_mesh, points - center, *self.output_size) + center
        points = self._view_points(points)
        if self.source_mesh is not None:
            center = (np.array(self.source_size) - 1) / 2
            points = bend_points(self.source_mesh, points - center, *self.source_size) + center
        if self.source_rows is not None:
            center = (np.array(self.source_size) - 1) / 2
            height = self.source_size[1]
            points = (
                rolling_shutter.distort_points(self.source_rows, (points - center)[None], height, self.camera)[0]
                + center
            )
        return points

    def _view_points(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """As `map_points`, without rows."""
        if self.camera is None or self.view is None:
            return geometry.transform_points(self.to_source, points)
        centered = points + self.offset - (np.array(self.output_size) - 1) / 2
        transform = self.camera.transform_back if self.inverts_view else self.camera.transform
        return transform(self.view, centered) + (np.array(self.source_size) - 1) / 2


def sampling_maps(correction: Correction, pad: int = 0) -> Iterator[SamplingMap]:
    """Yield the map of each frame of a clip. pad: as for `warp.warp`."""
    for index in range(len(correction.matrices)):
        yield sampling_map(correction, index, pad)


def sampling_map(correction: Correction, index: int, pad: int = 0) -> SamplingMap:
    """The map of frame `index`. pad: as for `warp.warp`."""
    width, height = correction.info.width, correction.info.height
    to_source = pixel_maps(correction.matrices[index], width, height, pad)
    sampling = SamplingMap(to_source, (width, height), (width + 2 * pad, height + 2 * pad))
    if correction.lens is not None:
        matrix, inverts = correction.matrices[index], correction.distorts_rows
        view = matrix if inverts else geometry.inverse(matrix)
        sampling = replace(sampling, camera=RayCamera(correction.lens, width), view=view, inverts_view=inverts)
    rows = None if correction.rows is None else correction.rows[index : index + 1]
    mesh = None if correction.mesh is None or not correction.mesh[index].any() else correction.mesh[index]
    if correction.distorts_rows:
        return replace(sampling, output_rows=rows, output_mesh=mesh)
    return replace(sampling, source_rows=rows, source_mesh=mesh)


def pixel_maps(matrices: geometry.Matrices, width: int, height: int, pad: int = 0) -> geometry.Matrices:
    """Convert corrections to maps of pixel indices.

    Corrections are in the centered convention; the maps go from output to source pixel indices.
    """
    to_center = np.array([[1, 0, 0.5 - width / 2 - pad], [0, 1, 0.5 - height / 2 - pad], [0, 0, 1.0]])
    to_index = np.array([[1, 0, width / 2 - 0.5], [0, 1, height / 2 - 0.5], [0, 0, 1.0]])
    return np.asarray(to_index @ geometry.inverse(matrices) @ to_center, np.float64)


def source_coords(to_source: geometry.Matrices, buffers: Array) -> tuple[Array, Array]:
    """Compute the source coordinates x, y (h, w) of every output pixel.

    to_source: (3, 3), of pixel indices.

    buffers: (3, h, w) float32 of the output's size. x and y are views of it: allocating memory for each frame would
    cost far more than the arithmetic.
    """
    _, height, width = buffers.shape
    columns, rows = np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64)[:, None]
    m = to_source.tolist()  # Python floats are float64
    terms = [part for a, b, c in m for part in (a * columns, b * rows + c)]
    converted = _convert_like(terms, buffers)
    for buffer, of_columns, of_rows in zip(buffers, converted[::2], converted[1::2], strict=True):
        buffer[:] = of_columns  # pyright: ignore[reportArgumentType]  # both are arrays, or both tensors
        buffer += of_rows
    x, y, depth = buffers
    if m[2] != [0.0, 0.0, 1.0]:
        x /= depth
        y /= depth
    return cast("tuple[Array, Array]", (x, y))


def add_interpolated(x: Array, y: Array, offsets: NDArray[np.float64]) -> None:
    """Add linearly interpolated offsets to coordinates (h, w), in place.

    offsets: on a grid (rows, columns, 2), from corner to corner.

    Columns first, while there are few rows. Not as a matrix product, whose threads would spin between frames.
    """
    height, width = x.shape
    grids = np.moveaxis(offsets.astype(np.float32), -1, 0)
    x_offsets, y_offsets = _convert_like([_resize_linear(_resize_linear(g.T, width).T, height) for g in grids], x)
    x += x_offsets
    y += y_offsets


def _resize_linear(values: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Resize axis 0 linearly: (n, ...) -> (count, ...).

    The positions are evenly spaced from the first to the last value.
    """
    if len(values) == 1:
        return np.repeat(values, count, axis=0)
    position = np.linspace(0, len(values) - 1, count)
    before = np.minimum(position.astype(np.intp), len(values) - 2)
    fraction = (position - before).astype(np.float32)[:, None]
    result = values.take(before, axis=0)
    step = values.take(before + 1, axis=0)
    step -= result
    step *= fraction
    result += step
    return result


def _convert_like(arrays: list[NDArray[np.floating[Any]]], other: Array) -> list[Array]:
    """Convert to float32, of the type and on the device of `other`, in one transfer."""
    singles = [array.astype(np.float32, copy=False) for array in arrays]
    if isinstance(other, np.ndarray):
        return cast("list[Array]", singles)
    import torch

    from ..runtime.device.accelerator import accelerator_for
    from ..runtime.device.transfer import upload_array

    packed = upload_array(np.concatenate([array.ravel() for array in singles]), accelerator_for(other.device))
    parts = torch.split(packed, [array.size for array in singles])
    return cast("list[Array]", [part.view(array.shape) for part, array in zip(parts, singles, strict=True)])
