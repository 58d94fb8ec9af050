"""What of a frame the network has been shown before, so that its result can serve again.

A frame that repeats the one before needs no network. Of other frames, a network that looks `halo` pixels far needs to
be shown only the tiles around what changed: with everything within `halo` unchanged, a tile's result is the same again.
A network that renews a result in two steps keeps what the first of them made, and pays for its reach only once.
Screen recordings, slides and animation on twos gain much; in camera footage noise changes every tile, so a look at one
row in sixteen settles that the whole frame is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..runtime.buffer_pool import empty_like
from .dirty_rects import TILE_SIZE, cover_rects, padded_area
from .settings import Reuse, UpscaleStats
from .tiles import NATIVE_BLOCK, Rect, Span

# Beyond this halo a tile is mostly halo: only whole frames are compared.
MAX_TILE_HALO = 32
# Rows between those that are looked at first, the side of the squares in which a change is looked for there, and the
# share of them above which the whole frame is run without another look.
PROBE_ROW_STRIDE, PROBE_BLOCK, MAX_CHANGED_FRACTION = 16, 64, 0.7
# Whole frames in a row after which nothing is expected to be used again.
REUSE_TIMEOUT_FRAMES = 12


class StageReach(NamedTuple):
    """A part of the network's layers. around: input pixels around a tile, which has whole blocks, in which a change
    makes it run. paid: input pixels around a box that it costs. share: of all layers.
    """

    dirty_radius: int
    cost_halo: int
    layer_fraction: float = 1.0


class RegionPlan(NamedTuple):
    """What of a frame must be run: boxes for each step, the tiles that those of the last one answer for, and the input
    pixels that all of them cost.
    """

    stage_rects: list[list[Rect]]
    tiles: int = 0
    pixels: int = 0


class ChangeDetector:
    """Says of each frame of a stream what the network must be shown, and counts it.

    halo: input pixels that a result reaches, as far as the network is known to look. reach: how far the rounding of
    blocks reaches, from the worst place in a block, where that is further. parts: whether each layer makes only what
    the next one reads. The first then makes a box with all of its reach, the last the box alone: the mean is half.
    steps: reaches of a network that renews a result in two steps, the last of which is `reach`. kept: whether it keeps
    what the first of them makes of all of `held`, as whoever lets it says; where it does not, that is run whole, which
    pays from the second frame in a row on of which a part is run.
    It keeps one frame, `held`: what the network's results so far are the results of. Within the threshold that may be
    an older look of a tile than the frame's own.
    hopes: whether the result of the frame that was seen last should be kept. Camera footage has no use for that, and
    the copy would cost a small network a fifth of its time. Where hope was lost, the first frame that could have used
    a result is run whole, and its own is kept again.
    """

    def __init__(
        self,
        reuse: Reuse,
        halo: int,
        stats: UpscaleStats,
        exact_halo: int = 0,
        *,
        supports_roi: bool = False,
        roi_stages: Sequence[int] = (),
    ) -> None:
        self.enabled = reuse.enabled
        self._tracks_tiles = halo <= MAX_TILE_HALO
        self.halo, self._stats = max(halo, exact_halo), stats
        around = max(halo, exact_halo - (NATIVE_BLOCK - 1))
        self._single_stage = [StageReach(around, ceil(exact_halo / 2) if supports_roi and exact_halo else self.halo)]
        self._stages = [
            StageReach(far - (NATIVE_BLOCK - 1), ceil((far - near) / 2), (far - near) / exact_halo)
            for near, far in pairwise([0, *roi_stages] if self._tracks_tiles else [])
        ]
        self.midpoint_cached = False
        # 8-bit steps are not exact in floats; the hundredth keeps a change of exactly one step within a threshold of 1.
        self._threshold = (reuse.threshold + 0.01) / 255 if reuse.threshold else 0.0
        self._reference: Tensor | None = None
        self._consecutive_full = 0  # frames in a row, up to the one seen last, that were run whole
        self._was_partial = False  # whether of the last one that was no repeat a part was run

    @property
    def keep_output(self) -> bool:
        return self.enabled and self._consecutive_full <= REUSE_TIMEOUT_FRAMES

    def disable_midpoint(self) -> None:
        """The network does not keep anything after all: boxes are run from its first layer on."""
        self.midpoint_cached, self._stages = False, []

    @property
    def reference(self) -> Tensor:
        """What to show the network instead of the frame that was seen last, (k, C, h, w)."""
        assert self._reference is not None, "see a frame first"
        return self._reference

    def plan(self, frame: Tensor) -> list[list[Rect]] | None:
        """Boxes of a frame (k, C, h, w) that must be run: one list of them, or one for each of the `steps` where it
        should be renewed in those; none for a repeat. None: all of it, as it is.
        """
        height, width = frame.shape[-2:]
        renewal = self._plan_regions(frame) if self.enabled else None
        if renewal is not None and not self.keep_output:
            renewal, self._consecutive_full = None, 0
        if renewal is None:
            self._consecutive_full += 1
            self._was_partial = self.midpoint_cached = False  # What is kept is that of another frame.
            if self.enabled:
                self._store_reference(frame)
        else:
            self._consecutive_full = 0
            self._was_partial = self._was_partial or bool(renewal.stage_rects)
        per_frame = -(-height // TILE_SIZE) * -(-width // TILE_SIZE)
        self._stats.frames += 1
        self._stats.pixels += height * width
        if renewal is None:
            self._stats.tiles_computed += per_frame
            self._stats.pixels_computed += height * width
        elif not renewal.stage_rects:
            self._stats.repeated_frames += 1
        else:
            self._stats.tiles_computed += renewal.tiles
            self._stats.tiles_reused += per_frame - renewal.tiles
            self._stats.pixels_computed += renewal.pixels
        return None if renewal is None else renewal.stage_rects

    def _plan_regions(self, frame: Tensor) -> RegionPlan | None:
        """None: all of the frame. Else `held` is brought up to date."""
        held = self._reference
        if held is None or held.shape != frame.shape or held.device != frame.device:
            return None
        height, width = frame.shape[-2:]
        probed = self._changed_mask(frame[..., ::PROBE_ROW_STRIDE, :], held[..., ::PROBE_ROW_STRIDE, :])
        if (
            self._tracks_tiles
            and float(_block_any(probed, PROBE_BLOCK // PROBE_ROW_STRIDE, PROBE_BLOCK).mean()) > MAX_CHANGED_FRACTION
        ):
            return None
        if not self._tracks_tiles and bool(probed.any()):
            return None
        changed = self._changed_mask(frame, held)
        if not bool(changed.any()):
            return RegionPlan([])
        if not self._tracks_tiles:
            return None
        if self._threshold:
            tiles = _block_any(changed, TILE_SIZE, TILE_SIZE) > 0
            fresh = tiles.repeat_interleave(TILE_SIZE, 0).repeat_interleave(TILE_SIZE, 1)[:height, :width]
            changed = fresh & _difference_mask(frame, held, 0.0)
        else:
            fresh = None
        renewal = self._plan_rects(changed.cpu().numpy())
        if renewal.pixels >= height * width:
            return None
        held.copy_(frame if fresh is None else torch.where(fresh, frame, held))
        return renewal

    def _plan_rects(self, changed: NDArray[np.bool_]) -> RegionPlan:
        """The boxes for a change (h, w)."""
        height, width = changed.shape
        kinds = self._stages if self._stages and self._was_partial else self._single_stage
        dirty = [_dilate_to_tiles(changed, kind.dirty_radius) for kind in kinds]
        steps = [cover_rects(tiles, height, width, kind.cost_halo) for tiles, kind in zip(dirty, kinds, strict=True)]
        if len(steps) > 1 and not self.midpoint_cached:
            steps[0] = [Rect(Span(0, height), Span(0, width))]
        pixels = [
            kind.layer_fraction * sum(padded_area(box, height, width, kind.cost_halo) for box in boxes)
            for boxes, kind in zip(steps, kinds, strict=True)
        ]
        return RegionPlan(steps, int(dirty[-1].sum()), ceil(sum(pixels)))

    def _changed_mask(self, frame: Tensor, reference: Tensor) -> Tensor:
        return _difference_mask(frame, reference, self._threshold)

    def _store_reference(self, frame: Tensor) -> None:
        """A copy: whoever made the frame may use its memory again."""
        if self._reference is None or self._reference.shape != frame.shape or self._reference.device != frame.device:
            self._reference = empty_like(frame)
        self._reference.copy_(frame)


def _difference_mask(frame: Tensor, reference: Tensor, threshold: float) -> Tensor:
    """(k, C, h, w) twice -> (h, w): where any value differs by more than the limit."""
    differs = (frame - reference).abs() > threshold if threshold else frame != reference
    return differs.flatten(0, 1).any(0)


def _block_any(flags: Tensor, rows: int, cols: int) -> Tensor:
    """(h, w) -> 0 or 1 for each block of rows x cols, those at the end may be smaller."""
    return F.max_pool2d(flags.float()[None], (rows, cols), ceil_mode=True)[0]


def _dilate_to_tiles(flags: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """(h, w) -> for each tile whether there is any in it and the halo around it."""
    for _ in range(
        2
    ):  # One axis after the other, and the way back: seen at once, a tile has a hundred times the pixels.
        rows = range(0, len(flags), TILE_SIZE)
        flags = np.stack([flags[max(0, row - radius) : row + TILE_SIZE + radius].any(0) for row in rows], axis=1)
    return flags
