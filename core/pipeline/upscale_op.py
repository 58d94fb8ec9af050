"""The operation that enlarges a clip by a network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch

from ..clip import ClipInfo, Frames, same_shape
from ..upscaling.precision import home_of
from ..upscaling.settings import Alpha, Finish, Precision, Reuse, Tally, Target, Tiling
from ..upscaling.tile_size import choose_cut, guessed_bytes, layer_bytes
from ..upscaling.tiles import window_pixels
from ..upscaling.upscale import DEFAULT_HALO, ImageModel, trait, upscale
from .operation import Operation
from .warp_op import Steady


@dataclass(frozen=True, eq=False)
class Enlarge(Operation):
    """Frames through a network: the settings of `upscaling.upscale`, by the same names."""

    model: ImageModel
    target: Target = field(default_factory=Target)
    tiling: Tiling = field(default_factory=Tiling)
    precision: Precision = Precision.AUTO
    device: torch.device | str | None = None
    reuse: Reuse = field(default_factory=Reuse)
    finish: Finish = field(default_factory=Finish)
    alpha: Alpha = Alpha.RESIZE
    compile_network: bool = False
    tally: Tally | None = None

    def info(self, before: ClipInfo) -> ClipInfo:
        return before.resized(*self.target.of(before.width, before.height, int(self.model.scale)))

    def run(self, frames: Iterator[Frames], before: ClipInfo, first: int = 0) -> Iterator[Frames]:
        return upscale(
            frames,
            self.model,
            target=self.target,
            tiling=self.tiling,
            precision=self.precision,
            device=self.device,
            reuse=self.reuse,
            finish=self.finish,
            alpha=self.alpha,
            compile_network=self.compile_network,
            tally=self.tally,
            first=first,
        )

    @property
    def context(self) -> tuple[int, int]:
        return 0, 0

    def memory(self, before: ClipInfo) -> float:
        """What the network says of itself, or is guessed to take, for the tiles that the memory which is free now
        allows; its result, and the last one for reuse.
        """
        model, tiling = self.model, self.tiling
        device = home_of(model) if self.device is None else torch.device(self.device)
        each = guessed_bytes(model, int(model.scale))
        halo = int(trait(model, "halo", default=DEFAULT_HALO)) if tiling.halo is None else tiling.halo
        whole = bool(trait(model, "whole_frames", default=False))
        size = before.height, before.width
        cut = choose_cut(*size, 1, halo, device, tiling, each, layer=layer_bytes(model), whole=whole)
        return each * window_pixels(*size, cut.size, halo) + 2 * self.info(before).frame_bytes

    def for_motion(self, before: ClipInfo, small: ClipInfo) -> Enlarge | None:
        """A size of another shape is another picture, so that one is kept."""
        return None if same_shape(before.size, self.info(before).size) else self

    def ahead_of(self, steady: Steady, before: ClipInfo) -> tuple[Enlarge, Steady] | None:
        """Enlarged by a factor that whole pixels of pad survive. All borders allow it: the correction scales too."""
        padded = steady.info(before)
        wanted = self.info(padded)
        pad = steady.pad * wanted.width / padded.width
        if abs(pad - round(pad)) > 1e-9 or not same_shape(padded.size, wanted.size):
            return None
        inner = before.resized(wanted.width - 2 * round(pad), wanted.height - 2 * round(pad))
        if min(inner.width, inner.height) < 1 or not same_shape(before.size, inner.size):
            return None
        same = self.info(before) == inner
        enlarge = self if same else replace(self, target=Target(size=(inner.width, inner.height)))
        return enlarge, replace(steady, pad=round(pad))
