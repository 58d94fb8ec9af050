"""Allocate frame buffers that outlive the call in which they are made.

They are never inference tensors: the consumer of a stream may request one frame inside of inference mode and the next
one outside of it, and buffers are written to with every frame.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from ...clip import ClipError


def empty_frames(*shape: int) -> Tensor:
    """Return an uninitialized float32 tensor on the CPU.

    Raises ClipError if there is not enough memory.
    """
    try:
        with torch.inference_mode(False):
            return torch.empty(shape)
    except RuntimeError as error:  # torch has no other type for it, and the shape is valid
        raise ClipError(
            f"there is not enough memory for upscaled frames of {4 * prod(shape) / 1e9:.1f} GB at once; choose a "
            "smaller size, or close other programs"
        ) from error


def empty_like(tensor: Tensor) -> Tensor:
    """Return an uninitialized tensor like another, which may be an inference tensor."""
    with torch.inference_mode(False):
        return torch.empty_like(tensor)
