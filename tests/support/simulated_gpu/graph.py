"""Captured graphs with the interface of `torch.cuda.CUDAGraph`.

As on a GPU, a replay computes from what is in the memory of the capture, and overwrites the results of the last one.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_CALLS_THAT_WAIT = tuple(getattr(torch.ops.aten, name) for name in ("item", "_local_scalar_dense", "nonzero", "equal"))


class CapturedGraph(TorchDispatchMode):
    """Records the operators of a `with` block, and computes them again in `replay`.

    All intermediate results stay allocated. Raises RuntimeError where the block waits for the device or transfers.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        super().__init__()
        self._library = library
        self._calls: list[tuple[Any, Sequence[Any], dict[str, Any], list[Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket in _CALLS_THAT_WAIT:
            raise RuntimeError(f"{func} is not permitted when stream is capturing")
        results = func(*args, **kwargs)
        inputs, outputs = _tensors((args, kwargs)), _tensors(results)
        if any(tensor.device.type == "cpu" for tensor in inputs + outputs):
            raise RuntimeError(f"{func} on the CPU is not permitted when stream is capturing")
        memory = {tensor.untyped_storage().data_ptr() for tensor in inputs}
        fresh = [tensor for tensor in outputs if tensor.untyped_storage().data_ptr() not in memory]
        if fresh or func._schema.is_mutable:  # A view needs no work.
            self._calls.append((func, args, kwargs, fresh))
        return results

    def replay(self) -> None:
        self._library.simulated_gpu_begin_replay()
        try:
            with torch.inference_mode():
                for func, args, kwargs, outputs in self._calls:
                    results = _tensors(func(*args, **kwargs))
                    for output, result in zip(outputs, results if outputs else (), strict=True):
                        output.copy_(result)
        finally:
            self._library.simulated_gpu_end_replay()


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]
