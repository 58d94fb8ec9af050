"""The networks that a run trains: a generator with a head for each scale, and its opponent."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ....models import RRDBConfig, RRDBNet, SRVGGConfig, SRVGGNetCompact, WeightsError, load_upscaler
from ....models.arch.discriminator import UNetDiscriminator, VGGDiscriminator
from ....models.arch.separable import SeparableRRDB, SeparableSRVGG
from ....models.zoo import zoo
from ..config.schema import DiscriminatorKind, NetworkConfig, NetworkKind, TrainConfig
from ..errors import TrainingError

# Of the first weights of dense blocks, with which ESRGAN's deep trunks begin close to the identity, and of the last
# convolution of separable compact networks, which begin close to enlarging by repetition.
INIT_SCALE = 0.1
LAST_CONV_INIT_SCALE = (
    0.01  # of other compact networks' last one: close to smooth enlargement, but not deaf to what is learnt
)
PRELU_INIT = 0.25  # that PReLU begins with
_SIZE_FIELDS = ("scale", "in_channels", "features", "convs", "blocks", "growth", "unshuffle", "activation")


class MultiScaleGenerator(nn.Module):
    """One body, and a head for each scale: (B, 3, h, w), scale -> (B, 3, h * scale, w * scale), not clamped.

    `networks` are whole networks of their own that share the body's very weights, so that each can be run, measured and
    exported as it is. In a compact network all but the last convolution is body; in an RRDBNet, all that works at input
    size.
    """

    def __init__(self, networks: Mapping[int, nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleDict({str(scale): network for scale, network in networks.items()})
        first, *others = self.networks.values()
        for other in others:
            _share_body(first, other)

    def for_scale(self, scale: int) -> nn.Module:
        """The network of one scale."""
        return self.networks[str(scale)]

    def forward(self, x: Tensor, scale: int) -> Tensor:
        return self.networks[str(scale)](x)


def make_generator(settings: NetworkConfig, seed: int) -> MultiScaleGenerator:
    """The generator with the weights that the seed gives it, or those of `begin_with`. Raises TrainingError."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = MultiScaleGenerator({scale: _build_network(settings, scale) for scale in settings.scales})
        if settings.kind is NetworkKind.RRDB:
            _init_rrdb(generator)
        else:
            _init_compact(generator)
    if settings.begin_with:
        _load_init_weights(generator, settings.begin_with)
    return generator


def make_discriminator(config: TrainConfig) -> nn.Module | None:
    """The opponent, if the adversarial loss has a weight."""
    if not config.losses.adversarial:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed + 1)
        if config.discriminator.kind is DiscriminatorKind.VGG:
            return VGGDiscriminator(config.data.crop, config.discriminator.features)
        return UNetDiscriminator(config.discriminator.features)


def _build_network(settings: NetworkConfig, scale: int) -> nn.Module:
    if settings.kind is NetworkKind.COMPACT:
        compact = SeparableSRVGG if settings.separable else SRVGGNetCompact
        return compact(SRVGGConfig(features=settings.features, convs=settings.convs, scale=scale))
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


def _init_compact(generator: MultiScaleGenerator) -> None:
    """He's normal weights (He et al. 2015, arXiv:1502.01852), with which a signal is as strong after a convolution and
    its activation as it was before. With torch's own it would shrink layer by layer, and learning would begin late."""
    for module in generator.modules():
        if isinstance(module, nn.Conv2d):
            # No activation follows the blurs of a separable convolution.
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
    """Let the first channels carry the picture through to the end, where it is enlarged smoothly: what a network would
    else learn first, and last of all in colours, in which photographs hold little detail."""
    colours, scale = network.in_channels, network.scale
    *convs, last = (layer for layer in network.body if isinstance(layer, nn.Conv2d))
    for conv in convs:
        conv.weight[:colours] = 0
        for colour in range(colours):
            conv.weight[colour, colour, 1, 1] = 1  # brightness is above 0, where activations change nothing
    steps = _bicubic_weights(scale)
    smooth = torch.einsum("iy,jx->ijyx", steps, steps).reshape(-1, 3, 3)
    smooth[:, 1, 1] -= 1  # the network enlarges by repetition, and adds
    for colour in range(colours):
        rows = slice(colour * scale**2, (colour + 1) * scale**2)
        last.weight[rows, :colours] = 0
        last.weight[rows, colour] = smooth


def _bicubic_weights(scale: int) -> Tensor:
    """(scale, 3): what the small pixel before, the one here and the next count for at each of its large pixels, with
    bicubic weights (a = -0.5), of which the fourth is too far away for one convolution."""
    places = (torch.arange(scale) + 0.5) / scale - 0.5
    away = (torch.tensor([-1.0, 0.0, 1.0]) - places[:, None]).abs()
    near, far = 1.5 * away**3 - 2.5 * away**2 + 1, -0.5 * away**3 + 2.5 * away**2 - 4 * away + 2
    weights = torch.where(away <= 1, near, far)
    return weights / weights.sum(1, keepdim=True)


def _init_rrdb(generator: MultiScaleGenerator) -> None:
    """He's normal weights in the dense blocks, damped, without biases, as ESRGAN begins."""
    for name, module in generator.named_modules():
        # Of a separable convolution the mix is damped, once; its blurs keep what they are given as strong as it was.
        if isinstance(module, nn.Conv2d) and ".rdb" in name and module.groups == 1:
            nn.init.kaiming_normal_(module.weight)
            module.weight.data.mul_(INIT_SCALE)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _load_init_weights(generator: MultiScaleGenerator, name: str) -> None:
    try:
        given = load_upscaler(zoo.find_weights(name)).model
    except WeightsError as error:
        raise TrainingError(f"network.begin_with: {error}") from error
    target = (
        generator.networks[str(scale)]
        if (scale := getattr(given, "scale", 0)) and _has_scale(generator, scale)
        else None
    )
    alike = type(given) is type(target) and getattr(given, "config", None) == getattr(target, "config", None)
    if target is None or not alike:
        raise TrainingError(
            f"network.begin_with: {name} is {_describe_network(given)}; "
            "set network.kind, separable, scales and sizes to match it"
        )
    target.load_state_dict(given.state_dict())


def _describe_network(network: nn.Module) -> str:
    """What kind of network it is, in the words of the settings."""
    config = getattr(network, "config", None)
    named = ((name, getattr(config, name, None)) for name in _SIZE_FIELDS)
    sizes = ", ".join(f"{name} {getattr(value, 'value', value)}" for name, value in named if value is not None)
    return f"{type(network).__name__}, {sizes}" if sizes else type(network).__name__


def _has_scale(generator: MultiScaleGenerator, scale: int) -> bool:
    return str(scale) in generator.networks
