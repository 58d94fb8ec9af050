"""Replicas of a network for a device and a dtype.

The caller's module is never modified.

A replica is a copy of the module tree in evaluation mode whose parameters and buffers are converted. It is made once
for each module, device and dtype, shared by the streams that run at the same time, and released with the last of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from ...runtime.device.accelerator import accelerator_for
from .model_traits import find_module, model_device
from .rebind import Rebinder
from .torch_compile import compile_forward

_Convert: TypeAlias = Callable[[Tensor, torch.device, torch.dtype], Tensor]


class _ReplicaKey(NamedTuple):
    module: nn.Module
    device: torch.device
    dtype: torch.dtype
    is_compiled: bool
    weights: tuple[tuple[int, int], ...]  # address and version of each: changed weights are another network


@dataclass
class _Entry:
    replica: nn.Module
    users: int = 0


_entries: dict[_ReplicaKey, _Entry] = {}
_lock = threading.RLock()  # The garbage collector may close an abandoned stream at any time, here as well.


@contextmanager
def replica_of(
    model: Callable[..., Tensor], device: torch.device, dtype: torch.dtype, *, compiled: bool = False
) -> Generator[Callable[..., Tensor], None, None]:
    """Yield the model with its weights on a device and in a dtype.

    It is in evaluation mode, and lives for the length of a `with` block.

    Wrappers around the module are copied, so that they call the replica; what does not refer to the module is shared.
    A model that fits already is used as it is. A model without a torch module is moved by its own `.to(device)`, if it
    has one, and moved back at the end. compiled: run the module through `torch.compile`.
    """
    module = find_module(model)
    if module is None:
        with _moved(model, device):
            yield model
        return
    device = _with_index(device)
    if not compiled and _fits(module, device, dtype):
        yield model
        return
    key = _ReplicaKey(module, device, dtype, compiled, weight_versions(module))
    replica = _acquire(key)
    try:
        yield Rebinder({id(module): replica}).rebind(model)
    finally:
        del replica
        _release(key)


@contextmanager
def _moved(model: Any, device: torch.device) -> Generator[None, None, None]:
    home = model_device(model)
    if home == device or not hasattr(model, "to"):
        yield
        return
    try:
        model.to(device)
        yield
    finally:
        model.to(home)


def _with_index(device: torch.device) -> torch.device:
    """The device as tensors report it: `cuda:0` for `cuda`."""
    return torch.empty(0, device=device).device


def _fits(module: nn.Module, device: torch.device, dtype: torch.dtype) -> bool:
    if any(part.training for part in module.modules()):
        return False
    return all(_has_format(tensor, device, dtype) for tensor in _tensors(module))


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    return chain(module.parameters(), module.buffers())


def weight_versions(module: nn.Module) -> tuple[tuple[int, int], ...]:
    """Address and version of all weights; inference tensors do not count versions."""
    return tuple((t.data_ptr(), 0 if t.is_inference() else t._version) for t in _tensors(module))


def _acquire(key: _ReplicaKey) -> nn.Module:
    with _lock:
        entry = _entries.get(key)
        if entry is None:
            entry = _Entry(_replicate(key.module, key.device, key.dtype))
            if key.is_compiled:
                compile_forward(entry.replica)
            _entries[key] = entry
        entry.users += 1
        return entry.replica


def _release(key: _ReplicaKey) -> None:
    with _lock:
        entry = _entries[key]
        entry.users -= 1
        if entry.users == 0:
            del _entries[key]
            # Modules that refer to themselves would keep the device's memory until the garbage collector runs.
            for part in entry.replica.modules():
                vars(part).pop("forward", None)
                vars(part).update(_parameters={}, _buffers={})


def frozen_copy(module: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Copy a module in evaluation mode, with weights of its own.

    They need no gradients. Unlike those of the original they are never inference tensors, which tracers do not accept.
    """
    return _replicate(module, device, dtype, _clone)


# Outside of inference mode, so that what is made here may be used inside and outside of it.
@torch.inference_mode(False)
@torch.no_grad()
def _replicate(
    module: nn.Module, device: torch.device, dtype: torch.dtype, convert: _Convert | None = None
) -> nn.Module:
    """Copy a module in evaluation mode.

    convert: makes the tensors of the copy. By default tensors that fit already are shared, like all other attributes.
    """
    convert = convert or _convert
    replaced: dict[int, Any] = {id(tensor): convert(tensor, device, dtype) for tensor in _tensors(module)}
    copies = list[tuple[nn.Module, nn.Module]]()
    _add_empty_copies(module, device, dtype, replaced, copies)
    rebinder = Rebinder(replaced)
    for original, copy in copies:
        for name, value in vars(original).items():
            rebound = rebinder.rebind(value)
            # What the copy assigns to its buffers and submodules must not reach the original.
            is_registry = rebound is value and name in ("_parameters", "_buffers", "_modules")
            copy.__dict__[name] = value.copy() if is_registry else rebound
        copy.__dict__["training"] = False
    return replaced[id(module)]


def _add_empty_copies(
    module: nn.Module,
    device: torch.device,
    dtype: torch.dtype,
    replaced: dict[int, Any],
    copies: list[tuple[nn.Module, nn.Module]],
) -> None:
    """Register an empty copy of a module and of all below it.

    After that, references among them can be exchanged.
    """
    if id(module) in replaced:
        return
    if isinstance(module, torch.jit.ScriptModule):  # Its state is not in Python.
        replaced[id(module)] = deepcopy(module).to(device, dtype).eval()
        return
    plain = dict(module.named_children()).get("_orig_mod")
    if plain is not None:  # A module of torch.compile, whose closure calls the original.
        _add_empty_copies(plain, device, dtype, replaced, copies)
        replaced[id(module)] = replaced[id(plain)]
        return
    replaced[id(module)] = module.__class__.__new__(module.__class__)
    copies.append((module, replaced[id(module)]))
    for child in module.children():
        _add_empty_copies(child, device, dtype, replaced, copies)


def _convert(tensor: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the tensor, or its copy on the device.

    Only floating-point tensors change their dtype.
    """
    if _has_format(tensor, device, dtype):
        return tensor
    wanted = dtype if tensor.is_floating_point() else tensor.dtype
    # cuDNN is faster with weights in channels_last.
    is_nhwc = tensor.ndim == 4 and accelerator_for(device).channels_last
    layout = torch.channels_last if is_nhwc else torch.preserve_format
    converted = tensor.detach().to(device, wanted, memory_format=layout)
    return nn.Parameter(converted, requires_grad=False) if isinstance(tensor, nn.Parameter) else converted


def _clone(tensor: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    cloned = tensor.detach().to(device, dtype if tensor.is_floating_point() else tensor.dtype, copy=True)
    return nn.Parameter(cloned, requires_grad=False) if isinstance(tensor, nn.Parameter) else cloned


def _has_format(tensor: Tensor, device: torch.device, dtype: torch.dtype) -> bool:
    return tensor.device == device and (tensor.dtype == dtype or not tensor.is_floating_point())
