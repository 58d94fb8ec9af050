"""A convolution kernel in Triton for dense blocks.

It reads and writes channels of one growing buffer. Imported only where Triton is installed.
"""

# Triton has no types, and compiles what it decorates: names of tensors are pointers inside of the kernel.
# pyright: basic

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

# What follows the convolution and its bias.
LEAKY_RELU = 0
RESIDUAL = 1  # times the residual scale, plus the first channels of the source
OUTER_RESIDUAL = 2  # that, times the residual scale, plus what the target holds

PIXELS, MIN_TILE, MAX_OUT_TILE, MAX_IN_TILE = 128, 16, 64, 64  # of a program; the least is what `tl.dot` accepts


@triton.jit
def _convolve(
    source: Any,
    weight: Any,
    bias: Any,
    target: Any,
    pixels: Any,
    height: Any,
    width: Any,
    channels: Any,
    slope: Any,
    scale: Any,
    in_channels: tl.constexpr,
    out_channels: tl.constexpr,
    epilogue: tl.constexpr,
    pixel_tile: tl.constexpr,
    out_tile: tl.constexpr,
    in_tile: tl.constexpr,
    precision: tl.constexpr,
):
    pixel = tl.program_id(0) * pixel_tile + tl.arange(0, pixel_tile)
    y, x = pixel // width % height, pixel % width
    out = tl.program_id(1) * out_tile + tl.arange(0, out_tile)
    is_out = out < out_channels
    total = tl.full((pixel_tile, out_tile), 0.0, tl.float32)  # `tl.zeros` is a kernel, which the interpreter may refuse
    for tap in range(9):
        dy, dx = tap // 3 - 1, tap % 3 - 1
        is_inside = (pixel < pixels) & (y + dy >= 0) & (y + dy < height) & (x + dx >= 0) & (x + dx < width)
        start = (pixel + dy * width + dx).to(tl.int64) * channels  # beyond 2^31 for large frames
        for first in range(0, in_channels, in_tile):
            channel = first + tl.arange(0, in_tile)
            if in_channels % in_tile == 0:  # Without a mask for channels loads are wide.
                values = tl.load(source + start[:, None] + channel[None, :], mask=is_inside[:, None], other=0.0)
            else:
                is_in = is_inside[:, None] & (channel < in_channels)[None, :]
                values = tl.load(source + start[:, None] + channel[None, :], mask=is_in, other=0.0)
            rows = (tap * in_channels + channel) * out_channels
            is_weight = (channel < in_channels)[:, None] & is_out[None, :]
            factors = tl.load(weight + rows[:, None] + out[None, :], mask=is_weight, other=0.0)
            total = tl.dot(values, factors, total, input_precision=precision)
    result = total + tl.load(bias + out, mask=is_out, other=0.0).to(tl.float32)[None, :]
    place = pixel.to(tl.int64)[:, None] * channels + out[None, :]
    is_result = (pixel < pixels)[:, None] & is_out[None, :]
    if epilogue == 0:
        result = tl.where(result >= 0, result, result * slope)
    else:
        result = result * scale + tl.load(source + place, mask=is_result, other=0.0).to(tl.float32)
        if epilogue == 2:
            result = result * scale + tl.load(target + place, mask=is_result, other=0.0).to(tl.float32)
    tl.store(target + place, result.to(target.dtype.element_ty), mask=is_result)


def convolve(
    source: Tensor,
    weight: Tensor,
    bias: Tensor,
    target: Tensor,
    epilogue: int,
    *,
    slope: float,
    scale: float,
    precision: str,
) -> None:
    """Convolve channels of `source`, 3x3 with zero padding, into `target`.

    source, target: (B, h, w, channels), views of channels_last buffers with the same strides, of which the first
    channels are read and written. Both may be views of one buffer, if no channel is both read and written. weight: (3,
    3, in, out), contiguous. epilogue: LEAKY_RELU with this slope, RESIDUAL or OUTER_RESIDUAL with this scale. Sums are
    float32; precision: of the products of float32, "ieee" or "tf32".
    """
    batch, height, width = source.shape[:3]
    in_channels, out_channels = weight.shape[2:]
    pixels = batch * height * width
    out_tile = min(MAX_OUT_TILE, max(MIN_TILE, triton.next_power_of_2(out_channels)))
    in_tile = MAX_IN_TILE if in_channels % MAX_IN_TILE == 0 else max(MIN_TILE, MAX_IN_TILE // 2)
    # A program that is mostly empty is slow in the interpreter.
    pixel_tile = min(PIXELS, max(MIN_TILE, triton.next_power_of_2(pixels)))
    constants: dict[str, Any] = {
        "in_channels": in_channels,
        "out_channels": out_channels,
        "epilogue": epilogue,
        "pixel_tile": pixel_tile,
        "out_tile": out_tile,
        "in_tile": in_tile,
        "precision": precision,
    }
    grid = triton.cdiv(pixels, pixel_tile), triton.cdiv(out_channels, out_tile)
    _convolve[grid](
        source,
        weight,
        bias,
        target,
        pixels,
        height,
        width,
        source.stride(2),
        slope,
        scale,
        **constants,
    )
