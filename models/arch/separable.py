"""Depthwise-separable versions of SRVGGNetCompact and RRDBNet.

Each inner convolution is a depthwise 3x3, then a pointwise 1x1 convolution. A 3x3 convolution of c channels to c has 9
c^2 weights; a depthwise 3x3 and a pointwise 1x1 (Sifre 2014; Howard et al. 2017, arXiv:1704.04861) have 9 c + c^2. They
equal one dense 3x3 convolution with a kernel of rank one per input channel, so `to_dense` converts these networks
exactly to those that other programs load, and `to_separable` is the best approximation in the other direction. The
first and the last convolution stay dense: with three channels there is little to save.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from . import rrdb, srvgg
from .rrdb import RRDBConfig, RRDBNet
from .srvgg import SRVGGConfig, SRVGGNetCompact
from .state_dict import StateDict, load_strict


class SeparableConv(nn.Module):
    """A depthwise 3x3, then a pointwise 1x1 convolution.

    (B, in_channels, h, w) -> (B, out_channels, h, w).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        # No bias here: it could be merged into the pointwise one.
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1)
        # torch's default initialisation would scale activations by about a third at each of the two convolutions.
        nn.init.kaiming_normal_(self.depthwise.weight, nonlinearity="linear")

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


class SeparableSRVGG(SRVGGNetCompact):
    """An SRVGGNetCompact with separable inner convolutions."""

    fingerprint_name = "separable-srvgg"  # in job.json; must not change

    def __init__(self, config: SRVGGConfig) -> None:
        super().__init__(config)
        _make_separable(self)


class SeparableRRDB(RRDBNet):
    """An RRDBNet with separable inner convolutions."""

    fingerprint_name = "separable-rrdb"  # in job.json; must not change

    def __init__(self, config: RRDBConfig) -> None:
        super().__init__(config)
        _make_separable(self)


def _inner_convs(network: nn.Module) -> list[tuple[str, nn.Conv2d]]:
    """The 3x3 convolutions between the first and the last, by name, in order."""
    return [(name, module) for name, module in _named_modules(network) if isinstance(module, nn.Conv2d)][1:-1]


def _make_separable(network: nn.Module) -> None:
    for name, conv in _inner_convs(network):
        _set_submodule(network, name, SeparableConv(conv.in_channels, conv.out_channels))


def _named_modules(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """network.named_modules(), whose type torch annotates incompletely."""
    return cast("Iterator[tuple[str, nn.Module]]", network.named_modules())


def _set_submodule(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, module)


# ---- conversion ----


def to_dense(network: nn.Module) -> SRVGGNetCompact | RRDBNet:
    """The equivalent dense network, up to rounding (< 1e-5 in float32).

    A network that is dense already is copied. Raises ValueError for other modules.
    """
    if isinstance(network, SeparableSRVGG):
        result: SRVGGNetCompact | RRDBNet = SRVGGNetCompact(network.config)
    elif isinstance(network, SeparableRRDB):
        result = RRDBNet(network.config)
    elif isinstance(network, (SRVGGNetCompact, RRDBNet)):
        return copy.deepcopy(network)
    else:
        raise ValueError(f"{type(network).__name__} is neither an SRVGGNetCompact nor an RRDBNet")
    modules = dict(_named_modules(network))
    state = {key: value for key, value in network.state_dict().items() if key in result.state_dict()}
    for name, _ in _inner_convs(result):
        conv = modules[name]
        assert isinstance(conv, SeparableConv)
        assert conv.pointwise.bias is not None
        state[f"{name}.weight"] = _merge_kernels(conv)
        state[f"{name}.bias"] = conv.pointwise.bias.detach()
    result.load_state_dict(state)
    return result.to(next(network.parameters()).device).train(network.training)


def _merge_kernels(conv: SeparableConv) -> Tensor:
    """(out, in, 3, 3) kernel of the equivalent dense convolution.

    Borders agree too: without a depthwise bias, zero padding stays zero between the two convolutions.
    """
    pointwise, depthwise = (
        conv.pointwise.weight.detach(),
        conv.depthwise.weight.detach(),
    )  # (out, in, 1, 1), (in, 1, 3, 3)
    return (pointwise.double() * depthwise.double().transpose(0, 1)).to(pointwise.dtype)


def to_separable(network: nn.Module) -> SeparableSRVGG | SeparableRRDB:
    """The separable network nearest to a dense one, exact for a result of `to_dense`.

    The kernels of each input channel become their best rank-one approximation (Guo et al. 2018, arXiv:1808.05517),
    after which a network needs training. Raises ValueError for other modules.
    """
    if type(network) is SRVGGNetCompact:
        # The config knows the activation, which the weights alone do not tell.
        result: SeparableSRVGG | SeparableRRDB = SeparableSRVGG(network.config)
    elif type(network) is RRDBNet:
        result = SeparableRRDB(network.config)
    else:
        raise ValueError(f"{type(network).__name__} is neither an SRVGGNetCompact nor an RRDBNet")
    inner = dict(_inner_convs(network))
    state = {key: value for key, value in network.state_dict().items() if key.rpartition(".")[0] not in inner}
    for name, conv in inner.items():
        kernels = conv.weight.detach().double().flatten(2).transpose(0, 1)  # (in, out, 9)
        pointwise, singular_values, depthwise = _svd(kernels)
        # Both factors get half of the magnitude, so that training updates them at the same relative rate.
        root = singular_values[:, 0].sqrt()
        state[f"{name}.pointwise.weight"] = (pointwise[:, :, 0] * root[:, None]).T[..., None, None].float()
        state[f"{name}.depthwise.weight"] = (depthwise[:, 0] * root[:, None]).reshape(-1, 1, 3, 3).float()
        assert conv.bias is not None
        state[f"{name}.pointwise.bias"] = conv.bias.detach()
    result.load_state_dict(state)
    return result.to(next(network.parameters()).device).train(network.training)


def _svd(matrices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Reduced singular value decomposition U, S, Vh of (B, m, n)."""
    factors = torch.linalg.svd(matrices, full_matrices=False)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # untyped
    return cast("tuple[Tensor, Tensor, Tensor]", factors)


# ---- weights ----


def matches(state: StateDict) -> bool:
    """Whether these weights belong to one of the two separable networks."""
    return any(key.endswith(".depthwise.weight") for key in state) and (_is_rrdb(state) or "body.0.weight" in state)


def build(state: StateDict) -> SeparableSRVGG | SeparableRRDB:
    """Build the network of these weights (float32).

    All hyper-parameters follow from the shapes. Raises ValueError where keys or shapes do not fit together.
    """
    outline = _dense_outline(state)
    if _is_rrdb(state):
        rrdb_config = rrdb.build(outline).config
        return load_strict(lambda: SeparableRRDB(rrdb_config), state)
    srvgg_config = srvgg.build(outline).config
    return load_strict(lambda: SeparableSRVGG(srvgg_config), state)


def _is_rrdb(state: StateDict) -> bool:
    return "body.0.rdb1.conv1.pointwise.weight" in state


def _dense_outline(state: StateDict) -> StateDict:
    """The state dict of the dense network with its shapes only, on the meta device."""
    outline: dict[str, Tensor] = {}
    for key, tensor in state.items():
        name, _, kind = key.rpartition(".")
        if name.endswith(".pointwise") and kind == "weight" and tensor.ndim == 4:
            outline[f"{name.removesuffix('.pointwise')}.weight"] = torch.empty(*tensor.shape[:2], 3, 3, device="meta")
        elif name.endswith(".pointwise"):
            outline[f"{name.removesuffix('.pointwise')}.{kind}"] = tensor
        elif not name.endswith(".depthwise"):
            outline[key] = tensor
    return outline
