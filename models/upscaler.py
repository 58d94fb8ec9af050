"""The interface of all loaded upscaling networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .native import NativeDispatcher, Roi, crop_to_roi


class Upscaler:
    """A loaded upscaling network: RGB in, upscaled RGB out.

    (B, 3, h, w) in [0, 1] -> (B, 3, h * scale, w * scale) in [0, 1], on the device and in the dtype of the network.
    Networks with one channel process red, green and blue as three images. Networks with four (RGBA) also take
    (B, 4, h, w) and return the same; without alpha they get an opaque image.

    Networks that read several frames of a video have `frames_context`, the number of frames before and after the one
    that is upscaled. They also take windows (B, 3 * n, h, w), the n frames concatenated, the oldest first; a still
    image (B, 3, h, w) takes the place of all of them.

    model: an nn.Module with `.scale`, `.in_channels`, `.out_channels`, `.halo` and `.multiple`. name: for messages,
    usually the file's stem. architecture: the network's type. Raises ValueError for networks that do not keep the
    number of channels, or have others than 1, 3 or 4.
    """

    def __init__(self, model: nn.Module, name: str, architecture: str) -> None:
        self.model = model.eval().requires_grad_(False)
        self.name = name
        self.architecture = architecture
        self.scale = _int_attribute(model, "scale")
        self.in_channels = _int_attribute(model, "in_channels")
        self.halo = _int_attribute(model, "halo")  # input pixels around a tile that its result depends on
        self.multiple = _int_attribute(model, "multiple")  # tiles at multiples of it have no seams
        self.frames_context: tuple[int, int] = getattr(model, "frames_context", (0, 0))
        self.supports_half = bool(getattr(model, "supports_half", True))
        self._dispatcher = NativeDispatcher(self.model)
        if self.in_channels not in (1, 3, 4) or _int_attribute(model, "out_channels") != self.in_channels:
            raise ValueError(
                f"it turns {self.in_channels} channels into {_int_attribute(model, 'out_channels')}; "
                "an upscaler keeps 1, 3 or 4 channels"
            )

    @torch.no_grad()
    def __call__(self, images: Tensor, *, roi: Roi | None = None, out: Tensor | None = None) -> Tensor:
        """Upscale images, see the class.

        roi: rows and columns of the input; only their part of the result is computed, where possible, and returned.
        out: where the result is written if that saves a copy; otherwise another tensor is returned.
        """
        window = 3 * (1 + sum(self.frames_context))
        if images.ndim != 4 or images.shape[1] not in (3, self.in_channels, window):
            needed = "images (B, 3, h, w)" + (f" or windows (B, {window}, h, w)" if window > 3 else "")
            raise ValueError(f"{self.name} needs {needed}, got {tuple(images.shape)}")
        batch, channels, height, width = images.shape
        channels = 3 if channels == window else channels
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
        """Move the network, in place, and return self.

        Raises ValueError for float16 where the network would overflow.
        """
        if dtype is torch.float16 and not self.supports_half:
            raise ValueError(f"{self.name} ({self.architecture}) overflows in float16; use float32 or bfloat16")
        self.model.to(device=device, dtype=dtype)
        return self

    @property
    def engine(self) -> str:
        """The engine of the last call: "native", "torch" or for example "onnx (CPU)".

        The native engine runs float32 on a CPU, where it is built.
        """
        return self._dispatcher.engine

    @property
    def has_native_engine(self) -> bool:
        """Whether the native engine is built and can run this network.

        The engine runs float32 on a CPU only.
        """
        return self._dispatcher.ready

    @property
    def prefers_full_frames(self) -> bool:
        """Whether full frames are faster than tiles on a CPU.

        They are with the native engine, which reuses its memory.
        """
        return self._dispatcher.ready

    @property
    def supports_roi(self) -> bool:
        """Whether a `roi` saves work.

        Each layer then computes only what the next one reads.
        """
        return self._dispatcher.exact_halo > 0

    @property
    def exact_halo(self) -> int:
        """Input pixels around a window that a bit-identical result depends on.

        The window starts at a multiple of 12. Larger than `halo` with the native engine, whose rounding couples the
        pixels of a Winograd tile. 0 where it is not known or torch runs.
        """
        return self._dispatcher.exact_halo

    @property
    def roi_stages(self) -> tuple[int, ...]:
        """The exact halo, in input pixels, of each of the two stages of `update_regions`.

        The second is `exact_halo`. Empty where partial updates are not supported.
        """
        return self._dispatcher.roi_stages if self.in_channels == 3 else ()

    @torch.no_grad()
    def update_regions(self, image: Tensor, stage_rois: Sequence[Sequence[Roi]], out: Tensor, owner: object) -> bool:
        """Update the result of another image where this one differs from it.

        image: (1, 3, h, w). out: the result of the other image, which is changed in place.
        stage_rois: for each of `roi_stages`, the regions of the input within that halo of a difference. The first stage
        caches its activations for the full frame and must cover it while nothing is cached for the owner. owner: any
        object; the cache belongs to one owner at a time, until `release_cache`. Returns False where it is not possible;
        some regions may then be updated already.
        """
        return bool(self.roi_stages) and self._dispatcher.update_regions(image, stage_rois, out, owner)

    def release_cache(self, owner: object) -> None:
        """Free the activations that `update_regions` cached for this owner."""
        self._dispatcher.release_cache(owner)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype

    @property
    def parameters_count(self) -> int:
        # The weights of an ONNX graph are not torch parameters; its metadata has their number.
        count = getattr(self.model, "parameters_count", None)
        return count or sum(parameter.numel() for parameter in self.model.parameters())

    def __repr__(self) -> str:
        millions = self.parameters_count / 1e6
        return f"<Upscaler {self.name}: {self.architecture}, {self.scale}x, {millions:.2f} M parameters>"


def _int_attribute(model: nn.Module, name: str) -> int:
    """An attribute that every network here has and nn.Module does not declare."""
    return int(getattr(model, name))
