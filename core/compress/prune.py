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

STEP = 8  # widths are multiples of it
RIDGE = 1e-6  # of the mean diagonal, which keeps the refit solvable where channels repeat one another


def pruned(network: nn.Module, share: float, pictures: Sequence[Tensor]) -> SRVGGNetCompact | RRDBNet:
    """The network without the given share, in (0, 1), of its channels; of an RRDBNet, of its blocks as well.

    pictures: (1, C, h, w) in [0, 1], small ones, on which channels show what they are worth. The result is an ordinary
    network: an SRVGGNetCompact is as wide in each layer, and an RRDBNet keeps its growth of 32, the only one that other
    programs know. Wherever channels are dead it computes the same; else it wants training. Raises CompressionError.
    """
    if type(network) is SRVGGNetCompact:
        return _pruned_compact(network, width_after(network.config.features, share), pictures)
    if type(network) is RRDBNet:
        shallow = _without_blocks(network, share, pictures)
        return _pruned_rrdb(shallow, width_after(network.config.features, share), pictures)
    raise CompressionError(f"{type(network).__name__} cannot be pruned; SRVGGNetCompact and RRDBNet can")


def width_after(features: int, share: float) -> int:
    """How many of the channels stay: a multiple of 8, rounded up, for 12 channels are no faster than 16."""
    width = max(STEP, math.ceil(features * (1 - share) / STEP - 1e-9) * STEP)
    if width >= features:
        raise CompressionError(
            f"pruning {share:g} of {features} channels leaves {width}: widths are multiples of {STEP}; prune more, "
            "or leave it out"
        )
    return width


# ---- what channels are worth ----


@torch.no_grad()
def worth(network: nn.Module, pictures: Sequence[Tensor]) -> dict[str, Tensor]:
    """For each convolution by name, how much each of its input channels gives to its results: (in_channels,), sum 1."""
    sums: dict[str, Tensor] = {}  # count, sum and sum of squares of each channel

    def watch(name: str):
        def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0].double()
            found = torch.stack([torch.ones_like(x).sum((0, 2, 3)), x.sum((0, 2, 3)), (x * x).sum((0, 2, 3))])
            sums[name] = sums.get(name, torch.zeros_like(found)) + found

        return note

    convs = {name: conv for name, conv in network.named_modules() if isinstance(conv, nn.Conv2d)}
    hooks = [conv.register_forward_pre_hook(watch(name)) for name, conv in convs.items()]
    try:
        for picture in pictures:
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


def _best(values: Tensor, count: int) -> Tensor:
    """The places of the greatest values, in ascending order."""
    return values.argsort(descending=True, stable=True)[:count].sort().values


# ---- SRVGGNetCompact ----


def _pruned_compact(network: SRVGGNetCompact, width: int, pictures: Sequence[Tensor]) -> SRVGGNetCompact:
    """Each layer keeps the channels that the next one gets most from."""
    values = worth(network, pictures)
    names = [f"body.{index}" for index in range(0, len(network.body), 2)]
    kept = {name: _best(values[reader], width) for name, reader in pairwise(names)}
    small = SRVGGNetCompact(replace(network.config, features=width)).to(pictures[0].device).eval()
    before: Tensor | slice = slice(None)
    with torch.no_grad():
        for index, (old, new) in enumerate(zip(network.body, small.body, strict=True)):
            if isinstance(new, nn.Conv2d):
                after = kept.get(f"body.{index}", slice(None))
                _take(new, old, after, before)
                before = after
            elif isinstance(new, nn.PReLU) and isinstance(old, nn.PReLU):
                new.weight.copy_(old.weight[before])
    for name in names[1:]:
        _refit(small, network, name, kept.get(name, slice(None)), pictures)
    return small


def _take(new: nn.Module, old: nn.Module, rows: Tensor | slice, columns: Tensor | slice) -> None:
    """Copy these results of the old convolution, read from these channels, into the new one."""
    assert isinstance(new, nn.Conv2d)
    assert isinstance(old, nn.Conv2d)
    new.weight.copy_(old.weight[rows][:, columns])
    if new.bias is not None and old.bias is not None:
        new.bias.copy_(old.bias[rows])


@torch.no_grad()
def _refit(small: nn.Module, large: nn.Module, name: str, rows: Tensor | slice, pictures: Sequence[Tensor]) -> None:
    """Change one convolution so that, from the channels that are left, it gives what it gave from all (He et al. 2017,
    arXiv:1707.06168): the least squares of what is missing, so that where nothing is missing nothing changes."""
    conv, model = small.get_submodule(name), large.get_submodule(name)
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    gram: Tensor | None = None
    cross: Tensor | None = None
    for picture in pictures:
        read, wanted = _seen(small, conv, picture)[0], _seen(large, model, picture)[1][:, rows]
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


def _seen(network: nn.Module, conv: nn.Module, picture: Tensor) -> tuple[Tensor, Tensor]:
    """What a convolution reads and gives while the network looks at a picture."""
    seen: list[tuple[Tensor, Tensor]] = []

    def note(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((inputs[0], output))

    hook = conv.register_forward_hook(note)
    try:
        network(picture)
    finally:
        hook.remove()
    return seen[0]


# ---- RRDBNet ----


@torch.no_grad()
def _without_blocks(network: RRDBNet, share: float, pictures: Sequence[Tensor]) -> RRDBNet:
    """The network without the blocks that come nearest to doing nothing, which is to multiply the trunk by a number.

    The number (1.2 for a block whose convolutions are all zero) goes into what follows: later blocks see a trunk that
    much smaller, so their biases are divided by it, which scales all they make alike; conv_body multiplies it back.
    """
    count = max(1, math.ceil(network.config.blocks * (1 - share) - 1e-9))
    factors, effects = _block_effects(network, pictures)
    kept = _best(effects, count).tolist()
    small = RRDBNet(replace(network.config, blocks=count)).to(pictures[0].device).eval()
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


def _block_effects(network: RRDBNet, pictures: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """For each block: the number that it nearly multiplies the trunk by, and the share of what it gives that is not
    explained by it."""
    sums = torch.zeros(len(network.body), 3, dtype=torch.float64)  # of x x, x y, y y

    def watch(index: int):
        def note(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            x, y = inputs[0].double(), output.double()
            sums[index] += torch.stack([(x * x).sum(), (x * y).sum(), (y * y).sum()]).cpu()

        return note

    hooks = [block.register_forward_hook(watch(index)) for index, block in enumerate(network.body)]
    try:
        for picture in pictures:
            network(picture)
    finally:
        for hook in hooks:
            hook.remove()
    xx, xy, yy = sums.unbind(1)
    # A block that turns the trunk's sign round is no block to leave out, and the biases need a number above 0.
    factors = torch.where(xy > 0, xy / xx.clamp_min(1e-30), torch.ones_like(xy))
    return factors, (yy - 2 * factors * xy + factors**2 * xx).clamp_min(0) / yy.clamp_min(1e-30)


@torch.no_grad()
def _pruned_rrdb(network: RRDBNet, width: int, pictures: Sequence[Tensor]) -> RRDBNet:
    """The trunk is one set of channels from end to end, for residuals add them up; each convolution after it has its
    own."""
    values, features = worth(network, pictures), network.config.features
    tail = [f"conv_up{index}" for index in range(1, network.config.doublings + 1)] + ["conv_hr", "conv_last"]
    readers = [name for name in values if name.startswith("body.")] + ["conv_body", tail[0]]
    # The first thing that each reader sees is the trunk, and readers count alike.
    gets = torch.stack([values[name][:features] for name in readers])
    trunk = _best((gets / gets.sum(1, keepdim=True).clamp_min(1e-30)).sum(0), width)
    small = RRDBNet(replace(network.config, features=width)).to(pictures[0].device).eval()
    _take(small.conv_first, network.conv_first, trunk, slice(None))
    _take(small.conv_body, network.conv_body, trunk, trunk)
    for old, new in zip(network.body, small.body, strict=True):
        assert isinstance(old, RRDB)
        assert isinstance(new, RRDB)
        _take_block(new, old, trunk, features)
    before = trunk
    for name, reader in pairwise(tail):
        after = _best(values[reader], width)
        _take(small.get_submodule(name), network.get_submodule(name), after, before)
        before = after
    _take(small.conv_last, network.conv_last, slice(None), before)
    return small


def _take_block(new: RRDB, old: RRDB, trunk: Tensor, features: int) -> None:
    for name, conv in old.named_modules():
        if isinstance(conv, nn.Conv2d):
            grown = torch.arange(features, conv.in_channels, device=trunk.device)  # what the block itself has made
            rows: Tensor | slice = trunk if name.endswith("conv5") else slice(None)
            _take(new.get_submodule(name), conv, rows, torch.cat((trunk, grown)))
