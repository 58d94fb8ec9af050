"""Create the generator, with one head per scale, and the discriminator."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ....models import (
    SPAN,
    RRDBConfig,
    RRDBNet,
    SPANConfig,
    SRVGGConfig,
    SRVGGNetCompact,
    WeightsError,
    load_upscaler,
)
from ....models.arch.discriminator import UNetDiscriminator, VGGDiscriminator
from ....models.arch.separable import SeparableRRDB, SeparableSRVGG
from ....models.zoo import zoo
from ...runtime.typed_torch import named_modules, seeded_rng
from ..config.choices import DiscriminatorKind, NetworkKind
from ..config.schema import TrainConfig
from ..config.sections import NetworkConfig
from ..errors import TrainingError

# Factor of the initial weights of dense blocks, so that ESRGAN's deep trunk starts close to the identity, and of the
# last convolution of separable compact networks, which start close to nearest-neighbor upscaling.
INIT_SCALE = 0.1
# Factor for the last convolution of other compact networks: close to bicubic upscaling, but with gradients in all
# layers.
LAST_CONV_INIT_SCALE = 0.01
PRELU_INIT = 0.25  # torch's initial slope of PReLU
_SIZE_FIELDS = ("scale", "in_channels", "features", "convs", "blocks", "growth", "unshuffle", "activation")


class MultiScaleGenerator(nn.Module):
    """One body with a head per scale.

    (B, 3, h, w), scale -> (B, 3, h * scale, w * scale), not clamped. `networks` are complete networks that share the
    tensors of the body, so that each can be run, measured and exported on its own. The body of a compact network is all
    but the last convolution; that of an RRDBNet, all layers at input size; that of a SPAN, all but the upsampler.
    """

    def __init__(self, networks: Mapping[int, nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleDict({str(scale): network for scale, network in networks.items()})
        first, *others = self.networks.values()
        for other in others:
            _share_body(first, other)

    def for_scale(self, scale: int) -> nn.Module:
        """Return the network of one scale."""
        return self.networks[str(scale)]

    def forward(self, x: Tensor, scale: int) -> Tensor:
        return self.networks[str(scale)](x)


def make_generator(settings: NetworkConfig, seed: int) -> MultiScaleGenerator:
    """Create the generator with the random weights of a seed, or `init_from`.

    Raises TrainingError.
    """
    with seeded_rng(seed):
        generator = MultiScaleGenerator({scale: _build_network(settings, scale) for scale in settings.scales})
        if settings.kind is NetworkKind.RRDB:
            _init_rrdb(generator)
        elif settings.kind is NetworkKind.COMPACT:  # a SPAN keeps torch's initial weights, as its authors do
            _init_compact(generator)
    if settings.init_from:
        _load_init_weights(generator, settings.init_from)
    return generator


def make_discriminator(config: TrainConfig) -> nn.Module | None:
    """Create the discriminator of images if its loss has a weight, else return None."""
    return _build_discriminator(config, config.seed + 1, in_channels=3) if config.losses.adversarial else None


def make_temporal_discriminator(config: TrainConfig) -> nn.Module | None:
    """Create the discriminator of neighboring frames; None if its loss has no weight."""
    return _build_discriminator(config, config.seed + 2, in_channels=6) if config.losses.temporal_adversarial else None


def _build_discriminator(config: TrainConfig, seed: int, in_channels: int) -> nn.Module:
    with seeded_rng(seed):
        if config.discriminator.kind is DiscriminatorKind.VGG:
            return VGGDiscriminator(config.data.crop, config.discriminator.features, in_channels)
        return UNetDiscriminator(config.discriminator.features, in_channels)


def _build_network(settings: NetworkConfig, scale: int) -> nn.Module:
    if settings.kind is NetworkKind.COMPACT:
        compact = SeparableSRVGG if settings.separable else SRVGGNetCompact
        return compact(SRVGGConfig(features=settings.features, convs=settings.convs, scale=scale))
    if settings.kind is NetworkKind.SPAN:
        return SPAN(SPANConfig(features=settings.features, scale=scale, norm=False))
    rrdb = SeparableRRDB if settings.separable else RRDBNet
    return rrdb(
        RRDBConfig(
            features=settings.features,
            blocks=settings.blocks,
            growth=settings.growth,
            scale=scale,
            unshuffle=settings.unshuffle,
        )
    )


def _share_body(first: nn.Module, other: nn.Module) -> None:
    if isinstance(first, SRVGGNetCompact) and isinstance(other, SRVGGNetCompact):
        other.body = nn.ModuleList([*first.body[:-1], other.body[-1]])
    if isinstance(first, RRDBNet) and isinstance(other, RRDBNet):
        other.conv_first, other.body, other.conv_body = first.conv_first, first.body, first.conv_body
    if isinstance(first, SPAN) and isinstance(other, SPAN):
        for name, module in first.named_children():
            if name != "upsampler":
                setattr(other, name, module)


def _init_compact(generator: MultiScaleGenerator) -> None:
    """Apply He initialization, which preserves the variance of the activations.

    He et al. 2015, arXiv:1502.01852. With torch's default the signal shrinks layer by layer, and training starts
    slowly.
    """
    for module in generator.modules():
        if isinstance(module, nn.Conv2d):
            # No activation follows the depthwise part of a separable convolution.
            nn.init.kaiming_normal_(module.weight, a=PRELU_INIT if module.groups == 1 else 1.0)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for network in generator.networks.values():
        assert isinstance(network, SRVGGNetCompact)
        last = network.body[-1]
        if isinstance(network, SeparableSRVGG) or network.config.features < network.in_channels:
            last.get_parameter("weight").data.mul_(INIT_SCALE)
        else:
            last.get_parameter("weight").data.mul_(LAST_CONV_INIT_SCALE)
            _init_as_bicubic(network)


@torch.no_grad()
def _init_as_bicubic(network: SRVGGNetCompact) -> None:
    """Initialize the first channels so that the network upscales bicubically.

    A network would otherwise learn this first, and for chroma late, because photographs have little detail in it.
    """
    channels, scale = network.in_channels, network.scale
    *convs, last = (layer for layer in network.body if isinstance(layer, nn.Conv2d))
    for conv in convs:
        conv.weight[:channels] = 0
        for channel in range(channels):
            conv.weight[channel, channel, 1, 1] = 1  # images are positive, where PReLU is the identity
    line = _bicubic_weights(scale)
    kernels = torch.einsum("iy,jx->ijyx", line, line).reshape(-1, 3, 3)
    kernels[:, 1, 1] -= 1  # the network adds its output to a nearest-neighbor upscaled image
    for channel in range(channels):
        rows = slice(channel * scale**2, (channel + 1) * scale**2)
        last.weight[rows, :channels] = 0
        last.weight[rows, channel] = kernels


def _bicubic_weights(scale: int) -> Tensor:
    """Bicubic weights of three input pixels for each output pixel.

    (scale, 3): of the previous, this and the next input pixel, sum 1. Bicubic weights (a = -0.5) without the fourth
    tap, which is outside a 3x3 convolution.
    """
    positions = (torch.arange(scale) + 0.5) / scale - 0.5
    distance = (torch.tensor([-1.0, 0.0, 1.0]) - positions[:, None]).abs()
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = torch.where(distance <= 1, near, far)
    return weights / weights.sum(1, keepdim=True)


def _init_rrdb(generator: MultiScaleGenerator) -> None:
    """Apply He initialization times INIT_SCALE to the dense blocks.

    With zero biases, as ESRGAN does.
    """
    for name, module in named_modules(generator):
        # Of a separable convolution only the pointwise part is scaled; the depthwise one keeps the variance.
        if isinstance(module, nn.Conv2d) and ".rdb" in name and module.groups == 1:
            nn.init.kaiming_normal_(module.weight)
            module.weight.data.mul_(INIT_SCALE)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _load_init_weights(generator: MultiScaleGenerator, name: str) -> None:
    try:
        source = load_upscaler(zoo.find_weights(name)).model
    except WeightsError as error:
        raise TrainingError(f"network.init_from: {error}") from error
    scale = str(getattr(source, "scale", 0))
    target = dict(generator.networks.items()).get(scale)
    is_same_shape = type(source) is type(target) and getattr(source, "config", None) == getattr(target, "config", None)
    if target is None or not is_same_shape:
        raise TrainingError(
            f"network.init_from: {name} is {_describe_network(source)}; "
            "set network.kind, separable, scales and sizes to match it"
        )
    target.load_state_dict(source.state_dict())


def _describe_network(network: nn.Module) -> str:
    """Describe the class and the shape of a network with the names of the settings."""
    config = getattr(network, "config", None)
    values = ((name, getattr(config, name, None)) for name in _SIZE_FIELDS)
    sizes = ", ".join(f"{name} {getattr(value, 'value', value)}" for name, value in values if value is not None)
    return f"{type(network).__name__}, {sizes}" if sizes else type(network).__name__
