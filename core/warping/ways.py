"""Where each pixel of a warped frame comes from: the matrix of its correction and, of a rolling shutter, its rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from ..path import rolling_shutter
from ..path.trajectory import Correction
from .sampling_map import add_interpolated, pixel_maps, source_coords

if TYPE_CHECKING:
    from torch import Tensor

    from .sampling_map import Array

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
        return replace(self, back=self.to_source @ corner, corner=(columns.start, rows.start))

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
    return replace(straight, bends=rows) if correction.distorts_rows else replace(straight, rows=rows)
