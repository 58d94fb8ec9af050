"""A network compiled by torch for the shapes it is shown: an option, which falls back to plain torch where it fails."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from .precision import find_module

log = logging.getLogger(__name__)

# For each distinct shape: tiles have few. On a card one recorded graph a shape replaces hundreds of launches.
CUDA_OPTIONS: dict[str, Any] = {"mode": "reduce-overhead", "dynamic": False}
CPU_OPTIONS: dict[str, Any] = {"dynamic": False}


@contextmanager
def torch_compiled(model: object, device: torch.device) -> Iterator[None]:
    """While it lasts, the torch module in a model runs compiled (`torch.compile`); results differ by rounding.

    The first frame of each shape waits for the compiler, for seconds to minutes: it pays for long clips. Where nothing
    can be compiled (no compiler, no Triton, code that it does not follow) a warning says so and torch runs as ever.
    """
    module = find_module(model)
    if module is None:
        log.warning("%s holds no torch module, so there is nothing to compile", type(model).__name__)
        yield
        return
    from torch._dynamo.exc import TorchDynamoException  # it takes seconds to import

    plain, options = module.forward, CUDA_OPTIONS if device.type == "cuda" else CPU_OPTIONS
    faster = torch.compile(plain, **options)

    def forward(*args: object, **kwargs: object) -> object:
        if not broken:
            try:
                return faster(*args, **kwargs)
            except TorchDynamoException as error:
                broken.append(error)
                log.warning("compiling failed, going on without: %s", str(error).strip().split("\n")[0])
        return plain(*args, **kwargs)

    broken: list[TorchDynamoException] = []
    with _patched_forward(module, forward):
        yield


class _ForwardPatch:
    """What an attribute of a module hides. streams: that want it hidden."""

    def __init__(self, module: nn.Module) -> None:
        self.refcount, self.original = 0, module.__dict__.get("forward")


_patches: WeakKeyDictionary[nn.Module, _ForwardPatch] = WeakKeyDictionary()


@contextmanager
def _patched_forward(module: nn.Module, forward: object) -> Iterator[None]:
    """An attribute of the instance hides the method of its class, and leaves no trace when the last stream ends."""
    shadow = _patches.get(module) or _ForwardPatch(module)
    shadow.refcount += 1
    _patches[module] = shadow
    if shadow.refcount == 1:
        object.__setattr__(module, "forward", forward)
    try:
        yield
    finally:
        shadow.refcount -= 1
        if not shadow.refcount:
            _patches.pop(module, None)
            if shadow.original is None:
                object.__delattr__(module, "forward")
            else:
                object.__setattr__(module, "forward", shadow.original)
