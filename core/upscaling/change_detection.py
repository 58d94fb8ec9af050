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
from .dirty_rects import TILE, cost, merged
from .settings import Reuse, Tally
from .tiles import BLOCK, Box, Span

# Beyond this halo a tile is mostly halo: only whole frames are compared.
WIDEST_HALO = 32
# Rows between those that are looked at first, the side of the squares in which a change is looked for there, and the
# share of them above which the whole frame is run without another look.
PROBE, COARSE, MOST_CHANGED = 16, 64, 0.7
# Whole frames in a row after which nothing is expected to be used again.
PATIENCE = 12


class _Step(NamedTuple):
    """A part of the network's layers. around: input pixels around a tile, which has whole blocks, in which a change
    makes it run. paid: input pixels around a box that it costs. share: of all layers.
    """

    around: int
    paid: int
    share: float = 1.0


class _Renewal(NamedTuple):
    """What of a frame must be run: boxes for each step, the tiles that those of the last one answer for, and the input
    pixels that all of them cost.
    """

    steps: list[list[Box]]
    tiles: int = 0
    pixels: int = 0


class Watcher:
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
        self, reuse: Reuse, halo: int, tally: Tally, reach: int = 0, *, parts: bool = False, steps: Sequence[int] = ()
    ) -> None:
        self.on = reuse.on
        self._tiles = halo <= WIDEST_HALO
        self.halo, self._tally = max(halo, reach), tally
        around = max(halo, reach - (BLOCK - 1))
        self._plain = [_Step(around, ceil(reach / 2) if parts and reach else self.halo)]
        self._steps = [
            _Step(far - (BLOCK - 1), ceil((far - near) / 2), (far - near) / reach)
            for near, far in pairwise([0, *steps] if self._tiles else [])
        ]
        self.kept = False
        # 8-bit steps are not exact in floats; the hundredth keeps a change of exactly one step within a threshold of 1.
        self._limit = (reuse.threshold + 0.01) / 255 if reuse.threshold else 0.0
        self._held: Tensor | None = None
        self._whole = 0  # frames in a row, up to the one seen last, that were run whole
        self._partly = False  # whether of the last one that was no repeat a part was run

    @property
    def hopes(self) -> bool:
        return self.on and self._whole <= PATIENCE

    def give_up(self) -> None:
        """The network does not keep anything after all: boxes are run from its first layer on."""
        self.kept, self._steps = False, []

    @property
    def held(self) -> Tensor:
        """What to show the network instead of the frame that was seen last, (k, C, h, w)."""
        assert self._held is not None, "see a frame first"
        return self._held

    def see(self, frame: Tensor) -> list[list[Box]] | None:
        """Boxes of a frame (k, C, h, w) that must be run: one list of them, or one for each of the `steps` where it
        should be renewed in those; none for a repeat. None: all of it, as it is.
        """
        height, width = frame.shape[-2:]
        renewal = self._renewal(frame) if self.on else None
        if renewal is not None and not self.hopes:
            renewal, self._whole = None, 0
        if renewal is None:
            self._whole += 1
            self._partly = self.kept = False  # What is kept is that of another frame.
            if self.on:
                self._hold(frame)
        else:
            self._whole = 0
            self._partly = self._partly or bool(renewal.steps)
        per_frame = -(-height // TILE) * -(-width // TILE)
        self._tally.frames += 1
        self._tally.pixels += height * width
        if renewal is None:
            self._tally.tiles_run += per_frame
            self._tally.pixels_run += height * width
        elif not renewal.steps:
            self._tally.repeats += 1
        else:
            self._tally.tiles_run += renewal.tiles
            self._tally.tiles_reused += per_frame - renewal.tiles
            self._tally.pixels_run += renewal.pixels
        return None if renewal is None else renewal.steps

    def _renewal(self, frame: Tensor) -> _Renewal | None:
        """None: all of the frame. Else `held` is brought up to date."""
        held = self._held
        if held is None or held.shape != frame.shape or held.device != frame.device:
            return None
        height, width = frame.shape[-2:]
        probed = self._changed(frame[..., ::PROBE, :], held[..., ::PROBE, :])
        if self._tiles and float(_any_in(probed, COARSE // PROBE, COARSE).mean()) > MOST_CHANGED:
            return None
        if not self._tiles and bool(probed.any()):
            return None
        changed = self._changed(frame, held)
        if not bool(changed.any()):
            return _Renewal([])
        if not self._tiles:
            return None
        if self._limit:
            tiles = _any_in(changed, TILE, TILE) > 0
            fresh = tiles.repeat_interleave(TILE, 0).repeat_interleave(TILE, 1)[:height, :width]
            changed = fresh & _differs(frame, held, 0.0)
        else:
            fresh = None
        renewal = self._cut(changed.cpu().numpy())
        if renewal.pixels >= height * width:
            return None
        held.copy_(frame if fresh is None else torch.where(fresh, frame, held))
        return renewal

    def _cut(self, changed: NDArray[np.bool_]) -> _Renewal:
        """The boxes for a change (h, w)."""
        height, width = changed.shape
        kinds = self._steps if self._steps and self._partly else self._plain
        dirty = [_near(changed, kind.around) for kind in kinds]
        steps = [merged(tiles, height, width, kind.paid) for tiles, kind in zip(dirty, kinds, strict=True)]
        if len(steps) > 1 and not self.kept:
            steps[0] = [Box(Span(0, height), Span(0, width))]
        pixels = [
            kind.share * sum(cost(box, height, width, kind.paid) for box in boxes)
            for boxes, kind in zip(steps, kinds, strict=True)
        ]
        return _Renewal(steps, int(dirty[-1].sum()), ceil(sum(pixels)))

    def _changed(self, frame: Tensor, held: Tensor) -> Tensor:
        return _differs(frame, held, self._limit)

    def _hold(self, frame: Tensor) -> None:
        """A copy: whoever made the frame may use its memory again."""
        if self._held is None or self._held.shape != frame.shape or self._held.device != frame.device:
            self._held = empty_like(frame)
        self._held.copy_(frame)


def _differs(frame: Tensor, held: Tensor, limit: float) -> Tensor:
    """(k, C, h, w) twice -> (h, w): where any value differs by more than the limit."""
    differs = (frame - held).abs() > limit if limit else frame != held
    return differs.flatten(0, 1).any(0)


def _any_in(flags: Tensor, rows: int, cols: int) -> Tensor:
    """(h, w) -> 0 or 1 for each block of rows x cols, those at the end may be smaller."""
    return F.max_pool2d(flags.float()[None], (rows, cols), ceil_mode=True)[0]


def _near(flags: NDArray[np.bool_], halo: int) -> NDArray[np.bool_]:
    """(h, w) -> for each tile whether there is any in it and the halo around it."""
    for _ in range(
        2
    ):  # One axis after the other, and the way back: seen at once, a tile has a hundred times the pixels.
        rows = range(0, len(flags), TILE)
        flags = np.stack([flags[max(0, row - halo) : row + TILE + halo].any(0) for row in rows], axis=1)
    return flags
