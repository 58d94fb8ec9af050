"""The compiled engine seen from Python: its structure, its memory, its calls."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

ABI_VERSION = 6  # must equal that of winograd/op.h
PAGE_BYTES = 4096  # bytes
FLOAT_BYTES = 4  # bytes
OUTPUT_TILE = 6  # side of a block of results
TILE_POINTS = 64  # of a transformed patch
PACK, CONV, INPUT_CONV, OUTPUT_CONV = range(4)

_pointer = ctypes.c_void_p
_int32 = ctypes.c_int32
_int64 = ctypes.c_int64


class Op(ctypes.Structure):
    """One step; winograd/op.h says what the fields mean. Whoever makes an Op keeps what it points to alive."""

    _fields_ = (
        ("in_", _pointer),
        ("out", _pointer),
        ("add1", _pointer),
        ("add2", _pointer),
        ("weights", _pointer),
        ("bias", _pointer),
        ("slope", _pointer),
        ("row", _int64),
        ("colour", _int64),
        ("scale1", ctypes.c_float),
        ("scale2", ctypes.c_float),
        ("kind", _int32),
        ("channels", _int32),
        ("in_planes", _int32),
        ("out_planes", _int32),
        ("height", _int32),
        ("width", _int32),
        ("held", _int32),
        ("in_row", _int32),
        ("out_row", _int32),
        ("out_column", _int32),
        ("first", _int32),
        ("last", _int32),
        ("left", _int32),
        ("right", _int32),
        ("up", _int32),
        ("shuffle", _int32),
        ("out_channels", _int32),
        ("clamped", _int32),
    )


class NativeLibrary:
    """A loaded library. vector: channels in a plane. widest: planes that one pass of its matrix product makes.

    Raises OSError for a file that is no library or belongs to another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._cdll = ctypes.CDLL(str(path))
        if self._cdll.steadyscale_abi() != ABI_VERSION or self._cdll.steadyscale_op_bytes() != ctypes.sizeof(Op):
            raise OSError(f"{path} was built for another version of SteadyScale")
        self.vector_width: int = self._cdll.steadyscale_vector()
        self.max_planes_per_pass: int = self._cdll.steadyscale_widest()
        self._cdll.steadyscale_scratch.restype = ctypes.c_size_t
        self._cdll.steadyscale_scratch.argtypes = (ctypes.c_int, ctypes.c_int)
        self._cdll.steadyscale_scratch_first.restype = ctypes.c_size_t
        self._cdll.steadyscale_scratch_first.argtypes = (ctypes.c_int, ctypes.c_int)
        self._cdll.steadyscale_allocate.restype = _pointer
        self._cdll.steadyscale_allocate.argtypes = (ctypes.c_size_t,)
        self._cdll.steadyscale_free.argtypes = (_pointer, ctypes.c_size_t)
        self._cdll.steadyscale_filters.argtypes = (
            _pointer,
            *[ctypes.c_int] * 2,
            _pointer,
            *[ctypes.c_int] * 2,
            _pointer,
        )
        self._cdll.steadyscale_run.argtypes = (_pointer, ctypes.c_int, ctypes.c_int, _pointer, ctypes.c_size_t)

    def plane_count(self, channels: int) -> int:
        """How many planes hold so many channels."""
        return -(-channels // self.vector_width)

    def scratch_floats(self, in_planes: int, out_planes: int) -> int:
        """Floats of scratch memory that a thread needs for a convolution of planes."""
        return self._cdll.steadyscale_scratch(in_planes, out_planes)

    def input_scratch_floats(self, channels: int, width: int) -> int:
        """The same for one of a picture's few channels."""
        return self._cdll.steadyscale_scratch_first(channels, width)

    def allocate(self, size: int) -> MemoryBlock:
        """Zeroed memory of `size` bytes, freed with the object. Raises MemoryError."""
        size = -(-size // PAGE_BYTES) * PAGE_BYTES
        address = self._cdll.steadyscale_allocate(size)
        if not address:
            raise MemoryError(f"not enough memory for {size} bytes")
        memory = MemoryBlock(address, size)
        weakref.finalize(memory, self._cdll.steadyscale_free, address, size)
        return memory

    def transform_filters(self, weight: Tensor, channel_positions: Sequence[int], out_planes: int) -> MemoryBlock:
        """Filters (out, in, 3, 3), float32 and contiguous, as convolutions want them, channels at `places`."""
        depth = channel_positions[-1] + 1
        memory = self.allocate(TILE_POINTS * depth * out_planes * self.vector_width * FLOAT_BYTES)
        array = (_int32 * len(channel_positions))(*channel_positions)
        self._cdll.steadyscale_filters(weight.data_ptr(), *weight.shape[:2], array, depth, out_planes, memory.address)
        return memory

    def run(self, ops: ctypes.Array[Op], threads: int, scratch: MemoryBlock, scratch_per_thread: int) -> None:
        """Run all steps in order; other Python threads go on meanwhile."""
        self._cdll.steadyscale_run(ctypes.addressof(ops), len(ops), threads, scratch.address, scratch_per_thread)


class Arena:
    """Memory that programs use one after the other: fresh pages of the system cost as much as a layer does."""

    def __init__(self, library: NativeLibrary) -> None:
        self._library = library
        self._block: MemoryBlock | None = None

    def reserve(self, size: int, *, exact: bool = False) -> MemoryBlock:
        """At least `size` bytes, with whatever lies in them. exact: what is much more goes back to the system.

        Whoever took some before must not use it any more. Raises MemoryError.
        """
        held = self._block
        if held is None or held.size < size or (exact and held.size - size >= PAGE_BYTES):
            # Before the next one is made: two need twice the memory.
            held = self._block = None
            held = self._block = self._library.allocate(size)
        held.reset()
        return held

    def release(self) -> None:
        """Give it back to the system. Whoever took some must not use it any more."""
        self._block = None


class MemoryBlock:
    """Bytes from `address` on. `take` hands them out piece by piece, `rewind` starts again."""

    def __init__(self, address: int, size: int) -> None:
        self.address = address
        self.size = size
        self._used = 0

    def allocate(self, size: int) -> int:
        """The address of the next `size` bytes. Raises MemoryError when they are used up."""
        if self._used + size > self.size:
            raise MemoryError(f"{size} bytes do not fit behind {self._used} of {self.size}")
        self._used += size
        return self.address + self._used - size

    def reset(self) -> None:
        self._used = 0
