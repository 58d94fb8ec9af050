"""Channels of even strength: the same network, for 8-bit integers that all channels of a layer share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ...models import RRDBNet, SRVGGNetCompact
from ...models.arch.separable import to_dense

# How far channels are evened out: with 1 all reach as far, with 0 the weights that read them do. Steps of activations
# are the coarser ones; weights have a scale for each result.
MIGRATION_STRENGTH = 0.75


@torch.no_grad()
def equalize(network: nn.Module, images: Sequence[Tensor]) -> SRVGGNetCompact | RRDBNet:
    """A dense network that gives the same, with channels scaled between each convolution and the next (Nagel et al.
    2019, arXiv:1906.04721). An activation gives k f(x) for k x where k > 0, so what a channel is weakened by where it
    is made, it can be strengthened by where it is read.

    An activation's channels share 256 steps over the range of the widest, of which the narrow ones get few. pictures:
    (1, C, h, w) in [0, 1], on which channels show how far they reach. An RRDBNet's channels are read in many places,
    and stay as they are. Raises ValueError for networks of another kind.
    """
    even = to_dense(network)
    if isinstance(even, RRDBNet):
        return even
    reaches = _activation_ranges(even, images)
    # The last convolution stays in float, so what it reads may be as uneven as it is.
    for (index, conv), (_, reader) in pairwise(_conv_layers(even)[:-1]):
        reach = reaches[index].clamp_min(1e-6)
        weight = reader.weight.abs().amax((0, 2, 3)).clamp_min(1e-6)
        factor = reach**MIGRATION_STRENGTH / weight ** (1 - MIGRATION_STRENGTH)
        factor /= factor.log().mean().exp()
        conv.weight /= factor[:, None, None, None]
        if conv.bias is not None:
            conv.bias /= factor
        reader.weight *= factor[None, :, None, None]
    return even


def _conv_layers(network: SRVGGNetCompact) -> list[tuple[int, nn.Conv2d]]:
    return [(index, layer) for index, layer in enumerate(network.body) if isinstance(layer, nn.Conv2d)]


def _activation_ranges(network: SRVGGNetCompact, images: Sequence[Tensor]) -> dict[int, Tensor]:
    """For each convolution but the last, by its place in the body: how far from 0 its channels get, activated."""
    found: dict[int, Tensor] = {}
    for picture in images:
        x = picture
        for index, layer in enumerate(network.body[:-1]):
            x = layer(x)
            if index % 2:
                reach = x.abs().amax((0, 2, 3))
                before = found.get(index - 1)
                found[index - 1] = reach if before is None else torch.maximum(before, reach)
    return found
