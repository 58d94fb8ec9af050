"""Whittaker smoothing with weights as a differentiable layer.

The smooth path z minimises the sum of w |z - path|^2 + penalty |z''|^2, where z'' are second differences. It is the
solution of a pentadiagonal linear system (Whittaker 1923; with weights, Eilers, A Perfect Smoother, 2003). Straight
lines are preserved for all weights, and gradients flow through the weights (Amos and Kolter, OptNet, 2017).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_PERIOD_FRAMES = 2000.0  # beyond it float64 is not precise enough, and the result looks the same


def smoothing_penalty(period: float) -> float:
    """The penalty that halves an oscillation of `period` frames at weight 1."""
    return (2 * math.sin(math.pi / min(max(period, 2.0), MAX_PERIOD_FRAMES))) ** -4


def whittaker_smooth(path: Tensor, weights: Tensor, period: float) -> Tensor:
    """Smooth path (B, n) for path (B, n) and weights (B, n) > 0, both float64."""
    n = path.shape[1]
    if n < 3:
        return path
    scaled_weights = weights / smoothing_penalty(period)
    second = path.diff(n=2, dim=1)
    # Solve for the difference from the path: for a straight line it is zero, without rounding errors.
    rhs = F.pad(second, (0, 2)) - 2 * F.pad(second, (1, 1)) + F.pad(second, (2, 0))  # D' D path
    return path - _solve_pentadiagonal(scaled_weights, rhs)


def _solve_pentadiagonal(scaled_weights: Tensor, rhs: Tensor) -> Tensor:
    """Solve (diag(scaled_weights) + D'D) x = rhs for x (B, n).

    In blocks of two frames the system is block tridiagonal.
    """
    batch, n = rhs.shape
    even = n + n % 2
    ones = torch.ones(n - 2, dtype=rhs.dtype, device=rhs.device)
    main = F.pad(ones, (0, 2)) + 4 * F.pad(ones, (1, 1)) + F.pad(ones, (2, 0))
    first_off = -2 * (F.pad(ones, (0, 1)) + F.pad(ones, (1, 0)))  # (n - 1,): frame i with i + 1
    diagonal = F.pad(scaled_weights + main, (0, even - n), value=1.0)
    first_off, second_off = F.pad(first_off, (0, even - n + 1)), F.pad(ones, (0, even - n + 2))
    zero = torch.zeros_like(first_off[::2])
    within = first_off[::2].expand(batch, -1)
    diagonal_blocks = torch.stack([diagonal[:, ::2], within, within, diagonal[:, 1::2]], dim=-1).view(batch, -1, 2, 2)
    upper_blocks = torch.stack([second_off[::2], zero, first_off[1::2], second_off[1::2]], dim=-1).view(-1, 2, 2)
    upper_blocks = upper_blocks[:-1].expand(batch, -1, -1, -1)
    rhs_blocks = F.pad(rhs, (0, even - n)).view(batch, -1, 2, 1)
    return _solve_block_tridiagonal(diagonal_blocks, upper_blocks, rhs_blocks).reshape(batch, even)[:, :n]


def _solve_block_tridiagonal(diagonal: Tensor, upper: Tensor, rhs: Tensor) -> Tensor:
    """Solve symmetric block tridiagonal systems of 2x2 blocks for x (B, m, 2, 1).

    diagonal: (B, m, 2, 2). upper: (B, m - 1, 2, 2). rhs: (B, m, 2, 1). Cyclic reduction: every other unknown is
    eliminated through its two neighbors, which halves the system.
    """
    m = diagonal.shape[1]
    if m == 1:
        return _invert_2x2(diagonal) @ rhs
    before = upper[:, 0::2]  # from each even block to the odd one after it
    after = F.pad(upper[:, 1::2], (0, 0, 0, 0, 0, 1 - m % 2))  # from each odd block to the even one after it
    inverse = _invert_2x2(diagonal[:, 1::2])
    eliminated = inverse @ torch.cat([before.mT, after, rhs[:, 1::2]], dim=-1)
    to_previous, to_next, constant = eliminated[..., :2], eliminated[..., 2:4], eliminated[..., 4:]
    even_diagonal, odd_count = diagonal[:, 0::2], m // 2
    even_count = even_diagonal.shape[1]
    # An even block is coupled to the odd one after it through `before` and to the odd one before it through `after`.
    correction = _pad_blocks(before @ to_previous, even_count, 0) + _pad_blocks(after.mT @ to_next, even_count, 1)
    shift = _pad_blocks(before @ constant, even_count, 0) + _pad_blocks(after.mT @ constant, even_count, 1)
    coupling = -(before @ to_next)[:, : even_count - 1]
    x_even = _solve_block_tridiagonal(even_diagonal - correction, coupling, rhs[:, 0::2] - shift)
    x_next = F.pad(x_even[:, 1:], (0, 0, 0, 0, 0, 1))[:, :odd_count]
    x_odd = constant - to_previous @ x_even[:, :odd_count] - to_next @ x_next
    interleaved = torch.stack([x_even[:, :odd_count], x_odd], dim=1).transpose(1, 2).flatten(1, 2)
    return torch.cat([interleaved, x_even[:, odd_count:]], dim=1)


def _pad_blocks(blocks: Tensor, length: int, offset: int) -> Tensor:
    """Place the blocks at index `offset` among `length` blocks, others zero."""
    blocks = blocks[:, : length - offset]
    return F.pad(blocks, (0, 0, 0, 0, offset, length - offset - blocks.shape[1]))


def _invert_2x2(blocks: Tensor) -> Tensor:
    """Inverse of symmetric positive definite 2x2 blocks."""
    a, b, d = blocks[..., 0, 0], blocks[..., 0, 1], blocks[..., 1, 1]
    return torch.stack([d, -b, -b, a], dim=-1).view(blocks.shape) / (a * d - b * b)[..., None, None]
