"""A pool of frame buffers, recycled when the last reference to a frame is dropped.

Buffers are mapped outside the heap. In the heap an encoder's small blocks would settle where a frame was freed, so that
the next frame needs new memory, until there are holes as large as several frames.
"""

from __future__ import annotations

import mmap
import sys
import weakref
from math import prod

import numpy as np
import torch
from torch import Tensor

from ..clip import ClipError


class BufferPool:
    """A pool of buffers of one size, that of the last request.

    It keeps at most one buffer that is not in use.
    """

    def __init__(self) -> None:
        self._block_bytes, self._free_blocks = 0, list[mmap.mmap]()

    def empty(self, *shape: int) -> Tensor:
        """Return an uninitialized float32 tensor on the CPU.

        Raises ClipError if there is not enough memory.
        """
        size = 4 * prod(shape)
        if size != self._block_bytes:
            # A new list: blocks of the old size that are in use are returned to the old one, which is dropped.
            self._block_bytes, self._free_blocks = size, []
        block = self._free_blocks.pop() if self._free_blocks else _map_block(size)
        array = np.frombuffer(block, np.float32)
        # The array lives as long as any tensor that shares its memory.
        weakref.finalize(array, _recycle, self._free_blocks, block).atexit = False
        with torch.inference_mode(False):  # see `empty_like`
            return torch.from_numpy(array).view(shape)


def empty_like(tensor: Tensor) -> Tensor:
    """Return an uninitialized tensor that is no inference tensor.

    Buffers that outlive a call must not be inference tensors. The consumer of a stream may request one frame inside of
    inference mode and the next one outside of it.
    """
    with torch.inference_mode(False):
        return torch.empty_like(tensor)


def _recycle(blocks: list[mmap.mmap], block: mmap.mmap) -> None:
    """Keep a free block for the next frame.

    If one is kept already, this one is unmapped.
    """
    if not blocks:
        blocks.append(block)


def _map_block(size: int) -> mmap.mmap:
    try:
        if sys.platform == "win32":
            return mmap.mmap(-1, size)
        # The default is shared memory, in which a forked process would write into the frames of this one.
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError) as error:
        raise ClipError(
            f"there is not enough memory for upscaled frames of {size / 1e9:.1f} GB at once; choose a smaller size, or "
            "close other programs"
        ) from error
