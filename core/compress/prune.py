"""Narrower and shallower networks out of trained ones: whole channels go, so that what is left is faster everywhere.

A channel counts for as much as the next convolutions get from it: the variance of its values times the square of the
weights that read it. Widths come in multiples of 8, because processors take channels by eights and sixteens. The last
convolution's results, which the pixel-shuffle lays out as pixels, all stay: only what it reads is thinned out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...models import RRDBNet, SRVGGNetCompact
from ...models.arch.rrdb import RRDB
from .errors import CompressionError

WIDTH_MULTIPLE = 8  # widths are multiples of it
RIDGE = 1e-6  # of the mean diagonal, which keeps the refit solvable where channels repeat one another


def prune(network: nn.Module, fraction: float, images: Sequence[Tensor]) -> SRVGGNetCompact | RRDBNet:
    """The network without the given share, in (0, 1), of its channels; of an RRDBNet, of its blocks as well.

    pictures: (1, C, h, w) in [0, 1], small ones, on which channels show what they are worth. The result is an ordinary
    network: an SRVGGNetCompact is as wide in each layer, and an RRDBNet keeps its growth of 32, the only one that other
    programs know. Wherever channels are dead it computes the same; else it wants training. Raises CompressionError.
    """
    if type(network) is SRVGGNetCompact:
        return _prune_compact(network, pruned_width(network.config.features, fraction), images)
    if type(network) is RRDBNet:
        shallow = _drop_blocks(network, fraction, images)
        return _prune_rrdb(shallow, pruned_width(network.config.features, fraction), images)
    raise CompressionError(f"{type(network).__name__} cannot be pruned; SRVGGNetCompact and RRDBNet can")


def pruned_width(features: int, fraction: float) -> int:
    """How many of the channels stay: a multiple of 8, rounded up, for 12 channels are no faster than 16."""
    width = max(WIDTH_MULTIPLE, math.ceil(features * (1 - fraction) / WIDTH_MULTIPLE - 1e-9) * WIDTH_MULTIPLE)
    if width >= features:
        raise CompressionError(
            f"pruning {fraction:g} of {features} channels leaves {width}: widths are multiples of {WIDTH_MULTIPLE}; "
            "prune more, or not at all"
        )
    return width


# ---- what channels are worth ----


@torch.no_grad()
def channel_importance(network: nn.Module, images: Sequence[Tensor]) -> dict[str, Tensor]:
    """For each convolution by name, how much each of its input channels gives to its results: (in_channels,), sum 1."""
    sums: dict[str, Tensor] = {}  # count, sum and sum of squares of each channel

    def make_hook(name: str):
        def accumulate(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0].double()
            found = torch.stack([torch.ones_like(x).sum((0, 2, 3)), x.sum((0, 2, 3)), (x * x).sum((0, 2, 3))])
            sums[name] = sums.get(name, torch.zeros_like(found)) + found

        return accumulate

    convs = {name: conv for name, conv in network.named_modules() if isinstance(conv, nn.Conv2d)}
    hooks = [conv.register_forward_pre_hook(make_hook(name)) for name, conv in convs.items()]
    try:
        for picture in images:
            network(picture)
    finally:
        for hook in hooks:
            hook.remove()
    found = {}
    for name, (count, total, squares) in sums.items():
        variance = (squares / count - (total / count) ** 2).clamp_min(0)
        gives = variance * convs[name].weight.double().square().sum((0, 2, 3))
        found[name] = gives / gives.sum().clamp_min(1e-30)
    return found


def _top_indices(values: Tensor, count: int) -> Tensor:
    """The places of the greatest values, in ascending order."""
    return values.argsort(descending=True, stable=True)[:count].sort().values


# ---- SRVGGNetCompact ----


def _prune_compact(network: SRVGGNetCompact, width: int, images: Sequence[Tensor]) -> SRVGGNetCompact:
    """Each layer keeps the channels that the next one gets most from."""
    values = channel_importance(network, images)
    names = [f"body.{index}" for index in range(0, len(network.body), 2)]
    kept = {name: _top_indices(values[reader], width) for name, reader in pairwise(names)}
    small = SRVGGNetCompact(replace(network.config, features=width)).to(images[0].device).eval()
    before: Tensor | slice = slice(None)
    with torch.no_grad():
        for index, (old, new) in enumerate(zip(network.body, small.body, strict=True)):
            if isinstance(new, nn.Conv2d):
                after = kept.get(f"body.{index}", slice(None))
                _copy_conv(new, old, after, before)
                before = after
            elif isinstance(new, nn.PReLU) and isinstance(old, nn.PReLU):
                new.weight.copy_(old.weight[before])
    for name in names[1:]:
        _refit(small, network, name, kept.get(name, slice(None)), images)
    return small


def _copy_conv(new: nn.Module, old: nn.Module, out_channels: Tensor | slice, in_channels: Tensor | slice) -> None:
    """Copy these results of the old convolution, read from these channels, into the new one."""
    assert isinstance(new, nn.Conv2d)
    assert isinstance(old, nn.Conv2d)
    new.weight.copy_(old.weight[out_channels][:, in_channels])
    if new.bias is not None and old.bias is not None:
        new.bias.copy_(old.bias[out_channels])


@torch.no_grad()
def _refit(
    small: nn.Module, large: nn.Module, name: str, out_channels: Tensor | slice, images: Sequence[Tensor]
) -> None:
    """Change one convolution so that, from the channels that are left, it gives what it gave from all (He et al. 2017,
    arXiv:1707.06168): the least squares of what is missing, so that where nothing is missing nothing changes."""
    conv, model = small.get_submodule(name), large.get_submodule(name)
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    gram: Tensor | None = None
    cross: Tensor | None = None
    for picture in images:
        read, wanted = _capture_conv(small, conv, picture)[0], _capture_conv(large, model, picture)[1][:, out_channels]
        missing = (wanted - conv(read)).double().flatten(2)[0]  # (out, pixels)
        patches = F.pad(F.unfold(read, 3, padding=1)[0].double(), (0, 0, 0, 1), value=1.0)  # (9 in + 1, pixels)
        gram = patches @ patches.T + (0 if gram is None else gram)
        cross = patches @ missing.T + (0 if cross is None else cross)
    if gram is None or cross is None:
        raise CompressionError("there are no pictures to prune by")
    gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    change = torch.linalg.solve(gram, cross).T.to(conv.weight)  # (out, 9 in + 1)
    conv.weight += change[:, :-1].reshape_as(conv.weight)
    conv.bias += change[:, -1]


def _capture_conv(network: nn.Module, conv: nn.Module, image: Tensor) -> tuple[Tensor, Tensor]:
    """What a convolution reads and gives while the network looks at a picture."""
    seen: list[tuple[Tensor, Tensor]] = []

    def capture(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((inputs[0], output))

    hook = conv.register_forward_hook(capture)
    try:
        network(image)
    finally:
        hook.remove()
    return seen[0]


# ---- RRDBNet ----


@torch.no_grad()
def _drop_blocks(network: RRDBNet, fraction: float, images: Sequence[Tensor]) -> RRDBNet:
    """The network without the blocks that come nearest to doing nothing, which is to multiply the trunk by a number.

    The number (1.2 for a block whose convolutions are all zero) goes into what follows: later blocks see a trunk that
    much smaller, so their biases are divided by it, which scales all they make alike; conv_body multiplies it back.
    """
    count = max(1, math.ceil(network.config.blocks * (1 - fraction) - 1e-9))
    factors, effects = _block_effects(network, images)
    kept = _top_indices(effects, count).tolist()
    small = RRDBNet(replace(network.config, blocks=count)).to(images[0].device).eval()
    state = {key: value for key, value in network.state_dict().items() if not key.startswith("body.")}
    factor = 1.0
    for index, block in enumerate(network.body):
        if index not in kept:
            factor *= float(factors[index])
            continue
        for key, value in block.state_dict().items():
            state[f"body.{kept.index(index)}.{key}"] = value / factor if key.endswith(".bias") else value
    state["conv_body.weight"] = state["conv_body.weight"] * factor
    small.load_state_dict(state)
    return small


def _block_effects(network: RRDBNet, images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """For each block: the number that it nearly multiplies the trunk by, and the share of what it gives that is not
    explained by it."""
    sums = torch.zeros(len(network.body), 3, dtype=torch.float64)  # of x x, x y, y y

    def make_hook(index: int):
        def accumulate(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            x, y = inputs[0].double(), output.double()
            sums[index] += torch.stack([(x * x).sum(), (x * y).sum(), (y * y).sum()]).cpu()

        return accumulate

    hooks = [block.register_forward_hook(make_hook(index)) for index, block in enumerate(network.body)]
    try:
        for picture in images:
            network(picture)
    finally:
        for hook in hooks:
            hook.remove()
    xx, xy, yy = sums.unbind(1)
    # A block that turns the trunk's sign round is no block to leave out, and the biases need a number above 0.
    factors = torch.where(xy > 0, xy / xx.clamp_min(1e-30), torch.ones_like(xy))
    return factors, (yy - 2 * factors * xy + factors**2 * xx).clamp_min(0) / yy.clamp_min(1e-30)


@torch.no_grad()
def _prune_rrdb(network: RRDBNet, width: int, images: Sequence[Tensor]) -> RRDBNet:
    """The trunk is one set of channels from end to end, for residuals add them up; each convolution after it has its
    own."""
    values, features = channel_importance(network, images), network.config.features
    tail = [f"conv_up{index}" for index in range(1, network.config.doublings + 1)] + ["conv_hr", "conv_last"]
    readers = [name for name in values if name.startswith("body.")] + ["conv_body", tail[0]]
    # The first thing that each reader sees is the trunk, and readers count alike.
    gets = torch.stack([values[name][:features] for name in readers])
    trunk = _top_indices((gets / gets.sum(1, keepdim=True).clamp_min(1e-30)).sum(0), width)
    small = RRDBNet(replace(network.config, features=width)).to(images[0].device).eval()
    _copy_conv(small.conv_first, network.conv_first, trunk, slice(None))
    _copy_conv(small.conv_body, network.conv_body, trunk, trunk)
    for old, new in zip(network.body, small.body, strict=True):
        assert isinstance(old, RRDB)
        assert isinstance(new, RRDB)
        _copy_block(new, old, trunk, features)
    before = trunk
    for name, reader in pairwise(tail):
        after = _top_indices(values[reader], width)
        _copy_conv(small.get_submodule(name), network.get_submodule(name), after, before)
        before = after
    _copy_conv(small.conv_last, network.conv_last, slice(None), before)
    return small


def _copy_block(new: RRDB, old: RRDB, trunk: Tensor, features: int) -> None:
    for name, conv in old.named_modules():
        if isinstance(conv, nn.Conv2d):
            grown = torch.arange(features, conv.in_channels, device=trunk.device)  # what the block itself has made
            rows: Tensor | slice = trunk if name.endswith("conv5") else slice(None)
            _copy_conv(new.get_submodule(name), conv, rows, torch.cat((trunk, grown)))
