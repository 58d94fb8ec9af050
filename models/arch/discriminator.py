"""Discriminators for adversarial training: VGG and U-Net.

Both return logits; their sigmoid is the probability that an image is real. The last layer runs in float32 also under
autocast: at logits around 20, half precision is wrong by two per cent, which would affect the losses.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

NEGATIVE_SLOPE = 0.2  # of every LeakyReLU
FINAL_FEATURE_SIZE = 4  # side of the feature map that the fully connected layers of VGG read
HIDDEN_UNITS = 100  # of the fully connected layer before its logit


class VGGDiscriminator(nn.Module):
    """(B, 3, crop_size, crop_size) in [0, 1] -> (B, 1), one logit per image.

    The discriminator of SRGAN (Ledig et al. 2017, arXiv:1609.04802) as used in ESRGAN (Wang et al. 2018,
    arXiv:1809.00219): pairs of convolutions that halve the resolution down to 4x4, batch normalisation after all but
    the first, LeakyReLU, two fully connected layers. Because of these the input size is fixed.
    crop_size: side of the images, a power of two of at least 16. features: channels of the first convolutions; they
    double with each halving up to eight times that.
    """

    def __init__(self, crop_size: int = 128, features: int = 64, in_channels: int = 3) -> None:
        super().__init__()
        halvings = int(math.log2(max(crop_size, 1) / FINAL_FEATURE_SIZE))
        if crop_size < 16 or FINAL_FEATURE_SIZE * 2**halvings != crop_size:
            raise ValueError(f"a VGG discriminator needs crops of 16, 32, 64, 128, ... pixels a side, not {crop_size}")
        self.crop_size = crop_size
        layers: list[nn.Module] = []
        channels = in_channels
        for halving in range(halvings):
            out_channels = features * min(2**halving, 8)
            # Normalising the first result would remove the image's brightness and contrast.
            layers += _conv_block(channels, out_channels, stride=1, batch_norm=halving > 0)
            layers += _conv_block(out_channels, out_channels, stride=2, batch_norm=True)
            channels = out_channels
        self.features = nn.Sequential(*layers)
        self.hidden = nn.Linear(channels * FINAL_FEATURE_SIZE**2, HIDDEN_UNITS)
        self.logit = nn.Linear(HIDDEN_UNITS, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2:] != (self.crop_size, self.crop_size):
            raise ValueError(
                f"this discriminator needs {self.crop_size}x{self.crop_size} pixels, got {tuple(x.shape[-2:])}"
            )
        flat = self.features(x).flatten(1)  # (B, C * 4 * 4)
        hidden = F.leaky_relu(self.hidden(flat), NEGATIVE_SLOPE)
        with torch.autocast(x.device.type, enabled=False):
            return self.logit(hidden.float() if hidden.dtype in (torch.float16, torch.bfloat16) else hidden)


def _conv_block(in_channels: int, out_channels: int, stride: int, *, batch_norm: bool) -> list[nn.Module]:
    kernel = 3 if stride == 1 else 4
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=1, bias=not batch_norm)
    # Statistics are always those of the batch: a discriminator is only used in training, and running averages would
    # have to be synchronised between ranks and protected from batches with inf or NaN.
    norm = [nn.BatchNorm2d(out_channels, track_running_stats=False)] if batch_norm else []
    return [conv, *norm, nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True)]


class UNetDiscriminator(nn.Module):
    """(B, 3, H, W) in [0, 1] -> (B, 1, H, W), one logit per pixel.

    H and W are multiples of 8. The discriminator of Real-ESRGAN (Wang et al. 2021, arXiv:2107.10833): a U-Net
    (Schönfeld et al. 2020, arXiv:2002.12655) with spectral normalisation (Miyato et al. 2018, arXiv:1802.05957) of all
    but the first and the last convolution. Weights are named as in its published files. features: channels at full
    resolution.
    """

    def __init__(self, features: int = 64, in_channels: int = 3) -> None:
        super().__init__()
        n = features
        self.conv0 = nn.Conv2d(in_channels, n, 3, padding=1)
        self.conv1 = _apply_spectral_norm(nn.Conv2d(n, 2 * n, 4, stride=2, padding=1, bias=False))
        self.conv2 = _apply_spectral_norm(nn.Conv2d(2 * n, 4 * n, 4, stride=2, padding=1, bias=False))
        self.conv3 = _apply_spectral_norm(nn.Conv2d(4 * n, 8 * n, 4, stride=2, padding=1, bias=False))
        self.conv4 = _apply_spectral_norm(nn.Conv2d(8 * n, 4 * n, 3, padding=1, bias=False))
        self.conv5 = _apply_spectral_norm(nn.Conv2d(4 * n, 2 * n, 3, padding=1, bias=False))
        self.conv6 = _apply_spectral_norm(nn.Conv2d(2 * n, n, 3, padding=1, bias=False))
        self.conv7 = _apply_spectral_norm(nn.Conv2d(n, n, 3, padding=1, bias=False))
        self.conv8 = _apply_spectral_norm(nn.Conv2d(n, n, 3, padding=1, bias=False))
        self.conv9 = nn.Conv2d(n, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2] % 8 or x.shape[-1] % 8:
            raise ValueError(f"this discriminator needs sizes that are multiples of 8, got {tuple(x.shape[-2:])}")
        full = _leaky_relu(self.conv0(x))  # (B, n, H, W)
        half = _leaky_relu(self.conv1(full))  # (B, 2n, H/2, W/2)
        quarter = _leaky_relu(self.conv2(half))  # (B, 4n, H/4, W/4)
        eighth = _leaky_relu(self.conv3(quarter))  # (B, 8n, H/8, W/8)
        up = _leaky_relu(self.conv4(_upsample_2x(eighth))) + quarter
        up = _leaky_relu(self.conv5(_upsample_2x(up))) + half
        up = _leaky_relu(self.conv6(_upsample_2x(up))) + full
        up = _leaky_relu(self.conv8(_leaky_relu(self.conv7(up))))
        with torch.autocast(x.device.type, enabled=False):
            return self.conv9(up.float() if up.dtype in (torch.float16, torch.bfloat16) else up)


def _apply_spectral_norm(conv: nn.Conv2d) -> nn.Module:
    # The older of torch's two implementations: the published weights use its parameter names.
    return spectral_norm(conv)


def _leaky_relu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, NEGATIVE_SLOPE)


def _upsample_2x(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
