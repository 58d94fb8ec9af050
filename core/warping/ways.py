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
from .sampling_map import add_between, pixel_maps, places

if TYPE_CHECKING:
    from torch import Tensor

    from .sampling_map import Array

# Per frame height. What rows add changes so slowly that lines from cell to cell miss no hundredth of a pixel.
CELLS = 32


@dataclass(frozen=True, eq=False)
class Way:
    """From the pixel indices of an output to those of a source.

    back: (3, 3). source, output: width and height of the frames. rows: (1, ROWS, 3, 3), what makes the source straight,
    or None. bends: (1, ROWS, 3, 3), what makes the output straight, or None. corner: the output's pixel that is first
    here, where only a piece of it is asked for.
    """

    back: geometry.Matrices
    source: tuple[int, int]
    output: tuple[int, int]
    rows: rolling_shutter.Rows | None = None
    bends: rolling_shutter.Rows | None = None
    corner: tuple[int, int] = (0, 0)

    def piece(self, rows: slice, columns: slice) -> Way:
        """The way of that rectangle of the output."""
        corner = np.array([[1, 0, columns.start], [0, 1, rows.start], [0, 0, 1.0]])
        return replace(self, back=self.back @ corner, corner=(columns.start, rows.start))

    def places(self, buffers: Array) -> tuple[Array, Array]:
        """As `places.places`: source places x, y (h, w) of every pixel."""
        x, y = places(self.back, buffers)
        if self.rows is not None or self.bends is not None:
            cell = max(1.0, self.output[1] / CELLS)
            height, width = x.shape
            across, down = (np.linspace(0, n - 1, 1 + int(np.ceil((n - 1) / cell))) for n in (width, height))
            grid = np.stack(np.meshgrid(across, down), axis=-1).reshape(-1, 2)
            added = self._exact(grid) - geometry.apply(self.back, grid)
            add_between(x, y, added.reshape(len(down), len(across), 2))
        return x, y

    def invented(self, x: Tensor, y: Tensor) -> Tensor:
        """(h, w): 1.0 where a place is outside the source's pixels."""
        from .remap import invented

        straight = self.rows is None and self.bends is None
        return invented(self.back if straight else None, x, y, *self.source)

    def _exact(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Source places (P, 2) of output pixels (P, 2)."""
        if self.bends is not None:
            middle = (np.array(self.output) - 1) / 2 - self.corner
            points = rolling_shutter.straightened(self.bends, (points - middle)[None], self.output[1])[0] + middle
        points = geometry.apply(self.back, points)
        if self.rows is not None:
            middle = (np.array(self.source) - 1) / 2
            points = rolling_shutter.bent(self.rows, (points - middle)[None], self.source[1])[0] + middle
        return points


def ways(correction: Correction, pad: int = 0) -> Iterator[Way]:
    """The way of each frame of a clip that is warped with this correction. pad: as for `warp.warp`."""
    for index in range(len(correction.matrices)):
        yield way(correction, index, pad)


def way(correction: Correction, index: int, pad: int = 0) -> Way:
    """The way of the frame of that number."""
    width, height = correction.info.width, correction.info.height
    back = pixel_maps(correction.matrices[index], width, height, pad)
    straight = Way(back, (width, height), (width + 2 * pad, height + 2 * pad))
    if correction.rows is None:
        return straight
    rows = correction.rows[index : index + 1]
    return replace(straight, bends=rows) if correction.bends else replace(straight, rows=rows)
