"""Resample chroma to and from the size of luma, with the filter of swscale.

The filter is cubic, with B = 0 and C = 0.6. Samples beyond the borders are those at the borders. Filters are computed
once for each device. They are depthwise convolutions, because torch computes these in true float32 on CUDA; others may
use TF32, which is not accurate enough.
"""

from __future__ import annotations

import functools
import itertools
import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .layout import PlaneLayout

Taps = dict[int, float]
"""Weight of a sample by its index, relative to that of the result."""
Padding = tuple[int, int, int, int]
"""(left, right, top, bottom)."""
_SHARPNESS = 0.6  # parameter C of swscale's cubic filter; B is 0


def upsample(chroma: Tensor, layout: PlaneLayout, size: tuple[int, int], bias: tuple[float, ...]) -> Tensor:
    """Resample (B, C, h, w) to the size (H, W) of luma, and add bias[c].

    The result is a view (B, C, h, H/h, w, W/w). For odd sizes and for 4:4:4 it is (B, C, H, 1, W, 1); swscale
    stretches chroma to an odd size, so its scale is not 2. `chroma` may be changed.
    """
    height, width = size
    batch, channels, h, w = chroma.shape
    step_x, step_y = layout.subsampling
    if (height, width) == (h, w):
        return chroma.add_(_offset(bias, chroma.device))[:, :, :, None, :, None]
    if width % step_x or height % step_y:
        rows, columns = _stretch_matrices(layout, size, chroma.device)
        return (rows @ chroma @ columns).add_(_offset(bias, chroma.device))[:, :, :, None, :, None]
    weight, offset, padding = _upsampling_filter(layout, bias, chroma.device)
    padded = F.pad(chroma, padding, mode="replicate")
    phases = F.conv2d(padded, weight, offset, groups=channels)
    return phases.view(batch, channels, step_y, step_x, h, w).permute(0, 1, 4, 2, 5, 3)


def downsample(values: Tensor, layout: PlaneLayout, gains: tuple[float, ...], bias: tuple[float, ...]) -> Tensor:
    """Resample (B, C, H, W) to the size of chroma, times gains[c], plus bias[c].

    H and W are multiples of the subsampling.
    """
    weight, offset, padding = _downsampling_filter(layout, gains, bias, values.device)
    padded = F.pad(values, padding, mode="replicate") if any(padding) else values
    step_x, step_y = layout.subsampling
    return F.conv2d(padded, weight, offset, stride=(step_y, step_x), groups=len(gains))


def cubic(distance: float) -> float:
    """Evaluate the cubic kernel at a distance, in samples."""
    x = abs(distance)
    if x < 1:
        return (2 - _SHARPNESS) * x**3 - (3 - _SHARPNESS) * x**2 + 1
    return _SHARPNESS * (-(x**3) + 5 * x**2 - 8 * x + 4) if x < 2 else 0.0


def upsampling_taps(position: float, phase: int) -> Taps:
    """Return the weights of chroma samples i + k for luma sample 2 i + phase.

    position: that of the first chroma sample, in luma samples.
    """
    center = (phase - position) / 2
    return {k: cubic(k - center) for k in range(-3, 4) if cubic(k - center)}


def downsampling_taps(position: float) -> Taps:
    """Return the weights of luma samples 2 i + k for chroma sample i.

    position: that of the first chroma sample, in luma samples.
    """
    taps = {k: cubic((k - position) / 2) for k in range(-4, 6) if cubic((k - position) / 2)}
    total = sum(taps.values())
    return {k: weight / total for k, weight in taps.items()}


# The results are kept. They are created outside of inference mode, so that they can be used in any mode.
@functools.lru_cache(maxsize=64)
@torch.inference_mode(False)
def _upsampling_filter(
    layout: PlaneLayout, bias: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor, Padding]:
    """Return weight (C * phases, 1, kh, kw), bias (C * phases,) and padding."""
    columns, rows = (
        [upsampling_taps(position, phase) for phase in range(step)] if step == 2 else [{0: 1.0}]
        for position, step in zip(layout.chroma_position, layout.subsampling, strict=True)
    )
    kernels, padding = _outer_kernels([(row, column) for row in rows for column in columns])
    weight, offset = kernels.repeat(len(bias), 1, 1)[:, None], torch.tensor(bias).repeat_interleave(len(kernels))
    return weight.to(device), offset.to(device), padding


@functools.lru_cache(maxsize=64)
@torch.inference_mode(False)
def _downsampling_filter(
    layout: PlaneLayout, gains: tuple[float, ...], bias: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor, Padding]:
    """Return weight (C, 1, kh, kw), bias (C,) and padding."""
    (x, y), (step_x, step_y) = layout.chroma_position, layout.subsampling
    columns = downsampling_taps(x) if step_x == 2 else {0: 1.0}
    if step_x == 2 and layout.bits == 8 and x == 0.5:
        columns = {0: 0.5, 1: 0.5}  # as swscale does for RGB of 8 bits
    kernels, padding = _outer_kernels([(downsampling_taps(y) if step_y == 2 else {0: 1.0}, columns)])
    weight = (kernels * torch.tensor(gains).view(-1, 1, 1))[:, None]
    return weight.to(device), torch.tensor(bias).to(device), padding


@functools.lru_cache(maxsize=64)
@torch.inference_mode(False)
def _offset(bias: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(bias).view(-1, 1, 1).to(device)


@functools.lru_cache(maxsize=4)
@torch.inference_mode(False)
def _stretch_matrices(layout: PlaneLayout, size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return (H, h) and (w, W): rows @ chroma @ columns has the size (H, W)."""
    columns, rows = (
        _stretch_matrix(position, step, length)
        for position, step, length in zip(layout.chroma_position, layout.subsampling, size[::-1], strict=True)
    )
    return rows.to(device), columns.T.contiguous().to(device)


def _outer_kernels(pairs: list[tuple[Taps, Taps]]) -> tuple[Tensor, Padding]:
    """Return products of (rows, columns) as (N, kh, kw), and their padding."""
    top, bottom = (limit(k for rows, _ in pairs for k in rows) for limit in (min, max))
    left, right = (limit(k for _, columns in pairs for k in columns) for limit in (min, max))
    kernels = torch.zeros(len(pairs), bottom - top + 1, right - left + 1)
    for kernel, (rows, columns) in zip(kernels, pairs, strict=True):
        for (i, row), (j, column) in itertools.product(rows.items(), columns.items()):
            kernel[i - top, j - left] = row * column
    return kernels, (-left, right, -top, bottom)


def _stretch_matrix(position: float, step: int, length: int) -> Tensor:
    """Return (luma samples, chroma samples): the weights for each luma sample."""
    if step == 1:
        return torch.eye(length)
    count = -(-length // step)
    scale = ((count << 16) + length // 2) // length / 65536  # swscale's, in fixed-point numbers
    matrix = torch.zeros(length, count)
    for i, row in enumerate(matrix):
        center = (i + 0.5) * scale - (position + 0.5) / 2
        for k in range(math.floor(center) - 1, math.floor(center) + 3):
            row[min(max(k, 0), count - 1)] += cubic(k - center)
    return matrix
