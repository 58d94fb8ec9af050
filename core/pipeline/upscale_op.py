"""The operation that enlarges a clip by a network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from ..clip import ClipInfo, Frames, is_same_aspect
from ..upscaling.deprecated_keywords import accept_deprecated_fields
from ..upscaling.precision import model_device
from ..upscaling.settings import OutputSize, UpscaleSettings, UpscaleStats
from ..upscaling.tile_size import estimate_activation_bytes, plan_tiles, widest_layer_bytes
from ..upscaling.tiles import window_pixels
from ..upscaling.upscale import DEFAULT_HALO, ImageModel, get_trait, upscale
from .operation import Operation
from .warp_op import WarpOp


@accept_deprecated_fields
@dataclass(frozen=True, eq=False)
class UpscaleOp(Operation):
    """Frames through a network: the settings of `upscaling.upscale`, by the same names."""

    model: ImageModel
    settings: UpscaleSettings = UpscaleSettings()  # noqa: RUF009, it is frozen
    device: torch.device | str | None = None
    stats: UpscaleStats | None = None

    def output_info(self, input_info: ClipInfo) -> ClipInfo:
        scale = int(self.model.scale)
        return input_info.resized(*self.settings.size.resolve(input_info.width, input_info.height, scale))

    def run(self, frames: Iterator[Frames], input_info: ClipInfo, frame_offset: int = 0) -> Iterator[Frames]:
        return upscale(
            frames, self.model, self.settings, device=self.device, stats=self.stats, first_frame=frame_offset
        )

    @property
    def temporal_context(self) -> tuple[int, int]:
        return 0, 0

    def estimate_memory(self, input_info: ClipInfo) -> float:
        """What the network says of itself, or is guessed to take, for the tiles that the memory which is free now
        allows; its result, and the last one for reuse.
        """
        model, tiling = self.model, self.settings.tiling
        device = model_device(model) if self.device is None else torch.device(self.device)
        each = estimate_activation_bytes(model, int(model.scale))
        halo = int(get_trait(model, "halo", default=DEFAULT_HALO)) if tiling.halo is None else tiling.halo
        whole = bool(get_trait(model, "prefers_full_frames", default=False))
        size = input_info.height, input_info.width
        cut = plan_tiles(*size, 1, halo, device, tiling, each, layer_bytes=widest_layer_bytes(model), full_frames=whole)
        return each * window_pixels(*size, cut.core_size, halo) + 2 * self.output_info(input_info).frame_bytes

    def motion_proxy(self, input_info: ClipInfo, proxy_info: ClipInfo) -> UpscaleOp | None:
        """A size of another shape is another picture, so that one is kept."""
        return None if is_same_aspect(input_info.size, self.output_info(input_info).size) else self

    def swap_with_warp(self, warp_op: WarpOp, input_info: ClipInfo) -> tuple[UpscaleOp, WarpOp] | None:
        """Enlarged by a factor that whole pixels of pad survive. All borders allow it: the correction scales too."""
        padded = warp_op.output_info(input_info)
        wanted = self.output_info(padded)
        pad = warp_op.pad * wanted.width / padded.width
        if abs(pad - round(pad)) > 1e-9 or not is_same_aspect(padded.size, wanted.size):
            return None
        inner = input_info.resized(wanted.width - 2 * round(pad), wanted.height - 2 * round(pad))
        if min(inner.width, inner.height) < 1 or not is_same_aspect(input_info.size, inner.size):
            return None
        same = self.output_info(input_info) == inner
        if same:
            return self, replace(warp_op, pad=round(pad))
        settings = replace(self.settings, size=OutputSize(size=inner.size))
        return replace(self, settings=settings), replace(warp_op, pad=round(pad))
