"""The operations that upscale: network, then deflickering, then film grain."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..upscaling.settings import UpscaleSettings, UpscaleStats
from ..upscaling.upscale import ImageModel
from .deflicker_op import DeflickerOp
from .operation import Operation
from .upscale_op import UpscaleOp

if TYPE_CHECKING:
    import torch


def upscale_operations(
    model: ImageModel,
    settings: UpscaleSettings,
    *,
    deflicker: float = 0.0,
    device: torch.device | str | None = None,
    stats: UpscaleStats | None = None,
) -> tuple[Operation, ...]:
    """Return the operations that upscale, for `Pipeline.then`.

    deflicker: strength of the motion-compensated temporal filter, 0 (none) to 1. Grain is added after the filter, which
    would average it away. device, stats: as for `upscale`.
    Raises ValueError for a strength outside 0 to 1.
    """
    if not 0 <= deflicker <= 1:
        raise ValueError(f"deflicker is {deflicker}; it goes from 0 (none) to 1")
    if not deflicker:
        return (UpscaleOp(model, settings, device, stats),)
    without_grain = replace(settings, postprocess=replace(settings.postprocess, grain=0.0))
    return UpscaleOp(model, without_grain, device, stats), DeflickerOp(deflicker, settings.postprocess.grain)
