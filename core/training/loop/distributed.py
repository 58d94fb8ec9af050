"""Several processes that train one network: started by torchrun, on one machine or many.

Each takes its share of every batch, and gradients are averaged before anybody moves. That is all there is to it: the
networks are small, so no wrapper is needed around them, and heads that a step does not use cost nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import TrainingError

Value = TypeVar("Value")


@dataclass(frozen=True)
class Distributed:
    """Which of the processes this one is. The first of them writes."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0  # its number on its machine, which is that of its GPU

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def all_reduce_mean(self, gradients: Iterable[Tensor]) -> None:
        """Put the mean over all processes in place of each gradient; an inf anywhere becomes one everywhere."""
        if self.world_size == 1:
            return
        tensors = list(gradients)
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])  # one message, not hundreds
        dist.all_reduce(flat)
        flat /= self.world_size
        for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def broadcast(self, value: Value) -> Value:
        """The first process's value, for all; the others wait for it."""
        if self.world_size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]


SINGLE_PROCESS = Distributed()


@contextmanager
def init_distributed(batch: int, *, gpu: bool) -> Iterator[Distributed]:
    """The processes that torchrun has started, or this one alone. batch: must be theirs to share."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield SINGLE_PROCESS
        return
    if batch % count:
        raise TrainingError(f"batch {batch} cannot be shared by {count} processes; make it a multiple")
    begun_here = not dist.is_initialized()
    if begun_here:
        dist.init_process_group("nccl" if gpu else "gloo")
    try:
        yield Distributed(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", "0")))
        if begun_here:
            dist.barrier()  # Who leaves first closes what the others still talk through.
    finally:
        if begun_here:
            dist.destroy_process_group()
