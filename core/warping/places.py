"""Where each pixel of an output comes from, as pixel indices of a source: 0 is the centre of the first pixel.

What each row and each column adds is worked out in float64; only the sums are float32, off by less than a thousandth of
a pixel at 8K. Arrays of numpy serve OpenCV, tensors the devices of torch: what is made is of the kind of its buffers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from .. import geometry

if TYPE_CHECKING:
    from torch import Tensor

    Array = TypeVar("Array", NDArray[np.float32], Tensor)


def pixel_maps(matrices: geometry.Matrices, width: int, height: int, pad: int = 0) -> geometry.Matrices:
    """Corrections in the centred convention -> maps from output pixel indices to source pixel indices."""
    to_centre = np.array([[1, 0, 0.5 - width / 2 - pad], [0, 1, 0.5 - height / 2 - pad], [0, 0, 1.0]])
    to_index = np.array([[1, 0, width / 2 - 0.5], [0, 1, height / 2 - 0.5], [0, 0, 1.0]])
    return np.asarray(to_index @ geometry.inverse(matrices) @ to_centre, np.float64)


def places(back: geometry.Matrices, buffers: Array) -> tuple[Array, Array]:
    """Source places x, y of every output pixel.

    buffers: (3, h, w) float32 of the output's size. x and y are views of it: memory that is fresh for each frame costs
    far more than the arithmetic.
    """
    _, height, width = buffers.shape
    across, down = np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64)[:, None]
    m = back.tolist()  # Python's floats are float64
    for (a, b, c), buffer in zip(m, buffers, strict=True):
        buffer[:] = _alike(a * across, buffer)
        buffer += _alike(b * down + c, buffer)
    x, y, depth = buffers
    if m[2] != [0.0, 0.0, 1.0]:
        x /= depth
        y /= depth
    return cast("tuple[Array, Array]", (x, y))


def add_between(x: Array, y: Array, added: NDArray[np.float64]) -> None:
    """Add to places (h, w) what is known on a grid (rows, columns, 2) from corner to corner, linearly between.

    Columns first, while there are few rows. No matrix product does it: the threads of one would spin between frames.
    """
    height, width = x.shape
    for target, grid in zip((x, y), np.moveaxis(added.astype(np.float32), -1, 0), strict=True):
        target += _alike(_stretched(_stretched(grid.T, width).T, height), target)


def _stretched(rows: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """(n, ...) -> (count, ...): evenly spread from the first to the last of them, linearly between."""
    if len(rows) == 1:
        return np.repeat(rows, count, axis=0)
    at = np.linspace(0, len(rows) - 1, count)
    before = np.minimum(at.astype(np.intp), len(rows) - 2)
    share = (at - before).astype(np.float32)[:, None]
    first = rows.take(before, axis=0)
    step = rows.take(before + 1, axis=0)
    step -= first
    step *= share
    first += step
    return first


def _alike(array: NDArray[np.floating], other: Array) -> Array:
    single = array.astype(np.float32, copy=False)
    if isinstance(other, np.ndarray):
        return single
    import torch

    return torch.from_numpy(single).to(other.device)
