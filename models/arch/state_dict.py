"""Strict loading of a state dict, with an error that names the differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor, nn

StateDict: TypeAlias = Mapping[str, Tensor]
Network = TypeVar("Network", bound=nn.Module)

MAX_LISTED_DIFFERENCES = 5  # in one message: enough to see the pattern, few enough to read


def load_strict(make_network: Callable[[], Network], state: StateDict) -> Network:
    """The network of `make_network()` with exactly the tensors of `state`.

    The network is created on the meta device and takes over the tensors, so sizes that a file merely claims allocate
    nothing. Raises ValueError with the first few keys that differ.
    """
    with torch.device("meta"):
        network = make_network()
    expected = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    actual = {key: tuple(tensor.shape) for key, tensor in state.items()}
    differences = [f"{key} is missing" for key in expected if key not in actual]
    differences += [f"{key[:80]} is not part of it" for key in actual if key not in expected]
    differences += [
        f"{key} is {actual[key]} instead of {shape}"
        for key, shape in expected.items()
        if actual.get(key, shape) != shape
    ]
    differences += [
        f"{key} holds {state[key].dtype}" for key in expected if key in actual and not state[key].is_floating_point()
    ]
    if differences:
        listed, unlisted = differences[:MAX_LISTED_DIFFERENCES], len(differences) - MAX_LISTED_DIFFERENCES
        more = f" and {unlisted} more" if unlisted > 0 else ""
        raise ValueError(f"it is nearly {type(network).__name__}, but {', '.join(listed)}{more}")
    network.load_state_dict(state, assign=True)
    return network


def count_keys(state: StateDict, template: str, start: int = 0, step: int = 1) -> int:
    """Count consecutive keys: template.format(start), format(start + step), ..."""
    count = 0
    while template.format(start + count * step) in state:
        count += 1
    return count


def infer_scale_and_channels(last_channels: int, in_channels: int) -> tuple[int, int]:
    """Factor the last convolution's channels into scale^2 * image channels.

    The input's channels are tried first.
    """
    for channels in (in_channels, 3, 4, 1):
        scale = math.isqrt(last_channels // channels)
        if scale > 0 and scale**2 * channels == last_channels:
            return scale, channels
    raise ValueError(f"its last convolution has {last_channels} channels, which is not 1, 3 or 4 times a square number")
