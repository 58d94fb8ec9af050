"""Nearest upsampling, then a 3x3 convolution, as a sub-pixel convolution.

Of the three pixels in a row that a kernel reads from a 2x upsampled image, two are the same input pixel, so the kernel
has an equivalent at input size for each phase of the output (sub-pixel convolution, Shi et al. 2016, arXiv:1609.05158).
The result is the same, without the upsampled feature map of many channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SubpixelConv(nn.Module):
    """A convolution, then a pixel shuffle.

    (B, in_channels, h, w) -> (B, out_channels, h * scale, w * scale).
    conv: with out_channels * scale^2 output channels.
    """

    def __init__(self, conv: nn.Conv2d, scale: int) -> None:
        super().__init__()
        self.conv = conv
        self.scale = scale

    @classmethod
    def from_upconv(cls, conv: nn.Conv2d, scale: int) -> SubpixelConv:
        """The equivalent of nearest upsampling by `scale`, then `conv`.

        Results are within 1e-5 in float32, borders included. Raises ValueError unless the convolution is 3x3 with
        stride 1 and zero padding 1.
        """
        supported = conv.kernel_size == (3, 3) and conv.stride == (1, 1) and conv.padding == (1, 1)
        if not supported or conv.groups != 1 or conv.dilation != (1, 1) or scale < 1:
            raise ValueError(f"only a plain 3x3 convolution after integer upsampling can be rewritten, not {conv}")
        subpixel = nn.Conv2d(conv.in_channels, conv.out_channels * scale**2, 3, padding=1, bias=conv.bias is not None)
        with torch.no_grad():
            subpixel.weight.copy_(_subpixel_kernel(conv.weight.double(), scale))
            if subpixel.bias is not None and conv.bias is not None:
                subpixel.bias.copy_(conv.bias.repeat_interleave(scale**2))
        return cls(subpixel.to(conv.weight.device), scale)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x), self.scale)


def _subpixel_kernel(kernel: Tensor, scale: int) -> Tensor:
    """(out, in, 3, 3) -> (out * scale^2, in, 3, 3), in pixel shuffle order."""
    # taps[phase, input tap, output tap] is 1 where the output tap of a pixel of that phase reads the input tap.
    taps = torch.zeros(scale, 3, 3, dtype=kernel.dtype, device=kernel.device)
    for phase in range(scale):
        for tap in range(3):
            taps[phase, (phase + tap - 1) // scale + 1, tap] = 1
    phase_kernels = torch.einsum("ayk,bxl,oikl->oabiyx", taps, taps, kernel)  # (out, phase y, phase x, in, 3, 3)
    return phase_kernels.flatten(0, 2)
