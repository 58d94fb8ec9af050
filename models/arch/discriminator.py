"""Networks that tell photographs from made pictures: the opponents that a generator is trained against.

Both give logits; the probability that a picture is a photograph is their sigmoid. The last layer runs in float32 also
under autocast: at logits around 20, half precision is wrong by two per cent, which the losses would then learn from.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

SLOPE = 0.2  # of every LeakyReLU
SMALLEST = 4  # side of the picture that VGG's fully connected layers see
HIDDEN = 100  # units between its features and its logit


class VGGDiscriminator(nn.Module):
    """(B, 3, crop, crop) in [0, 1] -> (B, 1), one logit for each picture.

    The discriminator of SRGAN (Ledig et al. 2017, arXiv:1609.04802) as ESRGAN has it (Wang et al. 2018,
    arXiv:1809.00219): pairs of convolutions that halve the picture until it is 4x4, batch normalisation after all but
    the first, LeakyReLU, two fully connected layers. These fix the size of what it sees.
    crop: side of the pictures, a power of two of at least 16. features: channels of the first convolutions; they double
    with each halving up to eight times that.
    """

    def __init__(self, crop: int = 128, features: int = 64, in_channels: int = 3) -> None:
        super().__init__()
        halvings = int(math.log2(max(crop, 1) / SMALLEST))
        if crop < 16 or SMALLEST * 2**halvings != crop:
            raise ValueError(f"a VGG discriminator sees crops of 16, 32, 64, 128, ... pixels a side, not {crop}")
        self.crop = crop
        layers: list[nn.Module] = []
        before = in_channels
        for halving in range(halvings):
            width = features * min(2**halving, 8)
            # Normalising the first result would hide the picture's brightness and contrast.
            layers += _block(before, width, stride=1, normalised=halving > 0)
            layers += _block(width, width, stride=2, normalised=True)
            before = width
        self.features = nn.Sequential(*layers)
        self.hidden = nn.Linear(before * SMALLEST**2, HIDDEN)
        self.logit = nn.Linear(HIDDEN, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2:] != (self.crop, self.crop):
            raise ValueError(f"this discriminator sees {self.crop}x{self.crop} pixels, got {tuple(x.shape[-2:])}")
        flat = self.features(x).flatten(1)  # (B, C * 4 * 4)
        hidden = F.leaky_relu(self.hidden(flat), SLOPE)
        with torch.autocast(x.device.type, enabled=False):
            return self.logit(hidden.float() if hidden.dtype in (torch.float16, torch.bfloat16) else hidden)


def _block(before: int, after: int, stride: int, *, normalised: bool) -> list[nn.Module]:
    kernel = 3 if stride == 1 else 4
    conv = nn.Conv2d(before, after, kernel, stride, padding=1, bias=not normalised)
    # The batch at hand is always the measure: a discriminator is never used outside training, and running averages
    # would have to be kept equal between processes and free of what a spoiled batch leaves in them.
    norm = [nn.BatchNorm2d(after, track_running_stats=False)] if normalised else []
    return [conv, *norm, nn.LeakyReLU(SLOPE, inplace=True)]


class UNetDiscriminator(nn.Module):
    """(B, 3, H, W) in [0, 1] -> (B, 1, H, W), one logit for each pixel. H and W are multiples of 8.

    The discriminator of Real-ESRGAN (Wang et al. 2021, arXiv:2107.10833): a U-Net (Schönfeld et al. 2020,
    arXiv:2002.12655) with spectral normalisation (Miyato et al. 2018, arXiv:1802.05957) of all but the first and the
    last convolution. Names of weights are those of its published files. features: channels at full size.
    """

    def __init__(self, features: int = 64, in_channels: int = 3) -> None:
        super().__init__()
        n = features
        self.conv0 = nn.Conv2d(in_channels, n, 3, padding=1)
        self.conv1 = _normed(nn.Conv2d(n, 2 * n, 4, stride=2, padding=1, bias=False))
        self.conv2 = _normed(nn.Conv2d(2 * n, 4 * n, 4, stride=2, padding=1, bias=False))
        self.conv3 = _normed(nn.Conv2d(4 * n, 8 * n, 4, stride=2, padding=1, bias=False))
        self.conv4 = _normed(nn.Conv2d(8 * n, 4 * n, 3, padding=1, bias=False))
        self.conv5 = _normed(nn.Conv2d(4 * n, 2 * n, 3, padding=1, bias=False))
        self.conv6 = _normed(nn.Conv2d(2 * n, n, 3, padding=1, bias=False))
        self.conv7 = _normed(nn.Conv2d(n, n, 3, padding=1, bias=False))
        self.conv8 = _normed(nn.Conv2d(n, n, 3, padding=1, bias=False))
        self.conv9 = nn.Conv2d(n, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2] % 8 or x.shape[-1] % 8:
            raise ValueError(f"this discriminator sees sizes that are multiples of 8, got {tuple(x.shape[-2:])}")
        full = _active(self.conv0(x))  # (B, n, H, W)
        half = _active(self.conv1(full))  # (B, 2n, H/2, W/2)
        quarter = _active(self.conv2(half))  # (B, 4n, H/4, W/4)
        eighth = _active(self.conv3(quarter))  # (B, 8n, H/8, W/8)
        up = _active(self.conv4(_doubled(eighth))) + quarter
        up = _active(self.conv5(_doubled(up))) + half
        up = _active(self.conv6(_doubled(up))) + full
        up = _active(self.conv8(_active(self.conv7(up))))
        with torch.autocast(x.device.type, enabled=False):
            return self.conv9(up.float() if up.dtype in (torch.float16, torch.bfloat16) else up)


def _normed(conv: nn.Conv2d) -> nn.Module:
    # The older of torch's two implementations, because the published weights carry its names.
    return spectral_norm(conv)


def _active(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE)


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
