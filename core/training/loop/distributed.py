"""Data-parallel training with torch.distributed, started by torchrun.

Each process computes its share of every batch, and gradients are averaged before the optimizer step. There is no
DistributedDataParallel: the networks are small, and a step leaves the heads of other scales without gradients.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ...runtime.device.accelerator import accelerator_for
from ..errors import TrainingError

Value = TypeVar("Value")


@dataclass(frozen=True)
class Distributed:
    """Rank of this process. The process of rank 0 writes all files."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def all_reduce_mean(self, gradients: Iterable[Tensor]) -> None:
        """Replace each gradient by the mean over all processes.

        An inf in one of them becomes an inf in all.
        """
        if self.world_size == 1:
            return
        tensors = list(gradients)
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])  # one message instead of hundreds
        message = flat.cpu() if dist.get_backend() == dist.Backend.GLOO else flat  # gloo knows few other devices
        dist.all_reduce(message)  # pyright: ignore[reportUnknownMemberType]  # untyped
        flat.copy_(message).div_(self.world_size)
        for tensor, part in zip(tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def broadcast(self, value: Value) -> Value:
        """Return the value of rank 0 in every process."""
        if self.world_size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]


SINGLE_PROCESS = Distributed()


def read_rank() -> int:
    """Rank of this process among those of torchrun; 0 without it."""
    return int(os.environ.get("RANK", "0"))


def read_local_rank() -> int:
    """Index of this process on its machine, and thus of its GPU.

    0 without torchrun.
    """
    return int(os.environ.get("LOCAL_RANK", "0"))


def _attempt_store(world_size: int) -> dict[str, Any]:
    """Return the arguments of init_process_group for a store of this attempt.

    torchrun keeps one store for all its attempts, in which a restarted process would find the addresses of killed
    ones. Empty on several machines, which count their attempts apart, so that these are no common name.
    """
    if os.environ.get("LOCAL_WORLD_SIZE") != str(world_size):
        return {}
    library: Any = dist  # its types do not export these
    store, rank, _ = next(library.rendezvous("env://"))
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return {"store": library.PrefixStore(f"attempt_{attempt}", store), "rank": rank, "world_size": world_size}


@contextmanager
def init_distributed(batch: int, device: torch.device) -> Generator[Distributed, None, None]:
    """Join the process group of torchrun, or yield SINGLE_PROCESS without one.

    device: of this process. It becomes the current one, which collectives send objects through: otherwise all
    processes of a machine would use its first GPU.
    Raises TrainingError if the batch cannot be divided among the processes.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield SINGLE_PROCESS
        return
    if batch % count:
        raise TrainingError(f"batch {batch} cannot be divided among {count} processes; use a multiple of {count}")
    accelerator = accelerator_for(device)
    accelerator.make_current()
    is_owner = not dist.is_initialized()
    if is_owner:
        dist.init_process_group(accelerator.collective_backend, **_attempt_store(count))
    try:
        yield Distributed(dist.get_rank(), dist.get_world_size())
        if is_owner:
            dist.barrier()  # pyright: ignore[reportUnknownMemberType]  # untyped  # a process that exits first would close connections that others still use
    finally:
        if is_owner:
            dist.destroy_process_group()
