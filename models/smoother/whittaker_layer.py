"""Weighted smoothing with a straight answer: the last layer of the network that smooths camera paths.

The path z with the least sum of w |z - path|^2 + softness^-1 |z''|^2, z'' being second differences, is a linear
system with five diagonals (Whittaker 1923; with weights, Eilers, A Perfect Smoother, 2003). Straight lines stay
straight whatever the weights are, and gradients flow through the weights (Amos and Kolter, OptNet, 2017).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_PERIOD_FRAMES = 2000.0  # period in frames beyond which float64 runs out of digits and nothing looks slower any more


def smoothing_penalty(period: float) -> float:
    """What second differences count for: at weight 1, half is left of a swing that takes `period` frames."""
    return (2 * math.sin(math.pi / min(max(period, 2.0), MAX_PERIOD_FRAMES))) ** -4


def whittaker_smooth(path: Tensor, weights: Tensor, period: float) -> Tensor:
    """path (B, n), weights (B, n) above 0, both float64 -> the smooth path (B, n)."""
    n = path.shape[1]
    if n < 3:
        return path
    soft = weights / smoothing_penalty(period)
    second = path.diff(n=2, dim=1)
    # Solved for what is taken away, which is nought for a straight line whatever the digits are.
    pull = F.pad(second, (0, 2)) - 2 * F.pad(second, (1, 1)) + F.pad(second, (2, 0))  # D' D path
    return path - _solve_pentadiagonal(soft, pull)


def _solve_pentadiagonal(scaled_weights: Tensor, rhs: Tensor) -> Tensor:
    """x (B, n) with (diag(soft) + D'D) x = right: two frames together know only the two before and the two after."""
    batch, n = rhs.shape
    even = n + n % 2
    ones = torch.ones(n - 2, dtype=rhs.dtype, device=rhs.device)
    main = F.pad(ones, (0, 2)) + 4 * F.pad(ones, (1, 1)) + F.pad(ones, (2, 0))
    beside = -2 * (F.pad(ones, (0, 1)) + F.pad(ones, (1, 0)))  # (n - 1,): frame i with i + 1
    diagonal = F.pad(scaled_weights + main, (0, even - n), value=1.0)
    beside, next_but_one = F.pad(beside, (0, even - n + 1)), F.pad(ones, (0, even - n + 2))
    zero = torch.zeros_like(beside[::2])
    inner = torch.stack(
        [diagonal[:, ::2], beside[::2].expand(batch, -1), beside[::2].expand(batch, -1), diagonal[:, 1::2]], dim=-1
    ).view(batch, -1, 2, 2)
    upper = torch.stack([next_but_one[::2], zero, beside[1::2], next_but_one[1::2]], dim=-1).view(-1, 2, 2)
    upper = upper[:-1].expand(batch, -1, -1, -1)
    return _solve_block_tridiagonal(inner, upper, F.pad(rhs, (0, even - n)).view(batch, -1, 2, 1)).reshape(batch, even)[
        :, :n
    ]


def _solve_block_tridiagonal(diagonal: Tensor, upper: Tensor, rhs: Tensor) -> Tensor:
    """x (B, m, 2, 1) of symmetric systems of 2x2 blocks: diagonal (B, m, 2, 2), upper (B, m - 1, 2, 2).

    Cyclic reduction: every other unknown is expressed by its two neighbours, which leaves half as large a system.
    """
    m = diagonal.shape[1]
    if m == 1:
        return _invert_2x2(diagonal) @ rhs
    before = upper[:, 0::2]  # from each even block to the odd one after it
    after = F.pad(upper[:, 1::2], (0, 0, 0, 0, 0, 1 - m % 2))  # from each odd block to the even one after it
    inverse = _invert_2x2(diagonal[:, 1::2])
    parts = inverse @ torch.cat([before.mT, after, rhs[:, 1::2]], dim=-1)
    left, further, known = parts[..., :2], parts[..., 2:4], parts[..., 4:]
    evens, odds = diagonal[:, 0::2], m // 2
    # An even block meets the odd one after it through `before` and the odd one before it through `after`.
    less = _pad_blocks(before @ left, evens.shape[1], 0) + _pad_blocks(after.mT @ further, evens.shape[1], 1)
    shift = _pad_blocks(before @ known, evens.shape[1], 0) + _pad_blocks(after.mT @ known, evens.shape[1], 1)
    coupled = -(before @ further)[:, : evens.shape[1] - 1]
    x_even = _solve_block_tridiagonal(evens - less, coupled, rhs[:, 0::2] - shift)
    following = F.pad(x_even[:, 1:], (0, 0, 0, 0, 0, 1))[:, :odds]
    x_odd = known - left @ x_even[:, :odds] - further @ following
    both = torch.stack([x_even[:, :odds], x_odd], dim=1).transpose(1, 2).flatten(1, 2)
    return torch.cat([both, x_even[:, odds:]], dim=1)


def _pad_blocks(blocks: Tensor, length: int, offset: int) -> Tensor:
    """The blocks from place `offset` on among `length`, the others nought."""
    blocks = blocks[:, : length - offset]
    return F.pad(blocks, (0, 0, 0, 0, offset, length - offset - blocks.shape[1]))


def _invert_2x2(blocks: Tensor) -> Tensor:
    """Of 2x2 blocks, symmetric and positive."""
    a, b, d = blocks[..., 0, 0], blocks[..., 0, 1], blocks[..., 1, 1]
    return torch.stack([d, -b, -b, a], dim=-1).view(blocks.shape) / (a * d - b * b)[..., None, None]
