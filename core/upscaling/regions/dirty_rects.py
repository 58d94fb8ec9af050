"""Plan the rectangles that must be computed for the changed pixels of a frame."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..tiles import EXACT_ALIGN, Rect, Span

_TileIndex: TypeAlias = "int | NDArray[np.int_]"  # of tiles along an axis, one or many

# Side of a tile in input pixels, the resolution at which changes are tracked. Rectangles of many tiles are computed, so
# that halos are not paid for each. A multiple of NATIVE_BLOCK, which shortens the reach of the engine's rounding.
TILE_SIZE = EXACT_ALIGN


class StageReach(NamedTuple):
    """The reach of changes in a stage of the network.

    A stage is the layers up to the middle or the end of the network.

    dirty_radius: input pixels around a tile in which a change makes the tile dirty. cost_halo: input pixels around a
    rectangle that are computed with it, averaged over the layers. layer_fraction: share of all layers, 0 to 1.
    """

    dirty_radius: int
    cost_halo: int
    layer_fraction: float = 1.0


class RegionPlan(NamedTuple):
    """The regions of a frame that must be computed.

    stage_rects: rectangles for each stage; no stages for a frame that is the same. tiles: dirty tiles in the last
    stage. pixels: input pixels that all stages cost.
    """

    stage_rects: list[list[Rect]]
    tiles: int = 0
    pixels: int = 0


def plan_regions(changed: NDArray[np.bool_], stages: Sequence[StageReach], *, first_is_full: bool) -> RegionPlan:
    """Plan the rectangles of each stage for changed pixels (h, w).

    first_is_full: the first stage covers the frame, because none of its output is cached.
    """
    height, width = changed.shape
    dirty = [_dilate_to_tiles(changed, stage.dirty_radius) for stage in stages]
    rects = [cover_rects(tiles, height, width, stage.cost_halo) for tiles, stage in zip(dirty, stages, strict=True)]
    if first_is_full:
        rects[0] = [Rect(Span(0, height), Span(0, width))]
    pixels = [
        stage.layer_fraction * sum(padded_area(rect, height, width, stage.cost_halo) for rect in rects_of_stage)
        for rects_of_stage, stage in zip(rects, stages, strict=True)
    ]
    return RegionPlan(rects, int(dirty[-1].sum()), ceil(sum(pixels)))


def _dilate_to_tiles(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Dilate a mask and reduce it to tiles: (h, w) -> (tile rows, tile columns).

    A tile is True if a pixel is set in it or within the radius around it.
    """
    # One axis after the other, transposed each time: in two dimensions at once a tile has a hundred times the pixels.
    for _ in range(2):
        rows = range(0, len(mask), TILE_SIZE)
        mask = np.stack([mask[max(0, row - radius) : row + TILE_SIZE + radius].any(0) for row in rows], axis=1)
    return mask


def cover_rects(dirty: NDArray[np.bool_], height: int, width: int, halo: int) -> list[Rect]:
    """Cover the dirty tiles of a frame with rectangles of few pixels.

    The halo around each rectangle counts. Starting from the bounding rectangle, each is split in two at the row or
    column that saves most.
    """
    rects, todo = list[Rect](), [(0, 0, dirty)] if dirty.any() else []
    while todo:
        top, left, part = todo.pop()
        rows, cols = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
        part = part[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
        top, left = top + int(rows[0]), left + int(cols[0])
        unsplit = padded_area(_tiles_to_rect(top, left, part.shape, height, width), height, width, halo)
        by_row, row = _best_split(part, top, left, height, width, halo)
        by_col, col = _best_split(part.T, left, top, width, height, halo)
        if min(by_row, by_col) >= unsplit:
            rects.append(_tiles_to_rect(top, left, part.shape, height, width))
        elif by_row <= by_col:
            todo += [(top + row, left, part[row:]), (top, left, part[:row])]
        else:
            todo += [(top, left + col, part[:, col:]), (top, left, part[:, :col])]
    return rects


def _best_split(dirty: NDArray[np.bool_], top: int, left: int, height: int, width: int, halo: int) -> tuple[float, int]:
    """Find the horizontal line that separates two rectangles of the fewest pixels.

    Returns the number of pixels, and the tile row below that line.
    """
    count, across = len(dirty), len(dirty.T)
    if count < 2:
        return float("inf"), 0
    used = dirty.any(1)
    first = np.where(used, dirty.argmax(1), across)
    last = np.where(used, across - dirty[:, ::-1].argmax(1), 0)
    index = np.arange(count, dtype=np.int_)
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
    """Input pixels along an axis of the tiles start ... end - 1 with their halo."""
    return np.minimum(end * TILE_SIZE + halo, length) - np.maximum(start * TILE_SIZE - halo, 0)


def _tiles_to_rect(top: int, left: int, shape: tuple[int, ...], height: int, width: int) -> Rect:
    rows, cols = shape
    bottom, right = min((top + rows) * TILE_SIZE, height), min((left + cols) * TILE_SIZE, width)
    return Rect(Span(top * TILE_SIZE, bottom), Span(left * TILE_SIZE, right))


def padded_area(rect: Rect, height: int, width: int, halo: int) -> int:
    """Input pixels of a rectangle with its halo, as far as the frame reaches."""
    rows = min(rect.rows.end + halo, height) - max(rect.rows.start - halo, 0)
    return rows * (min(rect.cols.end + halo, width) - max(rect.cols.start - halo, 0))
