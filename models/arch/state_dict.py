"""Put a state dict into a network exactly, or say where the two differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor, nn

StateDict: TypeAlias = Mapping[str, Tensor]
Network = TypeVar("Network", bound=nn.Module)

MAX_LISTED_DIFFERENCES = 5  # differences named in one message: enough to see the pattern, few enough to read


def load_strict(make_network: Callable[[], Network], state: StateDict) -> Network:
    """The network of `make()` holding the very tensors of `state`, which must fit one to one.

    The network is made without memory of its own, so sizes that a file merely claims cannot make us allocate.
    Raises ValueError with the first few keys that differ.
    """
    with torch.device("meta"):
        network = make_network()
    wanted = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    given = {key: tuple(tensor.shape) for key, tensor in state.items()}
    differences = [f"{key} is missing" for key in wanted if key not in given]
    differences += [f"{key[:80]} is not part of it" for key in given if key not in wanted]
    differences += [
        f"{key} is {given[key]} instead of {shape}" for key, shape in wanted.items() if given.get(key, shape) != shape
    ]
    differences += [
        f"{key} holds {state[key].dtype}" for key in wanted if key in given and not state[key].is_floating_point()
    ]
    if differences:
        more = (
            f" and {len(differences) - MAX_LISTED_DIFFERENCES} more"
            if len(differences) > MAX_LISTED_DIFFERENCES
            else ""
        )
        raise ValueError(
            f"it is nearly {type(network).__name__}, but {', '.join(differences[:MAX_LISTED_DIFFERENCES])}{more}"
        )
    network.load_state_dict(state, assign=True)
    return network


def count_keys(state: StateDict, template: str, start: int = 0, step: int = 1) -> int:
    """How many of the keys template.format(start), template.format(start + step), ... follow one another in `state`."""
    count = 0
    while template.format(start + count * step) in state:
        count += 1
    return count
