"""A function on a device, captured once and replayed with one launch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .accelerator import Accelerator


class CapturedGraph:
    """A function of one tensor, for one shape.

    function: must have run with a tensor of that shape before, so that nothing is compiled or chosen any more. The
    graph owns the memory of the captured work, and reads its other inputs, such as weights, at each replay. Raises
    RuntimeError where the function waits for the device, and if memory runs out.

    Every call copies its input into the graph's memory and the result out of it: the next call overwrites both.
    """

    def __init__(self, accelerator: Accelerator, function: Callable[[Tensor], Tensor], sample: Tensor) -> None:
        self._accelerator = accelerator
        with torch.inference_mode(False), torch.no_grad():
            self._input = torch.empty_like(sample).copy_(sample)
        results: list[Tensor] = []
        with accelerator.as_current():
            self._graph = accelerator.capture_graph(lambda: results.append(function(self._input)))
        (self._result,) = results

    def __call__(self, value: Tensor) -> Tensor:
        if value.shape != self._input.shape or value.dtype is not self._input.dtype:
            raise ValueError(
                f"the graph was captured for {self._input.dtype} {tuple(self._input.shape)}, and got {value.dtype} "
                f"{tuple(value.shape)}; capture another one"
            )
        self._input.copy_(value)
        with self._accelerator.as_current():
            self._graph.replay()
        return self._result.clone()
