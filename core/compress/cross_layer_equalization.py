"""Cross-layer equalization: equal channel ranges for 8-bit activations.

Nagel et al. 2019, arXiv:1906.04721.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ...models import RRDBNet, SRVGGNetCompact
from ...models.arch.separable import to_dense

# 1 equalizes the activation ranges, 0 the weights that read them. Activations need it more, because they are quantized
# per tensor, while weights have one scale per output channel.
MIGRATION_STRENGTH = 0.75


@torch.no_grad()
def equalize(network: nn.Module, images: Sequence[Tensor]) -> SRVGGNetCompact | RRDBNet:
    """Return an equivalent dense network with rescaled channels.

    An activation satisfies f(k x) = k f(x) for k > 0, so a factor can move from the weights that compute a channel to
    those that read it. The channels of an activation share 256 steps over the range of the widest one; equal ranges use
    them best. images: (1, C, h, w) in [0, 1], to measure the ranges on. RRDBNets are returned unchanged, because their
    channels are read in many places. Raises ValueError for other architectures.
    """
    dense = to_dense(network)
    if isinstance(dense, RRDBNet):
        return dense
    ranges = _activation_ranges(dense, images)
    # The last convolution is not quantized, so its inputs need no equalization.
    for (index, conv), (_, reader) in pairwise(_conv_layers(dense)[:-1]):
        activation = ranges[index].clamp_min(1e-6)
        weight = reader.weight.abs().amax((0, 2, 3)).clamp_min(1e-6)
        factor = activation**MIGRATION_STRENGTH / weight ** (1 - MIGRATION_STRENGTH)
        factor /= factor.log().mean().exp()
        conv.weight /= factor[:, None, None, None]
        if conv.bias is not None:
            conv.bias /= factor
        reader.weight *= factor[None, :, None, None]
    return dense


def _conv_layers(network: SRVGGNetCompact) -> list[tuple[int, nn.Conv2d]]:
    return [(index, layer) for index, layer in enumerate(network.body) if isinstance(layer, nn.Conv2d)]


def _activation_ranges(network: SRVGGNetCompact, images: Sequence[Tensor]) -> dict[int, Tensor]:
    """Maximum absolute activation per channel, by the index of the convolution."""
    ranges: dict[int, Tensor] = {}
    for image in images:
        x = image
        for index, layer in enumerate(network.body[:-1]):
            x = layer(x)
            if index % 2:  # activations follow the convolutions
                maximum = x.abs().amax((0, 2, 3))
                previous = ranges.get(index - 1)
                ranges[index - 1] = maximum if previous is None else torch.maximum(previous, maximum)
    return ranges
