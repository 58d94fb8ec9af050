"""The black bars of a clip: found, and left out of what is measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..bars import BarDetection, Bars
from ..clip import Clip, ClipInfo
from ..motion.bar_detection import find_bars
from ..motion.estimate import WORKING_SIDE
from ..motion.gray_frame import MASK_MARGIN_PIXELS, Masks
from .settings import StabilizeSettings


def with_known_bars(settings: StabilizeSettings, clip: Clip) -> StabilizeSettings:
    """The same settings with the bars of a clip, or NONE, instead of AUTO."""
    if settings.bars is not BarDetection.AUTO:
        return settings
    found = None if settings.pad else find_bars(clip)
    return replace(settings, bars=BarDetection.NONE if found is None else found)


def known_bars(settings: StabilizeSettings, clip: Clip) -> Bars | None:
    """The bars of a clip; None without any."""
    bars = with_known_bars(settings, clip).bars
    return bars if isinstance(bars, Bars) else None


def mask_bars(mask: Masks | None, bars: Bars | None, info: ClipInfo) -> Masks | None:
    """Add the bars to the mask of what is not to be followed."""
    if bars is None:
        return mask
    small = info.fit_within(WORKING_SIDE)
    small_bars = bars.scaled(small.width / info.width, small.height / info.height)
    covered = np.ones((1, small.height, small.width), bool)
    covered[(..., *small_bars.with_margin(MASK_MARGIN_PIXELS).area(small.height, small.width))] = False
    if mask is None:
        return covered  # no array of torch, whose import takes longer than the bars do
    import torch
    import torch.nn.functional as F

    from ..runtime.typed_torch import from_numpy

    def add(masks: torch.Tensor) -> torch.Tensor:
        stretched = F.interpolate(from_numpy(covered)[None].float(), masks.shape[-2:], mode="nearest")[0]
        return torch.maximum(masks.float().cpu(), stretched)

    if callable(mask):
        return lambda number: add(mask(number)[None])[0]
    return mask | covered if isinstance(mask, np.ndarray) else add(mask)
