"""Tiled processing: split frames into tiles with a halo and assemble the result.

The result has no seams.

A tile has a core, its part of the result, and a window, the network's input: the core and at least `halo` pixels around
it, as far as the frame reaches. The network's result for the halo is dropped. With a halo no smaller than the
network's receptive field, the tiled result equals the untiled one, and nothing is blended: overlapping tiles would mix
pixels that the window's edge falsifies into correct ones.

Some networks look at all of their input, for instance at its mean. Each tile of these differs a little, whatever the
halo, so neighbors are blended across their border (`feather`), which hides the seams.

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
from ..runtime.device.accelerator import accelerator_for
from ..runtime.device.out_of_memory import is_out_of_memory

log = logging.getLogger(__name__)

# Cores and windows start at multiples of this, so that networks with a pixel-unshuffle of 2 or 4 see the same blocks in
# a tile as in the untiled frame.
ALIGN = 4
# Side of the blocks of pixels that the native engine rounds together.
NATIVE_BLOCK = 6
# For windows whose result must be bit-identical to the untiled frame: a multiple of ALIGN and of NATIVE_BLOCK.
EXACT_ALIGN = 12
# With a smaller core the halo is nearly all of the work.
MIN_CORE = 32
# For networks with windows, whose sizes are mostly 8 or 16 and are not always declared.
WINDOW_ALIGN = 16
# Input pixels on each side of a border across which tiles are blended, for networks whose tiles differ. Cores that are
# cut again for lack of memory are more than twice as long, so that the blends of two borders never meet.
FEATHER = 8


# Rows and columns of a window, the only ones of which the result is needed.
Roi: TypeAlias = "tuple[slice, slice]"


@dataclass(frozen=True)
class TilePlan:
    """The amount of work for one call of the network.

    batch_size: frames. core_size: the largest side of a core in input pixels.
    """

    batch_size: int
    core_size: int


@dataclass(frozen=True)
class Span:
    """The pixels start ... end - 1 along an axis."""

    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start

    def to_slice(self, scale: int) -> slice:
        """The same pixels of an image that is `scale` times larger, as a slice."""
        return slice(self.start * scale, self.end * scale)

    def relative_to(self, other: Span) -> Span:
        """The same pixels, counted from the start of `other`."""
        return Span(self.start - other.start, self.end - other.start)


@dataclass(frozen=True)
class TileSpan:
    """A tile along one axis; the window contains the core."""

    core: Span
    window: Span


@dataclass(frozen=True)
class Rect:
    """A rectangle of input pixels, the same in all frames."""

    rows: Span
    cols: Span


@dataclass(frozen=True)
class Tile:
    """A tile of consecutive frames."""

    frames: Span
    rows: TileSpan
    cols: TileSpan


def split_axis(length: int, size: int, halo: int, core: Span | None = None, align: int = ALIGN) -> list[TileSpan]:
    """Split `core` evenly into cores of at most `size`, rounded up to ALIGN.

    core: by default 0 ... length.

    All windows have the same length: at the ends of the axis they are shifted inwards rather than shortened, because
    each distinct shape costs a plan (cuDNN, compiled graphs, oneDNN). A window starts at a multiple of `align`, and
    reaches `halo` beyond its core or to the end of the axis.
    """
    core = Span(0, length) if core is None else core
    step, halo = _even_core_length(len(core), size), _align_up(halo)
    cores = [Span(start, min(start + step, core.end)) for start in range(core.start, core.end, step)]
    starts = [max(0, part.start - halo) // align * align for part in cores]
    needed = max(min(length, part.end + halo) - start for part, start in zip(cores, starts, strict=True))
    # With this remainder a window at the end of the axis starts at a multiple of `align`, too.
    window = min(length, needed + (length - needed) % align)
    windows = [Span(start, start + window) for start in (min(start, length - window) for start in starts)]
    return [TileSpan(part, span) for part, span in zip(cores, windows, strict=True)]


def make_tiles(
    frames: int, height: int, width: int, plan: TilePlan, halo: int, rects: Sequence[Rect] = (), align: int = ALIGN
) -> list[Tile]:
    """Split frames of height x width, or rectangles of them, into tiles.

    The order is frame by frame, row by row.
    """
    rects = rects or (Rect(Span(0, height), Span(0, width)),)
    return [
        Tile(Span(first, min(first + plan.batch_size, frames)), rows, cols)
        for first in range(0, frames, plan.batch_size)
        for rect in rects
        for rows in split_axis(height, plan.core_size, halo, rect.rows, align)
        for cols in split_axis(width, plan.core_size, halo, rect.cols, align)
    ]


def shrink_plan(plan: TilePlan, height: int, width: int, halo: int) -> TilePlan | None:
    """Return the next plan that needs less memory; None for the smallest.

    It has half the frames, or else half the core. Sizes whose window is as large as before, because the halo reaches
    across the frame, are skipped.
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
    """Pixels of a window for cores of `size`."""
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
    device: torch.device | None = None,
    feather: int = 0,
) -> TilePlan:
    """Run the network tile by tile.

    Fills out (B, C, H * scale, W * scale) with its result for frames (B, C', H, W).

    network: (b, C', h, w) -> (b, C, h * scale, w * scale), on a device of its own.
    rects: the regions to compute, with corners at multiples of ALIGN or at the frame's end; the rest of `out` is not
    written. Empty: all of the frame. clamp: to [0, 1], while results are copied. align: windows start at multiples of
    it. supports_roi: the network also takes `roi=(rows, columns)` of its input, and computes that part of the result
    only, and `out`, a tensor for it, which it may fill, clamped, and return. device: of the network, None: of `frames`.
    feather: input pixels on each side of a border between tiles across which they are blended linearly, at most the
    halo; 0: not at all. Ignored with `rects` and `supports_roi`.

    When memory runs out, the tiles that are left are cut smaller. Returns the plan that worked, to start the next
    frames with. Raises ClipError when memory runs out for the smallest tile, or when a result has the wrong size; all
    other errors are passed on.
    """
    count, _, height, width = frames.shape
    todo = deque(make_tiles(count, height, width, plan, halo, rects, align))
    feather = 0 if rects or supports_roi else min(feather, halo, plan.core_size // 4)
    if feather:
        out.zero_()  # Tiles are added.
    while todo:
        if _try_tile(network, frames, out, todo[0], scale, clamp, supports_roi, feather):
            todo.popleft()
            continue
        smaller = shrink_plan(plan, height, width, halo)
        if smaller is None:
            raise ClipError(_out_of_memory_message(plan, height, width, halo))
        log.warning("out of memory with %s; continuing with %s, %d tiles left", plan, smaller, len(todo))
        plan = smaller
        todo = deque(part for tile in todo for part in _split_tile(tile, height, width, plan, halo, align))
        accelerator_for(device or frames.device).release_cache()
    return plan


def _try_tile(
    network: Callable[..., Tensor],
    frames: Frames,
    out: Tensor,
    tile: Tile,
    scale: int,
    clamp: bool,
    supports_roi: bool,
    feather: int,
) -> bool:
    """Compute one tile; return False if memory ran out.

    By then the error and the tensors of its frames are released.
    """
    window = frames[tile.frames.to_slice(1), :, tile.rows.window.to_slice(1), tile.cols.window.to_slice(1)]
    rows, cols = tile.rows.core.relative_to(tile.rows.window), tile.cols.core.relative_to(tile.cols.window)
    height, width = (len(rows), len(cols)) if supports_roi else window.shape[-2:]
    target = out[tile.frames.to_slice(1), :, tile.rows.core.to_slice(scale), tile.cols.core.to_slice(scale)]
    try:
        result = (
            network(window, roi=(rows.to_slice(1), cols.to_slice(1)), out=target) if supports_roi else network(window)
        )
        expected = (window.shape[0], out.shape[1], height * scale, width * scale)
        if tuple(result.shape) != expected:
            raise ClipError(
                f"the network returned {tuple(result.shape)} for a tile {tuple(window.shape)}, but its scale of "
                f"{scale} means {expected}; check its scale, or use an upscaling network"
            )
        if feather:
            _add_tile(result.clamp(0.0, 1.0) if clamp else result, out, tile, scale, feather)
        elif result is not target:
            _write_tile(
                result if supports_roi else result[:, :, rows.to_slice(scale), cols.to_slice(scale)], target, clamp
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
        torch.clamp(result, 0.0, 1.0, out=out)  # One pass, without a temporary tensor.
    else:
        out.copy_(result.clamp(0.0, 1.0))


def _add_tile(result: Tensor, out: Tensor, tile: Tile, scale: int, feather: int) -> None:
    """Add the weighted result of a window to `out`.

    The weights of all tiles sum to 1.
    """
    height, width = out.shape[-2] // scale, out.shape[-1] // scale
    rows, row_weights = _feather_axis(tile.rows, height, scale, feather)
    cols, col_weights = _feather_axis(tile.cols, width, scale, feather)
    part = result[
        :, :, rows.relative_to(tile.rows.window).to_slice(scale), cols.relative_to(tile.cols.window).to_slice(scale)
    ]
    weights = (row_weights[:, None] * col_weights).to(part)
    out[tile.frames.to_slice(1), :, rows.to_slice(scale), cols.to_slice(scale)] += (part * weights).to(out)


def _feather_axis(part: TileSpan, length: int, scale: int, feather: int) -> tuple[Span, Tensor]:
    """The span that a tile is added to, and the weights of its result there."""
    core, first, last = part.core, part.core.start == 0, part.core.end == length
    span = Span(core.start if first else core.start - feather, core.end if last else min(length, core.end + feather))
    position, ramp = torch.arange(span.start * scale, span.end * scale) + 0.5, 2.0 * feather * scale
    weights = torch.ones_like(position)
    if not first:
        weights *= ((position - (core.start - feather) * scale) / ramp).clamp(0, 1)
    if not last:
        weights *= (((core.end + feather) * scale - position) / ramp).clamp(0, 1)
    return span, weights


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
    """Length of cores when `length` is split evenly into as few as the size allows."""
    if length <= size:
        return length
    return _align_up(ceil(length / ceil(length / size)))
