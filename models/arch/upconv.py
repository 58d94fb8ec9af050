"""Enlarging by repetition and a 3x3 convolution, said as a convolution before the enlarging and a pixel-shuffle.

Two of the three pixels that a kernel sees in a row of a doubled picture are the same one, so the kernel has a small
equivalent for each of the output's phases (as in sub-pixel convolution, Shi et al. 2016, arXiv:1609.05158). The result
is the same, and the large picture of many channels that the convolution would read is never made.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SubpixelConv(nn.Module):
    """(B, in_channels, h, w) -> (B, out_channels, h * scale, w * scale): a convolution, then a pixel-shuffle.

    `conv` has out_channels * scale^2 results; `of` makes it from the convolution that followed an enlarging.
    """

    def __init__(self, conv: nn.Conv2d, scale: int) -> None:
        super().__init__()
        self.conv = conv
        self.scale = scale

    @classmethod
    def from_upconv(cls, conv: nn.Conv2d, scale: int) -> SubpixelConv:
        """The exact twin (< 1e-5 in float32, borders too) of enlarging `scale` times by repetition, then `conv`.

        Raises ValueError unless the convolution is 3x3 with stride 1 and a border of one zero.
        """
        plain = conv.kernel_size == (3, 3) and conv.stride == (1, 1) and conv.padding == (1, 1)
        if not plain or conv.groups != 1 or conv.dilation != (1, 1) or scale < 1:
            raise ValueError(f"only a plain 3x3 convolution after a whole enlarging can be turned round, not {conv}")
        small = nn.Conv2d(conv.in_channels, conv.out_channels * scale**2, 3, padding=1, bias=conv.bias is not None)
        with torch.no_grad():
            small.weight.copy_(_subpixel_kernel(conv.weight.double(), scale))
            if small.bias is not None and conv.bias is not None:
                small.bias.copy_(conv.bias.repeat_interleave(scale**2))
        return cls(small.to(conv.weight.device), scale)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x), self.scale)


def _subpixel_kernel(kernel: Tensor, scale: int) -> Tensor:
    """(out, in, 3, 3) -> (out * scale^2, in, 3, 3), phases in pixel-shuffle's order."""
    # sums[phase, small tap, large tap] is 1 where the large tap of an output pixel of that phase falls on the small.
    sums = torch.zeros(scale, 3, 3, dtype=kernel.dtype, device=kernel.device)
    for phase in range(scale):
        for tap in range(3):
            sums[phase, (phase + tap - 1) // scale + 1, tap] = 1
    small = torch.einsum("ayk,bxl,oikl->oabiyx", sums, sums, kernel)  # (out, phase y, phase x, in, 3, 3)
    return small.flatten(0, 2)
