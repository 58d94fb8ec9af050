"""Memory for large frames, used again as soon as nobody holds the frame that lies in it.

Frames of one size come and go in a heap in which an encoder settles meanwhile: what it takes of the place of one frame
makes the next one settle elsewhere, until there are holes as large as several frames. So they lie beside the heap.
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
    """Blocks for as many frames as are alive at once, all of the size of the one that was asked for last, and one more
    at most.
    """

    def __init__(self) -> None:
        self._block_bytes, self._free_blocks = 0, list[mmap.mmap]()

    def empty(self, *shape: int) -> Tensor:
        """A tensor of that shape, float32, with whatever values. Raises ClipError where memory is not enough."""
        size = 4 * prod(shape)
        if size != self._block_bytes:
            self._block_bytes, self._free_blocks = (
                size,
                [],
            )  # Blocks that are in use still go to the list that is dropped here.
        block = self._free_blocks.pop() if self._free_blocks else _map_block(size)
        numbers = np.frombuffer(block, np.float32)
        # torch keeps `numbers` for as long as any tensor lies in it.
        weakref.finalize(numbers, _recycle, self._free_blocks, block).atexit = False
        with torch.inference_mode(False):  # as below
            return torch.from_numpy(numbers).view(shape)


def empty_like(tensor: Tensor) -> Tensor:
    """Memory that can be written to with every frame of a stream: who pulls the next one may not be in the inference
    mode in which this one was pulled.
    """
    with torch.inference_mode(False):
        return torch.empty_like(tensor)


def _recycle(blocks: list[mmap.mmap], block: mmap.mmap) -> None:
    """Put a block among those that wait for a frame; where one waits already, it goes back to the system."""
    if not blocks:
        blocks.append(block)


def _map_block(size: int) -> mmap.mmap:
    try:
        if sys.platform == "win32":
            return mmap.mmap(-1, size)
        # Shared is the default, and a process that is forked off would write into the frames of this one.
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError) as error:
        raise ClipError(
            f"memory is not enough for enlarged frames of {size / 1e9:.1f} GB at once; choose a smaller size, or close "
            "other programs"
        ) from error
