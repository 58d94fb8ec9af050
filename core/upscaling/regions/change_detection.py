"""Detect which pixels of a frame changed.

In camera footage noise changes every tile, so one row in sixteen is compared first and usually settles it.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .dirty_rects import TILE_SIZE

# Rows between those that are compared first, the side of the squares in which a change is looked for there, and the
# fraction of changed squares above which the whole frame counts as changed.
PROBE_ROW_STRIDE, PROBE_BLOCK, MAX_CHANGED_FRACTION = 16, 64, 0.7


def changed_pixels(frame: Tensor, reference: Tensor, threshold: float, *, any_is_full: bool = False) -> Tensor | None:
    """Compare a frame with a reference; None if nearly all of it changed.

    (k, C, h, w) twice -> (h, w) bool, True where any value differs by more than the threshold.

    any_is_full: return None for any change that the first comparison of a few rows finds.
    """
    probed = difference_mask(frame[..., ::PROBE_ROW_STRIDE, :], reference[..., ::PROBE_ROW_STRIDE, :], threshold)
    if any_is_full:
        if bool(probed.any()):
            return None
    elif float(_block_any(probed, PROBE_BLOCK // PROBE_ROW_STRIDE, PROBE_BLOCK).mean()) > MAX_CHANGED_FRACTION:
        return None
    return difference_mask(frame, reference, threshold)


def difference_mask(frame: Tensor, reference: Tensor, threshold: float) -> Tensor:
    """Return where any value differs by more than the threshold.

    (k, C, h, w) twice -> (h, w) bool.
    """
    differs = (frame - reference).abs() > threshold if threshold else frame != reference
    return differs.flatten(0, 1).any(0)


def expand_to_tiles(mask: Tensor) -> Tensor:
    """(h, w) bool -> (h, w) bool, set in all of each tile that has a set pixel."""
    height, width = mask.shape
    tiles = _block_any(mask, TILE_SIZE, TILE_SIZE) > 0
    return tiles.repeat_interleave(TILE_SIZE, 0).repeat_interleave(TILE_SIZE, 1)[:height, :width]


def _block_any(mask: Tensor, rows: int, cols: int) -> Tensor:
    """Return 1 for blocks of rows x cols pixels in which any pixel is set, else 0.

    (h, w) -> (block rows, block columns), float. The last blocks may be smaller.
    """
    return F.max_pool2d(mask.float()[None], (rows, cols), ceil_mode=True)[0]
