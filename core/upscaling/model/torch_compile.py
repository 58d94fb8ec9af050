"""Network compilation by torch.compile.

Where it fails, the network runs in plain torch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ...runtime.device.out_of_memory import is_out_of_memory

log = logging.getLogger(__name__)

# One graph for each distinct shape: tiles have few. The mode "reduce-overhead" would record CUDA graphs, whose results
# are overwritten at the next call, which need memory pools that cudaMallocAsync (ComfyUI's default) does not have, and
# which fail in a second thread.
OPTIONS: dict[str, Any] = {"dynamic": False}


def compile_forward(module: nn.Module) -> None:
    """Let a module compute `forward` through `torch.compile`, in place.

    Results differ by rounding.

    The first call for each shape waits for the compiler, for seconds to minutes. Where the module cannot be compiled
    (no compiler, no Triton, unsupported code) or its compiled form fails, a warning is logged and the plain `forward`
    runs.
    """
    plain = module.forward
    compiled: Callable[..., object] = torch.compile(plain, **OPTIONS)  # pyright: ignore[reportUnknownMemberType]  # parts have no type
    has_failed = False

    def forward(*args: object, **kwargs: object) -> object:
        nonlocal has_failed
        if not has_failed:
            try:
                return compiled(*args, **kwargs)
            except Exception as error:  # Compilers and graphs raise errors of any type; `forward` repeats its own.
                if is_out_of_memory(error):
                    raise
                has_failed = True
                reason = str(error).strip().split("\n")[0]
                log.warning("torch.compile failed, the network runs without it: %s", reason)
        return plain(*args, **kwargs)

    # An attribute of the instance hides the method of its class.
    object.__setattr__(module, "forward", forward)
