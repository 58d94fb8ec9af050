"""Memory savings for inference: concatenation buffers and tiled evaluation.

Results are unchanged.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


class ConcatBuffers:
    """Memory for the growing inputs of a dense block's convolutions.

    All blocks of a trunk share it. The system zeroes new memory page by page, which takes a third of the time of dense
    blocks on a CPU. With contiguous planes the existing channels stay in place and only new ones are copied, so one
    buffer suffices. With channels_last every concatenation moves all channels, so two buffers alternate.
    """

    def __init__(self, like: Tensor, channels: int, growth: int) -> None:
        """Allocate for an image like (1, C, h, w): size, dtype and memory format.

        channels: of the last convolution's input, the largest. growth: channels that each concatenation adds.
        """
        pixels = like.shape[-2] * like.shape[-1]
        largest = like.new_empty(channels * pixels)
        channels_last = like.is_contiguous(memory_format=torch.channels_last) and not like.is_contiguous()
        self._buffers = (like.new_empty((channels - growth) * pixels) if channels_last else largest), largest

    @classmethod
    def for_inference(cls, like: Tensor, channels: int, growth: int) -> ConcatBuffers | None:
        """Buffers for a single image without gradients, otherwise None.

        On a GPU for contiguous planes only: there allocation is cheap, and in channels_last nothing else is saved.
        """
        if len(like) != 1 or torch.is_grad_enabled():
            return None
        return cls(like, channels, growth) if like.device.type == "cpu" or like.is_contiguous() else None

    def concat(self, previous: Tensor, new: Tensor, index: int, negative_slope: float) -> Tensor:
        """Concatenate `previous` and the LeakyReLU of `new` in a buffer.

        index: of the concatenation within its block. `new` may be overwritten.
        """
        buffer, previous_channels = self._buffers[index % 2], previous.shape[1]
        channels, (height, width) = previous_channels + new.shape[1], previous.shape[2:]
        target = buffer[: channels * height * width]
        if self._buffers[0] is not self._buffers[1]:
            new = F.leaky_relu(new, negative_slope, inplace=True)
            return torch.cat((previous, new), dim=1, out=target.view(1, height, width, channels).movedim(3, 1))
        target = target.view(1, channels, height, width)
        if previous.data_ptr() != buffer.data_ptr():
            target[:, :previous_channels] = previous
        torch.ops.aten.leaky_relu.out(new, negative_slope, out=target[:, previous_channels:])
        return target


def run_tiled(
    function: Callable[[Tensor], Tensor], x: Tensor, *, tile_size: int, halo: int, scale: int, out_channels: int
) -> Tensor:
    """Apply a function to an image tile by tile.

    function: (B, C, h, w) -> (B, out_channels, h * scale, w * scale).
    halo: input pixels around a tile that are computed with it and cropped; exact if the function's receptive radius is
    not larger. Inputs of up to `tile_size` pixels a side are one tile.
    """
    height, width = x.shape[-2:]
    if max(height, width) <= tile_size:
        return function(x)
    out = x.new_empty(len(x), out_channels, height * scale, width * scale)
    for top in range(0, height, tile_size):
        for left in range(0, width, tile_size):
            above, before = min(top, halo), min(left, halo)
            tile = x[..., top - above : top + tile_size + halo, left - before : left + tile_size + halo]
            result = function(tile)[..., above * scale :, before * scale :]
            result = result[..., : tile_size * scale, : tile_size * scale]
            rows = slice(top * scale, top * scale + result.shape[-2])
            out[..., rows, left * scale : left * scale + result.shape[-1]] = result
    return out
