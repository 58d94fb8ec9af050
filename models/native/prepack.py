"""Weights of a network in the engine's layout, prepacked once for all frame sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .bindings import KERNEL_PART, MemoryBlock, NativeLibrary

# The engine receives bare addresses, so tensors for it must not depend on torch's default dtype and device.
CPU_FLOAT32: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}


@dataclass(frozen=True)
class PrepackedConv:
    """A convolution's weights in the engine's layout.

    channels: input channels, padding between groups included. in_planes: 0 for a convolution of an image.
    kernel: side of a large kernel, which is not 3x3.
    """

    weights: MemoryBlock | Tensor
    bias: Tensor
    slope: Tensor | None
    channels: int
    in_planes: int
    out_planes: int
    kernel: int = 0


def prepack_conv(
    library: NativeLibrary, module: nn.Module, channel_groups: Sequence[int] = (), *, slope: Tensor | None = None
) -> PrepackedConv:
    """Transform the weights of a 3x3 convolution to Winograd points, once.

    channel_groups: sizes of the buffers that hold the input channels; each starts a new plane. Empty: one buffer.
    slope: factor of negative results, one per output channel or one for all, None = no activation.
    """
    conv = _as_conv(module)
    out_channels, in_channels = conv.weight.shape[:2]
    positions, planes = _channel_positions(library, channel_groups or (in_channels,))
    out_planes = library.plane_count(out_channels)
    return PrepackedConv(
        weights=library.transform_filters(
            [conv.weight.detach().contiguous()], positions, positions[-1] + 1, out_planes
        ),
        bias=_prepack_bias(conv, out_planes * library.vector_width),
        slope=None if slope is None else _zero_pad(slope.expand(out_channels), out_planes * library.vector_width),
        channels=positions[-1] + 1,
        in_planes=planes,
        out_planes=out_planes,
    )


def prepack_input_conv(library: NativeLibrary, module: nn.Module, *, slope: Tensor | None = None) -> PrepackedConv:
    """Prepack a 3x3 convolution of an image.

    It is computed directly, without Winograd, because an image has few channels.
    """
    conv = _as_conv(module)
    out_channels, in_channels = conv.weight.shape[:2]
    out_planes = library.plane_count(out_channels)
    weights = torch.zeros(in_channels, 3, 3, out_planes * library.vector_width, **CPU_FLOAT32)
    weights[..., :out_channels] = conv.weight.detach().float().permute(1, 2, 3, 0)
    return PrepackedConv(
        weights=weights,
        bias=_prepack_bias(conv, out_planes * library.vector_width),
        slope=None if slope is None else _zero_pad(slope.expand(out_channels), out_planes * library.vector_width),
        channels=in_channels,
        in_planes=0,
        out_planes=out_planes,
    )


def prepack_large_conv(library: NativeLibrary, module: nn.Module, channels: int) -> PrepackedConv:
    """Prepack a convolution with a large kernel.

    Its side is odd, and it keeps the number of channels.
    channels: of the planes, of which the convolution may be a part; its planes' other channels pass through unchanged.
    """
    conv = _as_conv(module)
    size, kernel = len(conv.weight), conv.weight.shape[-1]
    planes = library.plane_count(size)
    width = planes * library.vector_width
    passed = range(size, min(width, channels))
    parts = -(-kernel // KERNEL_PART)
    weight = torch.zeros(width, width, parts * KERNEL_PART, parts * KERNEL_PART, **CPU_FLOAT32)
    weight[:size, :size, :kernel, :kernel] = conv.weight.detach()
    weight[passed, passed, kernel // 2, kernel // 2] = 1.0
    # (out, in, rows of parts, 3, parts of a row, 3) -> for each row of parts (out, part * width + in, 3, 3)
    weight = weight.reshape(width, width, parts, KERNEL_PART, parts, KERNEL_PART)
    rows = [row.contiguous() for row in weight.permute(2, 0, 4, 1, 3, 5).flatten(2, 3)]
    depth = parts * width
    return PrepackedConv(
        weights=library.transform_filters(rows, range(depth), depth, planes),
        bias=_prepack_bias(conv, width),
        slope=None,
        channels=width,
        in_planes=planes,
        out_planes=planes,
        kernel=kernel,
    )


def prepack_pointwise(library: NativeLibrary, module: nn.Module, channel_groups: Sequence[int] = ()) -> PrepackedConv:
    """Prepack a 1x1 convolution; channel_groups as in `prepack_conv`."""
    conv = _as_conv(module)
    out_channels, in_channels = conv.weight.shape[:2]
    positions, planes = _channel_positions(library, channel_groups or (in_channels,))
    out_planes, width = library.plane_count(out_channels), library.vector_width
    weights = torch.zeros(planes * width, out_planes * width, **CPU_FLOAT32)
    weights[positions, :out_channels] = conv.weight.detach().flatten(1).T
    pass_width = library.max_planes_per_pass * width
    passes = [weights[:, start : start + pass_width].flatten() for start in range(0, out_planes * width, pass_width)]
    return PrepackedConv(
        weights=torch.cat(passes),
        bias=_prepack_bias(conv, out_planes * width),
        slope=None,
        channels=planes * width,
        in_planes=planes,
        out_planes=out_planes,
    )


@dataclass(frozen=True)
class PrepackedNorm:
    """The weights of a normalization, with zeros for the lanes without a channel."""

    weight: Tensor
    bias: Tensor
    channels: int
    groups: int
    epsilon: float


def prepack_norm(
    library: NativeLibrary, weight: Tensor, bias: Tensor, *, groups: int = 1, epsilon: float
) -> PrepackedNorm:
    """Prepack a group norm, or a layer norm over the channels of each pixel."""
    length = library.plane_count(len(weight)) * library.vector_width
    return PrepackedNorm(_zero_pad(weight, length), _zero_pad(bias, length), len(weight), groups, epsilon)


def _channel_positions(library: NativeLibrary, channel_groups: Sequence[int]) -> tuple[list[int], int]:
    """Index of each channel in planes, and the number of planes.

    Each group of channels starts a new plane.
    """
    positions: list[int] = []
    planes = 0
    for size in channel_groups:
        positions += range(planes * library.vector_width, planes * library.vector_width + size)
        planes += library.plane_count(size)
    return positions, planes


def _as_conv(module: nn.Module) -> nn.Conv2d:
    """Narrow the type of what `get_submodule` and ModuleList return."""
    if not isinstance(module, nn.Conv2d):
        raise TypeError(f"a Conv2d is expected here, got {type(module).__name__}")
    return module


def _prepack_bias(conv: nn.Conv2d, length: int) -> Tensor:
    return torch.zeros(length, **CPU_FLOAT32) if conv.bias is None else _zero_pad(conv.bias, length)


def _zero_pad(values: Tensor, length: int) -> Tensor:
    result = torch.zeros(length, **CPU_FLOAT32)
    result[: len(values)] = values.detach().float()
    return result
