"""Network compilation by torch.compile.

Where it fails, the network runs in plain torch.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import nn

log = logging.getLogger(__name__)

# One graph for each distinct shape: tiles have few. On CUDA a recorded graph replaces hundreds of kernel launches.
CUDA_OPTIONS: dict[str, Any] = {"mode": "reduce-overhead", "dynamic": False}
CPU_OPTIONS: dict[str, Any] = {"dynamic": False}


def compile_forward(module: nn.Module, device: torch.device) -> None:
    """Let a module compute `forward` through `torch.compile`, in place.

    Results differ by rounding.

    The first call for each shape waits for the compiler, for seconds to minutes. Where the module cannot be compiled
    (no compiler, no Triton, unsupported code), a warning is logged and the plain `forward` runs.
    """
    from torch._dynamo.exc import TorchDynamoException  # it takes seconds to import

    plain, options = module.forward, CUDA_OPTIONS if device.type == "cuda" else CPU_OPTIONS
    compiled = torch.compile(plain, **options)
    has_failed = False

    def forward(*args: object, **kwargs: object) -> object:
        nonlocal has_failed
        if not has_failed:
            try:
                return compiled(*args, **kwargs)
            except TorchDynamoException as error:
                has_failed = True
                reason = str(error).strip().split("\n")[0]
                log.warning("torch.compile failed, the network runs without it: %s", reason)
        return plain(*args, **kwargs)

    # An attribute of the instance hides the method of its class.
    object.__setattr__(module, "forward", forward)
