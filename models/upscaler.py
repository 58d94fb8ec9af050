"""A loaded network behind one call: colour in, larger colour out, whatever channels and sizes the network wants."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .native import NativeDispatcher, Roi, crop_to_roi


class Upscaler:
    """(B, 3, h, w) in [0, 1] -> (B, 3, h * scale, w * scale) in [0, 1], on the device and in the dtype it was moved to.

    Networks for one channel see red, green and blue as three pictures. Networks for four (RGBA) also take
    (B, 4, h, w) and return the same; without alpha they see an opaque picture. `wanted`, rows and columns of the input,
    asks for a part of the result alone; it is put into `out` where that saves a copy, which the caller can see by what
    is returned.

    model: the network itself, an nn.Module with `.scale`, `.in_channels`, `.out_channels`, `.halo`, `.multiple`.
    name: for people, usually the file's. architecture: the name of the network's kind.
    """

    def __init__(self, model: nn.Module, name: str, architecture: str) -> None:
        self.model = model.eval().requires_grad_(False)
        self.name = name
        self.architecture = architecture
        self.scale = _int_attribute(model, "scale")
        self.in_channels = _int_attribute(model, "in_channels")
        self.halo = _int_attribute(model, "halo")  # input pixels around a tile that its result depends on
        self.multiple = _int_attribute(model, "multiple")  # tile positions that are multiples of it leave no seams
        self.supports_half = bool(getattr(model, "supports_half", True))
        self._dispatcher = NativeDispatcher(self.model)
        if self.in_channels not in (1, 3, 4) or _int_attribute(model, "out_channels") != self.in_channels:
            raise ValueError(
                f"it turns {self.in_channels} channels into {_int_attribute(model, 'out_channels')}; "
                "an upscaler keeps 1, 3 or 4 channels"
            )

    @torch.no_grad()
    def __call__(self, images: Tensor, *, roi: Roi | None = None, out: Tensor | None = None) -> Tensor:
        if images.ndim != 4 or images.shape[1] not in (3, self.in_channels):
            raise ValueError(f"{self.name} wants images (B, 3, h, w), got {tuple(images.shape)}")
        batch, channels, height, width = images.shape
        if batch == 0:
            return crop_to_roi(images.new_empty(0, channels, height * self.scale, width * self.scale), roi, self.scale)
        if self.in_channels == 1:
            planes = self._dispatcher(images.reshape(-1, 1, height, width), roi)
            return planes.reshape(batch, channels, *planes.shape[-2:])
        if self.in_channels == 4 and channels == 3:
            opaque = torch.cat((images, torch.ones_like(images[:, :1])), dim=1)
            return self._dispatcher(opaque, roi)[:, :3]
        return self._dispatcher(images, roi, out)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Upscaler:
        """Move the network, in place, and return it. Raises ValueError for half precision where it would break."""
        if dtype is torch.float16 and not self.supports_half:
            raise ValueError(f"{self.name} ({self.architecture}) overflows in float16; use float32 or bfloat16")
        self.model.to(device=device, dtype=dtype)
        return self

    @property
    def engine(self) -> str:
        """What the last call ran on: "native" (the compiled engine, float32 on a CPU) or "torch"."""
        return self._dispatcher.engine

    @property
    def prefers_full_frames(self) -> bool:
        """Whether frames are better not cut on a CPU: the native engine keeps its memory, so size costs nothing."""
        return self._dispatcher.ready

    @property
    def supports_roi(self) -> bool:
        """Whether less is computed where only a part is `wanted`: each layer then makes what the next one reads."""
        return self._dispatcher.exact_halo > 0

    @property
    def exact_halo(self) -> int:
        """Input pixels around a window that starts at a multiple of 12 which the native engine's rounding sees: beyond
        `halo`, for it rounds blocks of pixels together. 0 where that is not known or torch does the work.
        """
        return self._dispatcher.exact_halo

    @property
    def roi_stages(self) -> tuple[int, ...]:
        """How far a change reaches, in input pixels, in each of the two steps of `renew`, the last of which is
        `native_reach`; none where the network cannot renew a part of a result.
        """
        return self._dispatcher.roi_stages if self.in_channels == 3 else ()

    @torch.no_grad()
    def update_regions(self, image: Tensor, stage_rois: Sequence[Sequence[Roi]], out: Tensor, owner: object) -> bool:
        """Bring `out`, the result of another image, up to date for one (1, 3, h, w) that differs in places.

        steps: for each of `native_steps`, the parts of the image that lie so near to a difference. What the first makes
        is kept of the whole image, which must be renewed whole where nothing is kept for the owner yet. owner: whoever
        renews; one at a time has something kept, until `forget`. False where it is not possible; then parts of what was
        to be renewed may be new already.
        """
        return bool(self.roi_stages) and self._dispatcher.update_regions(image, stage_rois, out, owner)

    def release_cache(self, owner: object) -> None:
        """What is kept for this owner is not needed any more."""
        self._dispatcher.release_cache(owner)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype

    @property
    def parameters_count(self) -> int:
        # A graph keeps its weights to itself, and says how many there are.
        count = getattr(self.model, "parameters_count", None)
        return count or sum(parameter.numel() for parameter in self.model.parameters())

    def __repr__(self) -> str:
        millions = self.parameters_count / 1e6
        return f"<Upscaler {self.name}: {self.architecture}, {self.scale}x, {millions:.2f} M parameters>"


def _int_attribute(model: nn.Module, name: str) -> int:
    """An attribute that every network here has and nn.Module does not declare."""
    return int(getattr(model, name))
