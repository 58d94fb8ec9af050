"""Structured pruning: remove channels and blocks of trained networks.

The importance of a channel is its variance times the squared weights that read it. Widths are multiples of 8, the
vector width of CPUs. The output channels of the last convolution, which the pixel shuffle arranges as pixels, are all
kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ...models import RRDBNet, SRVGGNetCompact
from ...models.arch.rrdb import RRDB
from ..runtime.typed_torch import named_modules, solve, to_list
from .errors import CompressionError

WIDTH_MULTIPLE = 8
RIDGE = 1e-6  # relative to the mean diagonal; keeps the least squares solvable if channels are linearly dependent


def prune(network: nn.Module, fraction: float, images: Sequence[Tensor]) -> SRVGGNetCompact | RRDBNet:
    """Return the network without a fraction of its channels, and of its blocks.

    fraction: in (0, 1); only RRDBNets lose blocks. images: (1, C, h, w) in [0, 1], low-resolution, to measure the
    importance of the channels on. All layers of an SRVGGNetCompact keep one common width, and an RRDBNet keeps its
    growth of 32, the only one that other programs read. Removing dead channels does not change the output; otherwise
    the result needs fine-tuning. Raises CompressionError.
    """
    if type(network) is SRVGGNetCompact:
        return _prune_compact(network, pruned_width(network.config.features, fraction), images)
    if type(network) is RRDBNet:
        shallow = _drop_blocks(network, fraction, images)
        return _prune_rrdb(shallow, pruned_width(network.config.features, fraction), images)
    raise CompressionError(f"{type(network).__name__} cannot be pruned; SRVGGNetCompact and RRDBNet can")


def pruned_width(features: int, fraction: float) -> int:
    """Number of channels left, rounded up to a multiple of 8.

    12 channels are no faster than 16.
    """
    width = max(WIDTH_MULTIPLE, math.ceil(features * (1 - fraction) / WIDTH_MULTIPLE - 1e-9) * WIDTH_MULTIPLE)
    if width >= features:
        raise CompressionError(
            f"pruning {fraction:g} of {features} channels leaves {width}: widths are multiples of {WIDTH_MULTIPLE}; "
            "prune more, or not at all"
        )
    return width


# ---- importance ----


@torch.no_grad()
def channel_importance(network: nn.Module, images: Sequence[Tensor]) -> dict[str, Tensor]:
    """Relative importance of the input channels of each convolution.

    Returns a vector (in_channels,) with the sum 1 for each name of a convolution.
    """
    sums: dict[str, Tensor] = {}  # (3, in_channels): count, sum, sum of squares

    def make_hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def accumulate(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0].double()
            moments = torch.stack([torch.ones_like(x).sum((0, 2, 3)), x.sum((0, 2, 3)), (x * x).sum((0, 2, 3))])
            sums[name] = sums.get(name, torch.zeros_like(moments)) + moments

        return accumulate

    convs = {name: conv for name, conv in named_modules(network) if isinstance(conv, nn.Conv2d)}
    hooks = [conv.register_forward_pre_hook(make_hook(name)) for name, conv in convs.items()]
    _run_with_hooks(network, images, hooks)
    importance: dict[str, Tensor] = {}
    for name, (count, total, squares) in sums.items():
        variance = (squares / count - (total / count) ** 2).clamp_min(0)
        energy = variance * convs[name].weight.double().square().sum((0, 2, 3))
        importance[name] = energy / energy.sum().clamp_min(1e-30)
    return importance


def _run_with_hooks(network: nn.Module, images: Sequence[Tensor], hooks: Sequence[RemovableHandle]) -> None:
    """Run the network on each image, then remove the hooks."""
    try:
        for image in images:
            network(image)
    finally:
        for hook in hooks:
            hook.remove()


def _top_indices(values: Tensor, count: int) -> Tensor:
    """Return the indices of the `count` largest values, in ascending order."""
    return values.argsort(descending=True, stable=True)[:count].sort().values


# ---- SRVGGNetCompact ----


def _prune_compact(network: SRVGGNetCompact, width: int, images: Sequence[Tensor]) -> SRVGGNetCompact:
    """Keep the channels of each layer that are most important to the next one."""
    importance = channel_importance(network, images)
    names = [f"body.{index}" for index in range(0, len(network.body), 2)]
    kept = {name: _top_indices(importance[reader], width) for name, reader in pairwise(names)}
    small = SRVGGNetCompact(replace(network.config, features=width)).to(images[0].device).eval()
    in_channels: Tensor | slice = slice(None)
    with torch.no_grad():
        for index, (old, new) in enumerate(zip(network.body, small.body, strict=True)):
            if isinstance(new, nn.Conv2d):
                out_channels = kept.get(f"body.{index}", slice(None))
                _copy_conv(new, old, out_channels, in_channels)
                in_channels = out_channels
            elif isinstance(new, nn.PReLU) and isinstance(old, nn.PReLU):
                new.weight.copy_(old.weight[in_channels])
    for name in names[1:]:
        _refit(small, network, name, kept.get(name, slice(None)), images)
    return small


def _copy_conv(new: nn.Module, old: nn.Module, out_channels: Tensor | slice, in_channels: Tensor | slice) -> None:
    """Copy the selected input and output channels of a convolution."""
    assert isinstance(new, nn.Conv2d)
    assert isinstance(old, nn.Conv2d)
    new.weight.copy_(old.weight[out_channels][:, in_channels])
    if new.bias is not None and old.bias is not None:
        new.bias.copy_(old.bias[out_channels])


@torch.no_grad()
def _refit(
    small: nn.Module, large: nn.Module, name: str, out_channels: Tensor | slice, images: Sequence[Tensor]
) -> None:
    """Correct a convolution by least squares for the channels it lost.

    He et al. 2017, arXiv:1707.06168. The correction is fitted to the difference of the outputs, so that it is zero
    where they are equal.
    """
    conv, original = small.get_submodule(name), large.get_submodule(name)
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None

    def captured() -> Iterator[tuple[Tensor, Tensor]]:
        for image in images:
            inputs, target = capture_conv(small, conv, image)[0], capture_conv(large, original, image)[1]
            yield inputs, target[:, out_channels] - conv(inputs)

    change = fit_conv(captured()).to(conv.weight)
    conv.weight += change[:, :-1].reshape_as(conv.weight)
    conv.bias += change[:, -1]


def fit_conv(pairs: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Fit a 3x3 convolution to inputs and outputs by least squares.

    pairs: (1, in, h, w) and (1, out, h, w). Returns (out, 9 in + 1), float64: weights, and the bias as the last column.
    """
    gram: Tensor | None = None
    cross: Tensor | None = None
    for inputs, target in pairs:
        patches = F.pad(F.unfold(inputs, 3, padding=1)[0].double(), (0, 0, 0, 1), value=1.0)  # (9 in + 1, pixels)
        gram = patches @ patches.T + (0 if gram is None else gram)
        cross = patches @ target.double().flatten(2)[0].T + (0 if cross is None else cross)
    if gram is None or cross is None:
        raise CompressionError("there are no images to measure the channels on")
    gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return solve(gram, cross).T


def capture_conv(network: nn.Module, conv: nn.Module, image: Tensor) -> tuple[Tensor, Tensor]:
    """Return the input and the output of a convolution of the network for an image."""
    captured: list[tuple[Tensor, Tensor]] = []

    def capture(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        captured.append((inputs[0], output))

    hook = conv.register_forward_hook(capture)
    try:
        network(image)
    finally:
        hook.remove()
    return captured[0]


# ---- RRDBNet ----


@torch.no_grad()
def _drop_blocks(network: RRDBNet, fraction: float, images: Sequence[Tensor]) -> RRDBNet:
    """Remove the blocks that come closest to a multiplication by a number.

    The number (1.2 for a block with zero weights) is folded into the following layers: later blocks see a trunk that is
    smaller by this factor, so their biases are divided by it, which scales their output alike; conv_body multiplies it
    back.
    """
    count = max(1, math.ceil(network.config.blocks * (1 - fraction) - 1e-9))
    factors, effects = _block_effects(network, images)
    kept: list[int] = to_list(_top_indices(effects, count))
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
    """Fit y = factor * x to input and output of each block.

    Returns the factors, and the fractions of the outputs that they do not explain.
    """
    sums = torch.zeros(len(network.body), 3, dtype=torch.float64)  # of x x, x y, y y

    def make_hook(index: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def accumulate(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            x, y = inputs[0].double(), output.double()
            sums[index] += torch.stack([(x * x).sum(), (x * y).sum(), (y * y).sum()]).cpu()

        return accumulate

    hooks = [block.register_forward_hook(make_hook(index)) for index, block in enumerate(network.body)]
    _run_with_hooks(network, images, hooks)
    xx, xy, yy = sums.unbind(1)
    # A block that inverts the trunk is not a candidate, and the division of the biases needs a factor above 0.
    factors = torch.where(xy > 0, xy / xx.clamp_min(1e-30), torch.ones_like(xy))
    return factors, (yy - 2 * factors * xy + factors**2 * xx).clamp_min(0) / yy.clamp_min(1e-30)


@torch.no_grad()
def _prune_rrdb(network: RRDBNet, width: int, images: Sequence[Tensor]) -> RRDBNet:
    """Reduce the width of an RRDBNet.

    The residual connections add the trunk's channels up, so that all blocks keep the same ones; each convolution after
    the trunk has its own selection.
    """
    importance, features = channel_importance(network, images), network.config.features
    tail = [f"conv_up{index}" for index in range(1, network.config.doublings + 1)] + ["conv_hr", "conv_last"]
    readers = [name for name in importance if name.startswith("body.")] + ["conv_body", tail[0]]
    # The first input channels of each reader are the trunk; all readers have the same weight.
    shares = torch.stack([importance[name][:features] for name in readers])
    trunk = _top_indices((shares / shares.sum(1, keepdim=True).clamp_min(1e-30)).sum(0), width)
    small = RRDBNet(replace(network.config, features=width)).to(images[0].device).eval()
    _copy_conv(small.conv_first, network.conv_first, trunk, slice(None))
    _copy_conv(small.conv_body, network.conv_body, trunk, trunk)
    for old, new in zip(network.body, small.body, strict=True):
        assert isinstance(old, RRDB)
        assert isinstance(new, RRDB)
        _copy_block(new, old, trunk, features)
    in_channels = trunk
    for name, reader in pairwise(tail):
        out_channels = _top_indices(importance[reader], width)
        _copy_conv(small.get_submodule(name), network.get_submodule(name), out_channels, in_channels)
        in_channels = out_channels
    _copy_conv(small.conv_last, network.conv_last, slice(None), in_channels)
    return small


def _copy_block(new: RRDB, old: RRDB, trunk: Tensor, features: int) -> None:
    for name, conv in named_modules(old):
        if isinstance(conv, nn.Conv2d):
            grown = torch.arange(features, conv.in_channels, device=trunk.device)  # dense connections within the block
            out_channels: Tensor | slice = trunk if name.endswith("conv5") else slice(None)
            _copy_conv(new.get_submodule(name), conv, out_channels, torch.cat((trunk, grown)))
