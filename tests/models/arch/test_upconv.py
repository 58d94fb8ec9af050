"""Sub-pixel equivalent of nearest upsampling and convolution: equal, borders included."""

import pytest
import torch
import torch.nn.functional as F
from steadyscale.models.arch.upconv import SubpixelConv
from torch import nn


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("bias", [True, False])
def test_equals_upsampling_then_convolution(scale, bias):
    torch.manual_seed(scale)
    conv = nn.Conv2d(5, 3, 3, padding=1, bias=bias)
    x = torch.randn(2, 5, 6, 7)
    with torch.no_grad():
        expected = conv(F.interpolate(x, scale_factor=scale, mode="nearest"))
        result = SubpixelConv.from_upconv(conv, scale)(x)
    assert expected.std() > 0.1
    assert (result - expected).abs().max() < 1e-5


@pytest.mark.parametrize(
    "conv", [nn.Conv2d(4, 4, 5, padding=2), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3, padding=1, groups=2)], ids=str
)
def test_other_convolutions_are_rejected(conv):
    with pytest.raises(ValueError, match="plain 3x3"):
        SubpixelConv.from_upconv(conv, 2)
