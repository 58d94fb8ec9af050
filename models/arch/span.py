"""SPAN, a fast network whose attention has no parameters.

Wan et al. 2023, Swift Parameter-free Attention Network, arXiv:2311.12770. All convolutions run at input size. Files are
those of the authors, which spandrel and ComfyUI read too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .state_dict import StateDict, infer_scale_and_channels, load_strict

BLOCKS = 6  # of every SPAN
GAIN = 2  # channels inside a convolution that is trained, as a factor of those outside
RGB_MEAN = (0.4488, 0.4371, 0.4040)  # of the photographs of DIV2K; a file does not hold it
IMAGE_RANGE = 255.0


@dataclass(frozen=True)
class SPANConfig:
    """Hyper-parameters of a SPAN; defaults: those of the authors.

    in_channels, out_channels: of the image. features: channels inside. scale: output size over input size. norm:
    subtract RGB_MEAN from the input and multiply it by IMAGE_RANGE, which needs three channels.
    """

    in_channels: int = 3
    out_channels: int = 3
    features: int = 48
    scale: int = 4
    norm: bool = True

    def __post_init__(self) -> None:
        if self.norm and self.in_channels != 3:
            raise ValueError(f"a SPAN with norm has 3 channels, not {self.in_channels}")

    @property
    def input_channels(self) -> int:
        """Channels that the first convolution reads."""
        return self.in_channels


class ReparameterizedConv(nn.Module):
    """A 3x3 convolution that is trained as several.

    They are a 1x1 one, plus a chain of 1x1, 3x3 and 1x1, with nothing nonlinear between them, so that one 3x3
    convolution computes the same. It is used in evaluation mode, and recomputed from the others whenever that is
    entered.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.sk = nn.Conv2d(in_channels, out_channels, 1)
        self.conv = nn.Sequential(
            nn.Conv2d(in_channels, in_channels * GAIN, 1),
            nn.Conv2d(in_channels * GAIN, out_channels * GAIN, 3),
            nn.Conv2d(out_channels * GAIN, out_channels, 1),
        )
        self.eval_conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.eval_conv.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return self.conv(F.pad(x, (1, 1, 1, 1))) + self.sk(x)
        return self.eval_conv(x)

    def train(self, mode: bool = True) -> ReparameterizedConv:
        super().train(mode)
        if not mode and not self.sk.weight.is_meta:
            weight, bias = self.fuse()
            # New parameters: those of a file that was loaded in inference mode cannot be changed outside of it.
            self.eval_conv.weight = nn.Parameter(weight, requires_grad=False)
            self.eval_conv.bias = nn.Parameter(bias, requires_grad=False)
        return self

    @torch.no_grad()
    def fuse(self) -> tuple[Tensor, Tensor]:
        """Return weight (out, in, 3, 3) and bias (out) of the equal 3x3 convolution."""
        first, middle, last = (
            (_double(layer.get_parameter("weight")), _double(layer.get_parameter("bias"))) for layer in self.conv
        )
        expand, reduce = first[0].flatten(1), last[0].flatten(1)  # (out, in) of the 1x1 convolutions
        weight = torch.einsum("on,nmyx,mi->oiyx", reduce, middle[0], expand)
        weight[:, :, 1, 1] += _double(self.sk.weight).flatten(1)
        bias = reduce @ (middle[0].sum(dim=(2, 3)) @ first[1] + middle[1]) + last[1] + _double(self.sk.bias)
        return weight.to(self.sk.weight), bias.to(self.sk.weight)


class SPAB(nn.Module):
    """Three convolutions, whose result is also the attention on itself.

    (B, features, h, w) -> the result, and the activation after the first convolution, both of the same shape.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.c1_r = ReparameterizedConv(features, features)
        self.c2_r = ReparameterizedConv(features, features)
        self.c3_r = ReparameterizedConv(features, features)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first = F.silu(self.c1_r(x))
        detail = self.c3_r(F.silu(self.c2_r(first)))
        return (detail + x) * (torch.sigmoid(detail) - 0.5), first


class SPAN(nn.Module):
    """A chain of attention blocks.

    (B, in_channels, h, w) in [0, 1] -> (B, out_channels, h * scale, w * scale), about [0, 1] and not clamped.

    halo: input pixels around a tile that its result depends on, exactly: one for each 3x3 convolution.
    multiple: always 1, no size needs padding.
    activation_bytes: memory per input pixel in float32, without gradients, in bytes.
    """

    fingerprint_name = "span"  # in job.json; must not change

    def __init__(self, config: SPANConfig = SPANConfig()) -> None:
        super().__init__()
        self.config = config
        self.scale = config.scale
        self.in_channels = config.in_channels
        self.out_channels = config.out_channels
        self.halo = 3 * BLOCKS + 3
        self.multiple = 1
        # The four concatenated features, those that they are joined from, and two of a block.
        self.activation_bytes = 4.0 * (10 * config.features + 3 * config.out_channels * config.scale**2)
        if not config.norm:
            self.register_buffer("no_norm", torch.zeros(1))  # the mark of such files

        features = config.features
        self.conv_1 = ReparameterizedConv(config.input_channels, features)
        for number in range(1, BLOCKS + 1):
            self.add_module(f"block_{number}", SPAB(features))
        self.conv_cat = nn.Conv2d(4 * features, features, 1)
        self.conv_2 = ReparameterizedConv(features, features)
        self.upsampler = nn.Sequential(
            nn.Conv2d(features, config.out_channels * config.scale**2, 3, padding=1), nn.PixelShuffle(config.scale)
        )

    def normalize(self, x: Tensor) -> Tensor:
        """Convert an image to the input of the first convolution."""
        return (x - x.new_tensor(RGB_MEAN).view(1, 3, 1, 1)) * IMAGE_RANGE if self.config.norm else x

    def forward(self, x: Tensor) -> Tensor:
        shallow = self.conv_1(self.normalize(x))
        deep, after_first, activation = shallow, shallow, shallow
        for number in range(1, BLOCKS + 1):
            deep, activation = self.get_submodule(f"block_{number}")(deep)
            after_first = deep if number == 1 else after_first
        return self.upsampler(self.conv_cat(torch.cat([shallow, self.conv_2(deep), after_first, activation], dim=1)))


def _double(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor.detach().cpu().double()  # not every device has float64


# ---- weights ----


def matches(state: StateDict) -> bool:
    """Whether these weights have attention blocks of reparameterized convolutions."""
    return all(key in state for key in ("conv_1.sk.weight", "block_1.c1_r.eval_conv.weight", "conv_cat.weight"))


def build(state: StateDict) -> SPAN:
    """Build the network of these weights (float32).

    All hyper-parameters follow from the shapes. Raises ValueError where keys or shapes do not fit together.
    """
    first, last = state["conv_1.sk.weight"], state.get("upsampler.0.weight")
    if last is None or first.ndim != 4 or last.ndim != 4:
        raise ValueError("its upsampler is not the one convolution and the pixel shuffle of a SPAN")
    features, in_channels = first.shape[:2]
    scale, out_channels = infer_scale_and_channels(len(last), in_channels)
    config = SPANConfig(in_channels, out_channels, features, scale, norm="no_norm" not in state)
    return load_strict(lambda: SPAN(config), state).eval()
