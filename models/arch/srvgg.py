"""SRVGGNetCompact, the small network of Real-ESRGAN for video and anime.

Wang et al. 2021, arXiv:2107.10833. All convolutions run at input size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .state_dict import StateDict, count_keys, infer_scale_and_channels, load_strict


class Activation(Enum):
    """The activation between convolutions; values are the names that Real-ESRGAN uses."""

    PRELU = "prelu"
    RELU = "relu"
    LEAKY_RELU = "leakyrelu"

    def make_layer(self, features: int) -> nn.Module:
        """A new activation layer for `features` channels."""
        if self is Activation.PRELU:
            return nn.PReLU(features)
        if self is Activation.RELU:
            return nn.ReLU(inplace=True)
        return nn.LeakyReLU(0.1, inplace=True)


@dataclass(frozen=True)
class SRVGGConfig:
    """Hyper-parameters of an SRVGGNetCompact; defaults: realesr-animevideov3.

    in_channels, out_channels: of the image, equal or one of them 1. features: channels of the hidden layers. convs:
    convolutions between the first and the last. scale: output size over input size, any whole number.
    """

    in_channels: int = 3
    out_channels: int = 3
    features: int = 64
    convs: int = 16
    scale: int = 4
    activation: Activation = Activation.PRELU


class SRVGGNetCompact(nn.Module):
    """A flat stack of convolutions whose result is added to nearest upsampling.

    (B, in_channels, h, w) in [0, 1] -> (B, out_channels, h * scale, w * scale), about [0, 1] and not clamped.

    halo: input pixels around a tile that its result depends on, exactly: one for each 3x3 convolution.
    multiple: always 1, no size needs padding.
    activation_bytes: memory per input pixel in float32, without gradients, in bytes.
    """

    fingerprint_name = "srvgg"  # in job.json; must not change

    def __init__(self, config: SRVGGConfig = SRVGGConfig()) -> None:
        super().__init__()
        self.config = config
        self.scale = config.scale
        self.in_channels = config.in_channels
        self.out_channels = config.out_channels
        self.halo = config.convs + 2
        self.multiple = 1
        self.activation_bytes = 4.0 * (3 * config.features + 3 * config.out_channels * config.scale**2)

        self.body = nn.ModuleList([nn.Conv2d(config.in_channels, config.features, 3, padding=1)])
        for _ in range(config.convs):
            self.body.append(config.activation.make_layer(config.features))
            self.body.append(nn.Conv2d(config.features, config.features, 3, padding=1))
        self.body.append(config.activation.make_layer(config.features))
        self.body.append(nn.Conv2d(config.features, config.out_channels * config.scale**2, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        detail = x
        for layer in self.body:
            detail = layer(detail)
        # The network learns the difference from nearest upsampling.
        detail, base = F.pixel_shuffle(detail, self.scale), F.interpolate(x, scale_factor=self.scale, mode="nearest")
        return detail + base if torch.is_grad_enabled() or detail.shape != base.shape else detail.add_(base)


# ---- weights ----


def matches(state: StateDict) -> bool:
    """Whether these weights are one flat `body` of convolutions."""
    first = state.get("body.0.weight")
    flat = all(key.startswith("body.") and key.count(".") == 2 for key in state)
    return first is not None and first.ndim == 4 and flat


def build(state: StateDict) -> SRVGGNetCompact:
    """Build the network of these weights (float32).

    All hyper-parameters follow from the shapes. Raises ValueError where keys or shapes do not fit together, and for
    activations without weights: a file does not tell ReLU from LeakyReLU, and the wrong one ruins the result.
    """
    if "body.1.weight" not in state:
        raise ValueError(
            "its activation is ReLU or LeakyReLU, which the weights do not tell apart; "
            "create an SRVGGNetCompact from an SRVGGConfig and load the state dict into it"
        )
    layers = count_keys(state, "body.{}.weight")
    first, last = state["body.0.weight"], state[f"body.{layers - 1}.weight"]
    if last.ndim != 4:
        raise ValueError(f"body.{layers - 1}.weight has {last.ndim} dimensions instead of the 4 of a convolution")
    features, in_channels = first.shape[:2]
    scale, out_channels = infer_scale_and_channels(len(last), in_channels)
    config = SRVGGConfig(in_channels, out_channels, features, convs=(layers - 3) // 2, scale=scale)
    return load_strict(lambda: SRVGGNetCompact(config), state)


def reduce_scale(network: SRVGGNetCompact, scale: int) -> SRVGGNetCompact:
    """Return the network whose result is the box-reduced result of `network`, exactly.

    scale: a divisor of the network's. The outputs of the last convolution that fall into one pixel are averaged, which
    works because nearest upsampling is constant within an input pixel. Raises ValueError for other scales.
    """
    config = network.config
    if scale < 1 or config.scale % scale:
        raise ValueError(f"a {config.scale}x network can be reduced to a divisor of {config.scale}, not to {scale}x")
    factor = config.scale // scale
    reduced = SRVGGNetCompact(replace(config, scale=scale))
    state = network.state_dict()
    for name in (f"body.{len(network.body) - 1}.{kind}" for kind in ("weight", "bias")):
        phases = state[name].unflatten(0, (config.out_channels, scale, factor, scale, factor))
        state[name] = phases.mean((2, 4)).flatten(0, 2)
    reduced.load_state_dict(state)
    return reduced
