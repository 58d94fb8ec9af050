"""RealPLKSR, a network whose large kernels see a part of the channels.

Lee et al. 2024, Partial Large Kernel CNNs for Efficient Super-Resolution, arXiv:2404.11848, in neosr's version. All
convolutions run at input size. Files are those that spandrel and ComfyUI read too; of them the ones that end in a pixel
shuffle.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .state_dict import StateDict, count_keys, infer_scale_and_channels, load_strict

NORM_GROUPS = 4  # of all published networks; a file does not hold it
MAX_HALO = 64  # pixels around a tile that are enough for 1/255; the exact number is in the hundreds


@dataclass(frozen=True)
class RealPLKSRConfig:
    """Hyper-parameters of a RealPLKSR; defaults: those of its authors.

    in_channels, out_channels: of the image. features: channels inside. blocks: number of blocks. scale: output size
    over input size. kernel: side of the large kernels, odd. kernel_channels: channels that they see, the first ones.
    attention: whether blocks have element-wise attention. layer_norm: normalize each pixel at the start of a block,
    instead of groups of channels of the whole image at its end.
    """

    in_channels: int = 3
    out_channels: int = 3
    features: int = 64
    blocks: int = 28
    scale: int = 4
    kernel: int = 17
    kernel_channels: int = 16
    attention: bool = True
    layer_norm: bool = False

    def __post_init__(self) -> None:
        if self.kernel % 2 == 0:
            raise ValueError(f"its large kernels have a side of {self.kernel}; only odd sides keep the size")
        if not 0 < self.kernel_channels <= self.features:
            raise ValueError(f"its large kernels see {self.kernel_channels} channels of {self.features}")
        if not self.layer_norm and self.features % NORM_GROUPS:
            raise ValueError(f"its {self.features} channels cannot be divided into {NORM_GROUPS} groups")


class PixelNorm(nn.Module):
    """Normalize each pixel over its channels.

    As `nn.LayerNorm` does where the channels are the last dimension.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.epsilon = 1e-6

    def forward(self, x: Tensor) -> Tensor:
        centered = x - x.mean(1, keepdim=True)
        x = centered / torch.sqrt(centered.square().mean(1, keepdim=True) + self.epsilon)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class PartialConv(nn.Module):
    """A convolution of the first channels; the others pass through."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        channels = self.conv.in_channels
        if torch.is_grad_enabled():
            return torch.cat([self.conv(x[:, :channels]), x[:, channels:]], dim=1)
        x[:, :channels] = self.conv(x[:, :channels])
        return x


class ElementwiseAttention(nn.Module):
    """Multiply each value by a weight between 0 and 1 that a convolution computes."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.f = nn.Sequential(nn.Conv2d(features, features, 3, padding=1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.f(x)


class PLKBlock(nn.Module):
    """Local convolutions, the large kernel and attention, with a residual."""

    def __init__(self, config: RealPLKSRConfig) -> None:
        super().__init__()
        features = config.features
        self.layer_norm = PixelNorm(features) if config.layer_norm else nn.Identity()
        self.channel_mixer = nn.Sequential(
            nn.Conv2d(features, 2 * features, 3, padding=1), nn.Mish(), nn.Conv2d(2 * features, features, 3, padding=1)
        )
        self.lk = PartialConv(config.kernel_channels, config.kernel)
        self.attn = ElementwiseAttention(features) if config.attention else nn.Identity()
        self.refine = nn.Conv2d(features, features, 1)
        self.norm = nn.Identity() if config.layer_norm else nn.GroupNorm(NORM_GROUPS, features)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.refine(self.attn(self.lk(self.channel_mixer(self.layer_norm(x)))))) + x


class RealPLKSR(nn.Module):
    """A chain of blocks with large kernels.

    (B, in_channels, h, w) in [0, 1] -> (B, out_channels, h * scale, w * scale), about [0, 1] and not clamped.
    With group norm the result for a tile depends on all of it, as in every other program.

    halo: input pixels of context for a tile. multiple: always 1, no size needs padding. supports_half: whether float16
    does not overflow. activation_bytes: memory per input pixel in float32, without gradients, in bytes.
    """

    fingerprint_name = "realplksr"  # in job.json; must not change

    def __init__(self, config: RealPLKSRConfig = RealPLKSRConfig()) -> None:
        super().__init__()
        self.config = config
        self.scale = config.scale
        self.in_channels = config.in_channels
        self.out_channels = config.out_channels
        reach = 2 + config.blocks * (2 + config.kernel // 2 + int(config.attention))
        self.halo = min(MAX_HALO, reach) if config.layer_norm else MAX_HALO  # group norm reaches everywhere
        self.multiple = 1
        self.supports_half = config.layer_norm
        # A block's input and the widest convolution's input and result, each in two memory layouts.
        self.activation_bytes = 4.0 * (10 * config.features + 3 * config.out_channels * config.scale**2)

        self.feats = nn.Sequential(
            nn.Conv2d(config.in_channels, config.features, 3, padding=1),
            *(PLKBlock(config) for _ in range(config.blocks)),
            nn.Identity(),  # dropout in training, which files count
            nn.Conv2d(config.features, config.out_channels * config.scale**2, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        # The network learns the difference from nearest upsampling.
        return F.pixel_shuffle(self.feats(x) + x.repeat_interleave(self.scale**2, dim=1), self.scale)


# ---- weights ----


def matches(state: StateDict) -> bool:
    """Whether these weights have blocks with a partial large kernel.

    Not those with weights in the upsampler.
    """
    blocks = all(key in state for key in ("feats.0.weight", "feats.1.lk.conv.weight", "feats.1.channel_mixer.0.weight"))
    return blocks and not any(key.startswith("to_img.") for key in state)


def build(state: StateDict) -> RealPLKSR:
    """Build the network of these weights (float32).

    All hyper-parameters but the number of groups follow from the shapes. Raises ValueError where keys or shapes do not
    fit together.
    """
    blocks = count_keys(state, "feats.{}.lk.conv.weight", start=1)
    first, kernel, last = (state.get(f"feats.{name}.weight") for name in ("0", "1.lk.conv", blocks + 2))
    if first is None or kernel is None or last is None or not first.ndim == kernel.ndim == last.ndim == 4:
        raise ValueError("its first or last layer is not the convolution of a RealPLKSR")
    scale, out_channels = infer_scale_and_channels(len(last), first.shape[1])
    config = RealPLKSRConfig(
        first.shape[1],
        out_channels,
        features=len(first),
        blocks=blocks,
        scale=scale,
        kernel=kernel.shape[-1],
        kernel_channels=len(kernel),
        attention="feats.1.attn.f.0.weight" in state,
        layer_norm="feats.1.layer_norm.weight" in state,
    )
    return load_strict(lambda: RealPLKSR(config), state)
