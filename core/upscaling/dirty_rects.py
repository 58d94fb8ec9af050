"""Boxes of tiles that cover what changed in a frame, with little around them."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .tiles import EXACT_ALIGN, Rect, Span

_TileIndex: TypeAlias = "int | NDArray[np.int_]"  # of tiles along an axis, one or many

# Side of a tile in input pixels. It says how closely a change is followed, no more: what is run are boxes of many of
# them, put together so that halos are not paid twice. It is a multiple of BLOCK, which spares a part of the reach.
TILE_SIZE = EXACT_ALIGN


def cover_rects(dirty: NDArray[np.bool_], height: int, width: int, halo: int) -> list[Rect]:
    """Boxes that cover the dirty tiles (rows, columns) of a frame with few pixels, the halo around each box counted.

    From the box around all of them on, each box is cut in two, across or along, where that saves most.
    """
    boxes, todo = [], [(0, 0, dirty)] if dirty.any() else []
    while todo:
        top, left, part = todo.pop()
        rows, cols = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
        part = part[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
        top, left = top + int(rows[0]), left + int(cols[0])
        whole = padded_area(_tiles_to_rect(top, left, part.shape, height, width), height, width, halo)
        across, row = _best_split(part, top, left, height, width, halo)
        along, col = _best_split(part.T, left, top, width, height, halo)
        if min(across, along) >= whole:
            boxes.append(_tiles_to_rect(top, left, part.shape, height, width))
        elif across <= along:
            todo += [(top + row, left, part[row:]), (top, left, part[:row])]
        else:
            todo += [(top, left + col, part[:, col:]), (top, left, part[:, :col])]
    return boxes


def _best_split(dirty: NDArray[np.bool_], top: int, left: int, height: int, width: int, halo: int) -> tuple[float, int]:
    """The fewest pixels of two boxes with a horizontal cut between them, and the row below the cut."""
    count, across = dirty.shape
    if count < 2:
        return float("inf"), 0
    used = dirty.any(1)
    first = np.where(used, dirty.argmax(1), across)
    last = np.where(used, across - dirty[:, ::-1].argmax(1), 0)
    index = np.arange(count)
    upper_end = np.maximum.accumulate(np.where(used, index + 1, 0))[:-1]
    lower_start = np.minimum.accumulate(np.where(used, index, count)[::-1])[::-1][1:]

    def area(
        row_start: _TileIndex, row_end: _TileIndex, col_start: _TileIndex, col_end: _TileIndex
    ) -> NDArray[np.int_]:
        rows = _padded_length(top + row_start, top + row_end, height, halo)
        return rows * _padded_length(left + col_start, left + col_end, width, halo)

    upper = area(0, upper_end, np.minimum.accumulate(first)[:-1], np.maximum.accumulate(last)[:-1])
    low = np.minimum.accumulate(first[::-1])[::-1][1:]
    lower = area(lower_start, count, low, np.maximum.accumulate(last[::-1])[::-1][1:])
    best = int(np.argmin(upper + lower))
    return float((upper + lower)[best]), best + 1


def _padded_length(start: _TileIndex, end: _TileIndex, length: int, halo: int) -> NDArray[np.int_]:
    """Input pixels that tiles start ... end - 1 of an axis take with their halo."""
    return np.minimum(end * TILE_SIZE + halo, length) - np.maximum(start * TILE_SIZE - halo, 0)


def _tiles_to_rect(top: int, left: int, shape: tuple[int, ...], height: int, width: int) -> Rect:
    rows, cols = shape
    bottom, right = min((top + rows) * TILE_SIZE, height), min((left + cols) * TILE_SIZE, width)
    return Rect(Span(top * TILE_SIZE, bottom), Span(left * TILE_SIZE, right))


def padded_area(rect: Rect, height: int, width: int, halo: int) -> int:
    """Input pixels that a box takes with its halo, where the frame reaches."""
    rows = min(rect.rows.end + halo, height) - max(rect.rows.start - halo, 0)
    return rows * (min(rect.cols.end + halo, width) - max(rect.cols.start - halo, 0))
