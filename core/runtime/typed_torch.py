"""Functions of PyTorch that it annotates incompletely, with complete types.

Each does the same as the function or method that it calls.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from numpy.typing import NDArray
from torch import Tensor, nn


def from_numpy(array: NDArray[Any]) -> Tensor:
    """A tensor that shares the memory of an array."""
    return torch.from_numpy(array)  # pyright: ignore[reportUnknownMemberType]  # the parameter has no type


def norm(tensor: Tensor, dim: int, keepdim: bool = False) -> Tensor:
    """Euclidean norm along a dimension."""
    return tensor.norm(dim=dim, keepdim=keepdim)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # nor have these


def unflatten(tensor: Tensor, dim: int, sizes: tuple[int, ...]) -> Tensor:
    """A view whose dimension `dim` is split into several."""
    return tensor.unflatten(dim, sizes)  # pyright: ignore[reportUnknownMemberType]  # the parameters have no types


def to_list(tensor: Tensor) -> list[Any]:
    """Numbers, or lists of them, of a tensor with one or more dimensions."""
    return tensor.tolist()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # items have no type


def solve(matrix: Tensor, right: Tensor) -> Tensor:
    """The solution x of matrix @ x = right."""
    return torch.linalg.solve(matrix, right)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # untyped


def bessel_j1(x: Tensor) -> Tensor:
    """Bessel function of the first kind of order 1."""
    return torch.special.bessel_j1(x)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # untyped


def rfft2(image: Tensor, norm: str) -> Tensor:
    """Spectrum (..., H, W // 2 + 1) of real images (..., H, W)."""
    return torch.fft.rfft2(image, norm=norm)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # untyped


def named_modules(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """All modules of a network with their dotted names; its own is empty."""
    return cast("Iterator[tuple[str, nn.Module]]", network.named_modules())


@contextmanager
def seeded_rng(seed: int) -> Generator[None, None, None]:
    """Seed the generators of the CPU, and restore the CPU's when the block ends."""
    with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]  # the devices have no type
        torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType]  # the parameter has no type
        yield
