"""Sampling maps: where each pixel of a warped frame comes from.

A map combines the matrix of a correction with the row homographies of a rolling shutter. Coordinates are pixel indices
of the source: 0 is the center of the first pixel. The terms of each row and each column are computed in float64; only
their sums are float32, with an error below a thousandth of a pixel at 8K. NumPy arrays are for OpenCV, tensors for
torch: results have the type of their buffers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from ..path import rolling_shutter
from ..path.trajectory import Correction

if TYPE_CHECKING:
    from torch import Tensor

    Array = TypeVar("Array", NDArray[np.float32], Tensor)

# Per frame height. What rows add changes so slowly that lines from cell to cell miss no hundredth of a pixel.
CELLS_PER_HEIGHT = 32


@dataclass(frozen=True, eq=False)
class SamplingMap:
    """From the pixel indices of an output to those of a source.

    back: (3, 3). source, output: width and height of the frames. rows: (1, ROWS, 3, 3), what makes the source straight,
    or None. bends: (1, ROWS, 3, 3), what makes the output straight, or None. corner: the output's pixel that is first
    here, where only a piece of it is asked for.
    """

    to_source: geometry.Matrices
    source_size: tuple[int, int]
    output_size: tuple[int, int]
    source_rows: rolling_shutter.RowHomographies | None = None
    output_rows: rolling_shutter.RowHomographies | None = None
    offset: tuple[int, int] = (0, 0)

    def crop(self, rows: slice, columns: slice) -> SamplingMap:
        """The way of that rectangle of the output."""
        corner = np.array([[1, 0, columns.start], [0, 1, rows.start], [0, 0, 1.0]])
        return replace(self, to_source=self.to_source @ corner, offset=(columns.start, rows.start))

    def source_coords(self, buffers: Array) -> tuple[Array, Array]:
        """As `places.places`: source places x, y (h, w) of every pixel."""
        x, y = source_coords(self.to_source, buffers)
        if self.source_rows is not None or self.output_rows is not None:
            cell = max(1.0, self.output_size[1] / CELLS_PER_HEIGHT)
            height, width = x.shape
            across, down = (np.linspace(0, n - 1, 1 + int(np.ceil((n - 1) / cell))) for n in (width, height))
            grid = np.stack(np.meshgrid(across, down), axis=-1).reshape(-1, 2)
            added = self._exact_coords(grid) - geometry.transform_points(self.to_source, grid)
            add_interpolated(x, y, added.reshape(len(down), len(across), 2))
        return x, y

    def fill_mask(self, x: Tensor, y: Tensor) -> Tensor:
        """(h, w): 1.0 where a place is outside the source's pixels."""
        from .remap import fill_mask

        straight = self.source_rows is None and self.output_rows is None
        return fill_mask(self.to_source if straight else None, x, y, *self.source_size)

    def _exact_coords(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Source places (P, 2) of output pixels (P, 2)."""
        if self.output_rows is not None:
            middle = (np.array(self.output_size) - 1) / 2 - self.offset
            points = (
                rolling_shutter.rectify_points(self.output_rows, (points - middle)[None], self.output_size[1])[0]
                + middle
            )
        points = geometry.transform_points(self.to_source, points)
        if self.source_rows is not None:
            middle = (np.array(self.source_size) - 1) / 2
            points = (
                rolling_shutter.distort_points(self.source_rows, (points - middle)[None], self.source_size[1])[0]
                + middle
            )
        return points


def sampling_maps(correction: Correction, pad: int = 0) -> Iterator[SamplingMap]:
    """The way of each frame of a clip that is warped with this correction. pad: as for `warp.warp`."""
    for index in range(len(correction.matrices)):
        yield sampling_map(correction, index, pad)


def sampling_map(correction: Correction, index: int, pad: int = 0) -> SamplingMap:
    """The way of the frame of that number."""
    width, height = correction.info.width, correction.info.height
    back = pixel_maps(correction.matrices[index], width, height, pad)
    straight = SamplingMap(back, (width, height), (width + 2 * pad, height + 2 * pad))
    if correction.rows is None:
        return straight
    rows = correction.rows[index : index + 1]
    return replace(straight, output_rows=rows) if correction.distorts_rows else replace(straight, source_rows=rows)


def pixel_maps(matrices: geometry.Matrices, width: int, height: int, pad: int = 0) -> geometry.Matrices:
    """Corrections in the centred convention -> maps from output pixel indices to source pixel indices."""
    to_centre = np.array([[1, 0, 0.5 - width / 2 - pad], [0, 1, 0.5 - height / 2 - pad], [0, 0, 1.0]])
    to_index = np.array([[1, 0, width / 2 - 0.5], [0, 1, height / 2 - 0.5], [0, 0, 1.0]])
    return np.asarray(to_index @ np.linalg.inv(matrices) @ to_centre, np.float64)


def source_coords(to_source: geometry.Matrices, buffers: Array) -> tuple[Array, Array]:
    """Source places x, y of every output pixel.

    buffers: (3, h, w) float32 of the output's size. x and y are views of it: memory that is fresh for each frame costs
    far more than the arithmetic.
    """
    _, height, width = buffers.shape
    across, down = np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64)[:, None]
    m = to_source.tolist()  # Python's floats are float64
    for (a, b, c), buffer in zip(m, buffers, strict=True):
        buffer[:] = _convert_like(a * across, buffer)
        buffer += _convert_like(b * down + c, buffer)
    x, y, depth = buffers
    if m[2] != [0.0, 0.0, 1.0]:
        x /= depth
        y /= depth
    return cast("tuple[Array, Array]", (x, y))


def add_interpolated(x: Array, y: Array, offsets: NDArray[np.float64]) -> None:
    """Add to places (h, w) what is known on a grid (rows, columns, 2) from corner to corner, linearly between.

    Columns first, while there are few rows. No matrix product does it: the threads of one would spin between frames.
    """
    height, width = x.shape
    for target, grid in zip((x, y), np.moveaxis(offsets.astype(np.float32), -1, 0), strict=True):
        target += _convert_like(_resize_linear(_resize_linear(grid.T, width).T, height), target)


def _resize_linear(values: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """(n, ...) -> (count, ...): evenly spread from the first to the last of them, linearly between."""
    if len(values) == 1:
        return np.repeat(values, count, axis=0)
    at = np.linspace(0, len(values) - 1, count)
    before = np.minimum(at.astype(np.intp), len(values) - 2)
    share = (at - before).astype(np.float32)[:, None]
    first = values.take(before, axis=0)
    step = values.take(before + 1, axis=0)
    step -= first
    step *= share
    first += step
    return first


def _convert_like(array: NDArray[np.floating], other: Array) -> Array:
    single = array.astype(np.float32, copy=False)
    if isinstance(other, np.ndarray):
        return single
    import torch

    return torch.from_numpy(single).to(other.device)
