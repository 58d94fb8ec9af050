"""The black bars of a clip: found, and left out of what is measured."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import astuple, replace
from typing import TYPE_CHECKING

import numpy as np

from ..bars import NO_BARS, BarDetection, Bars, FirstBars
from ..clip import Clip, ClipInfo
from ..motion.bar_detection import find_bars
from ..motion.estimate import WORKING_SIDE
from ..motion.optical_flow.gray_frame import MASK_MARGIN_PIXELS, Masks
from .settings import StabilizeSettings

if TYPE_CHECKING:
    from torch import Tensor


def with_known_bars(settings: StabilizeSettings, clip: Clip) -> StabilizeSettings:
    """The same settings with the bars of the first frames instead of AUTO.

    With a pad, NONE.
    """
    if settings.bars is not BarDetection.AUTO:
        return settings
    if settings.pad:
        return replace(settings, bars=BarDetection.NONE)
    return replace(settings, bars=FirstBars(*astuple(find_bars(clip) or NO_BARS)))


def known_bars(settings: StabilizeSettings, clip: Clip) -> Bars | None:
    """The bars of a clip; None without any."""
    bars = with_known_bars(settings, clip).bars
    found = Bars(*astuple(bars)) if isinstance(bars, Bars) else NO_BARS
    return None if found == NO_BARS else found


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


def mask_shot_bars(
    mask: Masks | None, shots: Sequence[slice], shot_bars: Sequence[Bars], info: ClipInfo
) -> Callable[[int], Tensor]:
    """As `mask_bars`, for shots with different bars."""
    import torch
    import torch.nn.functional as F

    from ..runtime.typed_torch import from_numpy

    small, starts = info.fit_within(WORKING_SIDE), [shot.start for shot in shots]

    def of_frame(number: int) -> Tensor:
        bars = shot_bars[bisect_right(starts, number) - 1].scaled(small.width / info.width, small.height / info.height)
        covered = torch.ones(small.height, small.width)
        covered[bars.area(small.height, small.width)] = 0
        if mask is None:
            return covered
        if isinstance(mask, np.ndarray):
            own = from_numpy(mask[0].astype(np.float32))
        else:
            own = (mask(number) if callable(mask) else mask[0 if len(mask) == 1 else number]).float().cpu()
        return torch.maximum(own, F.interpolate(covered[None, None], own.shape, mode="nearest")[0, 0])

    return of_frame
