"""Frames cut into tiles with a halo, run through a network, and put together without seams.

A tile has a core, which is what it contributes to the result, and a window, which is what the network is shown: the
core and at least `halo` pixels around it, as far as the frame reaches. What the network makes of the halo is dropped.
Nothing is feathered: blending tiles that overlap would mix pixels spoilt by the window's edge into good ones. With a
halo no smaller than the network's receptive field, tiled equals whole.

Convention: spans are half-open intervals of input pixels along one axis; an image that is `scale` times larger has the
same spans with both ends multiplied.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TypeAlias

import torch
from torch import Tensor

from ..clip import ClipError, Frames

log = logging.getLogger(__name__)

# Cores and windows start at multiples of this, so that networks which fold 2x2 or 4x4 blocks of pixels into channels
# (pixel-unshuffle) see the same blocks in a tile as in the whole frame.
ALIGN = 4
# Side of the blocks of pixels that the native engine rounds together.
NATIVE_BLOCK = 6
# For windows that must give the whole frame's very bits: a multiple of ALIGN and of BLOCK.
EXACT_ALIGN = 12
# Below this core the halo is nearly all of the work, and memory is short for some other reason.
MIN_CORE = 32


# Rows and columns of a window whose enlargement alone is wanted.
Roi: TypeAlias = "tuple[slice, slice]"


@dataclass(frozen=True)
class TilePlan:
    """What goes through the network in one call: so many frames, and a core of at most size x size input pixels."""

    batch_size: int
    core_size: int


@dataclass(frozen=True)
class Span:
    """Pixels start, start + 1, ... end - 1."""

    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start

    def to_slice(self, scale: int) -> slice:
        """The same span of an image that is `scale` times larger, as an index."""
        return slice(self.start * scale, self.end * scale)

    def relative_to(self, other: Span) -> Span:
        """The same pixels, counted from the start of `other`."""
        return Span(self.start - other.start, self.end - other.start)


@dataclass(frozen=True)
class TileSpan:
    """A tile along one axis: `core` lies in `window`."""

    core: Span
    window: Span


@dataclass(frozen=True)
class Rect:
    """Rows and columns of every frame."""

    rows: Span
    cols: Span


@dataclass(frozen=True)
class Tile:
    """A box of frames, rows and columns."""

    frames: Span
    rows: TileSpan
    cols: TileSpan


def split_axis(length: int, size: int, halo: int, core: Span | None = None, align: int = ALIGN) -> list[TileSpan]:
    """Cut `core` (default: all of 0 ... length) into even pieces of at most `size`, rounded up to ALIGN.

    The cores cover `core` once and in order. All windows have the same length: at the ends of the axis they are shifted
    inwards rather than shortened, because each distinct shape costs a plan (cuDNN, compiled graphs, oneDNN). A window
    always starts at a multiple of `anchor`, and reaches `halo` beyond its core or to the end of the axis.
    """
    core = Span(0, length) if core is None else core
    step, halo = _even_core_length(len(core), size), _align_up(halo)
    cores = [Span(start, min(start + step, core.end)) for start in range(core.start, core.end, step)]
    starts = [max(0, part.start - halo) // align * align for part in cores]
    needed = max(min(length, part.end + halo) - start for part, start in zip(cores, starts, strict=True))
    # With this remainder a window that ends with the axis starts at a multiple of the anchor as well.
    window = min(length, needed + (length - needed) % align)
    windows = [Span(start, start + window) for start in (min(start, length - window) for start in starts)]
    return [TileSpan(part, span) for part, span in zip(cores, windows, strict=True)]


def make_tiles(
    frames: int, height: int, width: int, plan: TilePlan, halo: int, rects: Sequence[Rect] = (), align: int = ALIGN
) -> list[Tile]:
    """The tiles of `frames` frames of height x width pixels, frame by frame, row by row; of some boxes, or of all."""
    rects = rects or (Rect(Span(0, height), Span(0, width)),)
    return [
        Tile(Span(first, min(first + plan.batch_size, frames)), rows, cols)
        for first in range(0, frames, plan.batch_size)
        for box in rects
        for rows in split_axis(height, plan.core_size, halo, box.rows, align)
        for cols in split_axis(width, plan.core_size, halo, box.cols, align)
    ]


def shrink_plan(plan: TilePlan, height: int, width: int, halo: int) -> TilePlan | None:
    """The next cut that needs less memory: half the frames, then cores of half the side; None at the smallest.

    Sizes whose window would be as large as before (the halo reaches across the frame) are skipped.
    """
    if plan.batch_size > 1:
        return TilePlan(ceil(plan.batch_size / 2), plan.core_size)
    size = min(plan.core_size, max(height, width))
    while size > MIN_CORE:
        size = max(MIN_CORE, size // 2)
        if window_pixels(height, width, size, halo) < window_pixels(height, width, plan.core_size, halo):
            return TilePlan(1, size)
    return None


def window_pixels(height: int, width: int, size: int, halo: int) -> int:
    """Pixels that the network is shown at once when frames are cut at `size`."""
    rows, cols = (split_axis(length, size, halo)[0].window for length in (height, width))
    return len(rows) * len(cols)


def run_tiles(
    network: Callable[..., Tensor],
    frames: Frames,
    out: Tensor,
    *,
    scale: int,
    halo: int,
    plan: TilePlan,
    rects: Sequence[Rect] = (),
    clamp: bool = False,
    align: int = ALIGN,
    supports_roi: bool = False,
) -> TilePlan:
    """Fill out (B, C, H * scale, W * scale) with what `network` makes of frames (B, C', H, W).

    network: (b, C', h, w) -> (b, C, h * scale, w * scale), on whatever device it likes; `out` may be on another one.
    boxes: what of each frame to run, cornered at multiples of ALIGN or the frame's end; the rest of `out` stays as it
    is. None means all. clamped: to [0, 1], while the results are put in their places. anchor: windows start at its
    multiples. parts: the network takes `roi=(rows, columns)` of its input as well, and makes only those; and `out`,
    a place for them, which it may fill, clamped, and return.
    When memory runs out, the tiles that are not done yet are cut smaller, and those that are done stay. Returns the cut
    that worked, for the next frames to start with. Raises ClipError when memory runs out for the smallest tile too, or
    when a result has the wrong size; other errors, a cancel among them, pass straight through.
    """
    count, _, height, width = frames.shape
    todo = deque(make_tiles(count, height, width, plan, halo, rects, align))
    while todo:
        if _try_tile(network, frames, out, todo[0], scale, clamp, supports_roi):
            todo.popleft()
            continue
        less = shrink_plan(plan, height, width, halo)
        if less is None:
            raise ClipError(_out_of_memory_message(plan, height, width, halo))
        log.warning("out of memory with %s; going on with %s, %d tiles left", plan, less, len(todo))
        plan = less
        todo = deque(part for tile in todo for part in _split_tile(tile, height, width, plan, halo, align))
        torch.cuda.empty_cache()
    return plan


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory, of the graphics card or of the machine, was not enough."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    # The CPU's allocator, Apple's MPS and the libraries under CUDA raise a plain RuntimeError and differ in the text.
    texts = ("not enough memory", "can't allocate memory", "out of memory", "_STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(text in str(error) for text in texts)


def _try_tile(
    network: Callable[..., Tensor], frames: Frames, out: Tensor, tile: Tile, scale: int, clamp: bool, supports_roi: bool
) -> bool:
    """Do one tile. False if memory ran out; the error is gone by then, and the tensors it held with it."""
    window = frames[tile.frames.to_slice(1), :, tile.rows.window.to_slice(1), tile.cols.window.to_slice(1)]
    rows, cols = tile.rows.core.relative_to(tile.rows.window), tile.cols.core.relative_to(tile.cols.window)
    height, width = (len(rows), len(cols)) if supports_roi else window.shape[-2:]
    place = out[tile.frames.to_slice(1), :, tile.rows.core.to_slice(scale), tile.cols.core.to_slice(scale)]
    try:
        result = (
            network(window, roi=(rows.to_slice(1), cols.to_slice(1)), out=place) if supports_roi else network(window)
        )
        expected = (window.shape[0], out.shape[1], height * scale, width * scale)
        if tuple(result.shape) != expected:
            raise ClipError(
                f"the network made {tuple(result.shape)} of a tile {tuple(window.shape)} where its scale of {scale} "
                f"promises {expected}; it was described wrongly or is no upscaler"
            )
        if result is not place:
            _write_tile(
                result if supports_roi else result[:, :, rows.to_slice(scale), cols.to_slice(scale)], place, clamp
            )
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    return True


def _write_tile(result: Tensor, out: Tensor, clamp: bool) -> None:
    if not clamp:
        out.copy_(result)
    elif (result.device, result.dtype) == (out.device, out.dtype):
        torch.clamp(result, 0.0, 1.0, out=out)  # In one pass, without a copy that would be as large.
    else:
        out.copy_(result.clamp(0.0, 1.0))


def _split_tile(tile: Tile, height: int, width: int, plan: TilePlan, halo: int, align: int) -> list[Tile]:
    return [
        Tile(Span(first, min(first + plan.batch_size, tile.frames.end)), rows, cols)
        for first in range(tile.frames.start, tile.frames.end, plan.batch_size)
        for rows in split_axis(height, plan.core_size, halo, tile.rows.core, align)
        for cols in split_axis(width, plan.core_size, halo, tile.cols.core, align)
    ]


def _out_of_memory_message(plan: TilePlan, height: int, width: int, halo: int) -> str:
    size = min(plan.core_size, max(height, width))
    pixels = window_pixels(height, width, plan.core_size, halo)
    return (
        f"memory ran out on a {width}x{height} frame even for tiles of {size} pixels ({pixels} pixels at once with "
        f"a halo of {halo}); close other programs, or take a smaller network, a smaller halo or another device"
    )


def _align_up(pixels: int) -> int:
    return ceil(pixels / ALIGN) * ALIGN


def _even_core_length(length: int, size: int) -> int:
    """Length of the cores when `length` is cut evenly into as few as a size allows."""
    if length <= size:
        return length
    return _align_up(ceil(length / ceil(length / size)))
