"""Whether two results of a network are the same up to rounding."""

from __future__ import annotations

import torch
from torch import Tensor

# Largest difference in float32, relative to the largest value but at least 1. Rounding gives 1e-6 to 1e-4.
MAX_DIFFERENCE = 1e-3
# The same for float16: the share of values within one step of an 8-bit image, and the limit for all.
HALF_STEP, MIN_SHARE_WITHIN_STEP, MAX_HALF_DIFFERENCE = 1 / 255, 0.998, 8 / 255


def find_difference(result: Tensor, expected: Tensor, dtype: torch.dtype) -> str | None:
    """Describe how a result differs from the expected one; None if it does not.

    dtype: in which the result was computed.
    """
    if result.shape != expected.shape:
        return f"its result is {tuple(result.shape)} instead of {tuple(expected.shape)}"
    error = (result.float() - expected.float()).abs() / max(1.0, float(expected.abs().max()))
    largest = float(error.max())
    if dtype is torch.float32:
        is_right = largest <= MAX_DIFFERENCE
    else:
        share = float((error <= HALF_STEP).float().mean())
        is_right = share >= MIN_SHARE_WITHIN_STEP and largest <= MAX_HALF_DIFFERENCE
    return None if is_right else f"it differs from torch by {largest:.1e}"  # NaN is not right
