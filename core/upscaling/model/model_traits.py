"""Traits of an upscaling network.

They are what it declares, with defaults for foreign networks.

A model is a network or a wrapper around one (`models.Upscaler`, spandrel's descriptor, a ComfyUI wrapper), which holds
it as `.model`. All optional attributes of models are read here, once per stream.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ...clip import ClipError
from ..tiles import ALIGN, Roi

# Input pixels of context with which residual dense networks stay within 1/255 of the result for the whole frame.
DEFAULT_HALO = 64


class ImageModel(Protocol):
    """A network that upscales.

    (B, C, h, w) in [0, 1] -> (B, C, h * scale, w * scale), of the same dtype and on the same device.

    C is 3 unless the model has an attribute `in_channels` of 1 (gray) or 4 (RGBA). A model with `frames_context` reads
    n frames for one of its result: (B, 3 * n, h, w), concatenated, the oldest first. All other attributes that a model
    may have are those of `ModelTraits`.
    """

    @property
    def scale(self) -> int: ...

    def __call__(self, frames: Tensor, /) -> Tensor: ...


class RoiModel(Protocol):
    """A model with `roi_stages`: it can update the regions of a result."""

    def update_regions(self, image: Tensor, stage_rois: Sequence[Sequence[Roi]], out: Tensor, owner: object) -> bool:
        """Update the result of another image; see `models.Upscaler`."""
        ...

    def release_cache(self, owner: object) -> None:
        """Free the activations that `update_regions` cached for this owner."""


@dataclass(frozen=True)
class ModelTraits:
    """What a model declares about itself; the defaults are those of a foreign network.

    scale: output size over input size. name: for people. in_channels: of a frame: 1 (gray), 3 (RGB) or 4 (RGBA).
    frames_context: number of frames before and after the one that is upscaled that the network reads as well.
    halo: radius of the receptive field, in input pixels.
    exact_halo: input pixels around a window that make its result on the native CPU engine bit-identical to that of the
    full frame, for windows that start at multiples of 12; 0 where torch runs the network.
    has_native_engine: whether it brings a CPU engine of its own that runs it in float32.
    supports_half: whether float16 is worth a try. prefers_full_frames: whether tiles gain nothing on a CPU.
    multiple: sides and positions of tiles should be multiples of this number of pixels. never_tiled: whether the
    network cuts tiles itself. blends_tiles: whether the result for a tile depends on all of it: networks with windows,
    or with operations over the whole input, such as its mean.
    activation_bytes: float32 activations per input pixel, None if not declared.
    layer_bytes: float32 output of the widest layer, per pixel.

    Read from the outermost wrapper only, because a wrapper may change input and output:
    supports_roi: the model takes `roi=(rows, columns)`, slices of its input, computes no more than that part of the
    result, and may put it, clamped to [0, 1], into the tensor passed as `out`, which it then returns.
    roi_stages: radius of a change, in input pixels, in the cached middle and at the end of the network, for models with
    `update_regions` and `release_cache` (see `models.Upscaler`).
    """

    scale: int
    name: str = "network"
    in_channels: int = 3
    frames_context: tuple[int, int] = (0, 0)
    halo: int = DEFAULT_HALO
    exact_halo: int = 0
    has_native_engine: bool = False
    supports_half: bool = True
    prefers_full_frames: bool = False
    multiple: int = 1
    never_tiled: bool = False
    blends_tiles: bool = False
    activation_bytes: float | None = None
    layer_bytes: float = 256.0
    supports_roi: bool = False
    roi_stages: tuple[int, ...] = ()

    @property
    def window_frames(self) -> int:
        """Number of frames that the network reads for one of its result."""
        return 1 + sum(self.frames_context)

    @property
    def estimated_activation_bytes(self) -> float:
        """Bytes of float32 activations per input pixel.

        As declared, or else a high estimate.

        The estimate is four tensors of the widest layer at the size of the result: 16 KB for a residual dense network
        at 4x, as measured where its upscaled end is not computed in pieces.
        """
        return 4.0 * self.layer_bytes * self.scale**2 if self.activation_bytes is None else self.activation_bytes


def read_traits(model: ImageModel) -> ModelTraits:
    """Read the traits of a model.

    They are those of the outermost wrapper that has them, or the defaults.

    Raises ClipError for a number of channels other than 1, 3 and 4, for a network whose output has another number than
    its input, and for a network of several frames that are not RGB.
    """
    module = find_module(model)
    channels = int(_find(model, "in_channels", "input_channels", default=3))
    if channels not in (1, 3, 4):
        raise ClipError(
            f"the network takes {channels} channels; use one for gray (1), RGB (3) or RGBA (4) images instead"
        )
    results = int(_find(model, "out_channels", "output_channels", default=channels))
    if results != channels:
        raise ClipError(
            f"the network turns {channels} channels into {results}; use one that keeps 1, 3 or 4 channels instead"
        )
    before, after = _find(model, "frames_context", default=(0, 0))
    if min(before, after) < 0 or (before + after > 0 and channels != 3):
        raise ClipError(
            f"the network reads {before} frames before and {after} after each one, of {channels} channels; use one "
            "that reads RGB frames and no negative number of them"
        )
    requirements = _find(model, "size_requirements", default=None)  # of spandrel's descriptors
    multiple = int(_find(model, "multiple", default=getattr(requirements, "multiple_of", 1)))
    tiling = getattr(_find(model, "tiling", default=None), "name", "SUPPORTED")  # of spandrel's ModelTiling
    activation_bytes = _find(model, "activation_bytes", default=None)
    weights = [] if module is None else list(module.parameters())
    return ModelTraits(
        scale=int(model.scale),
        name=str(_find(model, "name", default=type(module or model).__name__)),
        in_channels=channels,
        frames_context=(int(before), int(after)),
        halo=int(_find(model, "halo", default=DEFAULT_HALO)),
        exact_halo=int(_find(model, "exact_halo", default=0)),
        has_native_engine=bool(_find(model, "has_native_engine", default=False)),
        supports_half=bool(_find(model, "supports_half", default=True)),
        prefers_full_frames=bool(_find(model, "prefers_full_frames", default=False)),
        multiple=multiple,
        never_tiled=tiling == "INTERNAL",
        blends_tiles=tiling != "SUPPORTED" or ALIGN % multiple != 0 or _has_global_operation(module),
        activation_bytes=None if activation_bytes is None else float(activation_bytes),
        layer_bytes=4.0 * max((weight.shape[0] for weight in weights if weight.ndim == 4), default=64),
        supports_roi=bool(getattr(model, "supports_roi", False)),
        roi_stages=tuple(getattr(model, "roi_stages", ())),
    )


def _has_global_operation(module: nn.Module | None) -> bool:
    """Whether a layer looks at its whole input.

    Such operations are a pooling to a fixed size, as in channel attention, a softmax, and the statistics of a group
    norm.
    """
    kinds = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Softmax, nn.MultiheadAttention, nn.GroupNorm)
    return module is not None and any(isinstance(layer, kinds) for layer in module.modules())


def read_engine(model: object) -> str:
    """Return the engine of the last call: unlike a trait, it changes between calls.

    "torch", "native" or for example "onnx (CPU)".
    """
    engine = _find(model, "engine", default="torch")
    return engine if isinstance(engine, str) else "torch"  # Foreign models may mean something else by it.


def find_module(model: object) -> nn.Module | None:
    """Return the torch module of a model; None if there is none.

    It is the model itself, or the module that it wraps as `.model`.
    """
    return next((wrapped for wrapped in _wrapped_models(model) if isinstance(wrapped, nn.Module)), None)


def model_device(model: object) -> torch.device:
    """Return the device of a model's weights.

    Without a torch module it is the model's attribute `device`, or else the CPU.
    """
    module = find_module(model)
    if module is None:
        return torch.device(getattr(model, "device", "cpu"))
    weight = next(module.parameters(), None)
    return torch.device("cpu") if weight is None else weight.device


def _find(model: object, *names: str, default: Any) -> Any:
    """The first of these attributes that a model has, or else the model that it wraps."""
    for wrapped in _wrapped_models(model):
        for name in names:
            if hasattr(wrapped, name):
                return getattr(wrapped, name)
    return default


def _wrapped_models(model: object) -> Iterator[object]:
    """A model, the model that it wraps, and so on."""
    known: set[int] = set()
    while model is not None and id(model) not in known:
        known.add(id(model))
        yield model
        model = getattr(model, "model", None)
