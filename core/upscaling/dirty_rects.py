"""Boxes of tiles that cover what changed in a frame, with little around them."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .tiles import ANCHOR, Box, Span

_Index: TypeAlias = "int | NDArray[np.int_]"  # of tiles along an axis, one or many

# Side of a tile in input pixels. It says how closely a change is followed, no more: what is run are boxes of many of
# them, put together so that halos are not paid twice. It is a multiple of BLOCK, which spares a part of the reach.
TILE = ANCHOR


def merged(dirty: NDArray[np.bool_], height: int, width: int, halo: int) -> list[Box]:
    """Boxes that cover the dirty tiles (rows, columns) of a frame with few pixels, the halo around each box counted.

    From the box around all of them on, each box is cut in two, across or along, where that saves most.
    """
    boxes, todo = [], [(0, 0, dirty)] if dirty.any() else []
    while todo:
        top, left, part = todo.pop()
        rows, cols = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
        part = part[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
        top, left = top + int(rows[0]), left + int(cols[0])
        whole = cost(_box(top, left, part.shape, height, width), height, width, halo)
        across, row = _best_cut(part, top, left, height, width, halo)
        along, col = _best_cut(part.T, left, top, width, height, halo)
        if min(across, along) >= whole:
            boxes.append(_box(top, left, part.shape, height, width))
        elif across <= along:
            todo += [(top + row, left, part[row:]), (top, left, part[:row])]
        else:
            todo += [(top, left + col, part[:, col:]), (top, left, part[:, :col])]
    return boxes


def _best_cut(part: NDArray[np.bool_], top: int, left: int, height: int, width: int, halo: int) -> tuple[float, int]:
    """The fewest pixels of two boxes with a horizontal cut between them, and the row below the cut."""
    count, across = part.shape
    if count < 2:
        return float("inf"), 0
    used = part.any(1)
    first = np.where(used, part.argmax(1), across)
    last = np.where(used, across - part[:, ::-1].argmax(1), 0)
    index = np.arange(count)
    upper_end = np.maximum.accumulate(np.where(used, index + 1, 0))[:-1]
    lower_start = np.minimum.accumulate(np.where(used, index, count)[::-1])[::-1][1:]

    def pixels(start: _Index, end: _Index, low: _Index, high: _Index) -> NDArray[np.int_]:
        rows = _reach(top + start, top + end, height, halo)
        return rows * _reach(left + low, left + high, width, halo)

    upper = pixels(0, upper_end, np.minimum.accumulate(first)[:-1], np.maximum.accumulate(last)[:-1])
    low = np.minimum.accumulate(first[::-1])[::-1][1:]
    lower = pixels(lower_start, count, low, np.maximum.accumulate(last[::-1])[::-1][1:])
    best = int(np.argmin(upper + lower))
    return float((upper + lower)[best]), best + 1


def _reach(start: _Index, end: _Index, length: int, halo: int) -> NDArray[np.int_]:
    """Input pixels that tiles start ... end - 1 of an axis take with their halo."""
    return np.minimum(end * TILE + halo, length) - np.maximum(start * TILE - halo, 0)


def _box(top: int, left: int, tiles: tuple[int, ...], height: int, width: int) -> Box:
    rows, cols = tiles
    bottom, right = min((top + rows) * TILE, height), min((left + cols) * TILE, width)
    return Box(Span(top * TILE, bottom), Span(left * TILE, right))


def cost(box: Box, height: int, width: int, halo: int) -> int:
    """Input pixels that a box takes with its halo, where the frame reaches."""
    rows = min(box.rows.end + halo, height) - max(box.rows.start - halo, 0)
    return rows * (min(box.cols.end + halo, width) - max(box.cols.start - halo, 0))
