"""The compiled engine seen from Python: its structure, its memory, its calls."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

ABI = 6  # must equal that of winograd/op.h
PAGE = 4096  # bytes
FLOAT = 4  # bytes
OUT = 6  # side of a block of results
POINTS = 64  # of a transformed patch
PACK, CONV, FIRST, LAST = range(4)

_pointer = ctypes.c_void_p
_number = ctypes.c_int32
_wide = ctypes.c_int64


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
        ("row", _wide),
        ("colour", _wide),
        ("scale1", ctypes.c_float),
        ("scale2", ctypes.c_float),
        ("kind", _number),
        ("channels", _number),
        ("in_planes", _number),
        ("out_planes", _number),
        ("height", _number),
        ("width", _number),
        ("held", _number),
        ("in_row", _number),
        ("out_row", _number),
        ("out_column", _number),
        ("first", _number),
        ("last", _number),
        ("left", _number),
        ("right", _number),
        ("up", _number),
        ("shuffle", _number),
        ("out_channels", _number),
        ("clamped", _number),
    )


class Library:
    """A loaded library. vector: channels in a plane. widest: planes that one pass of its matrix product makes.

    Raises OSError for a file that is no library or belongs to another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._c = ctypes.CDLL(str(path))
        if self._c.steadyscale_abi() != ABI or self._c.steadyscale_op_bytes() != ctypes.sizeof(Op):
            raise OSError(f"{path} was built for another version of SteadyScale")
        self.vector: int = self._c.steadyscale_vector()
        self.widest: int = self._c.steadyscale_widest()
        self._c.steadyscale_scratch.restype = ctypes.c_size_t
        self._c.steadyscale_scratch.argtypes = (ctypes.c_int, ctypes.c_int)
        self._c.steadyscale_scratch_first.restype = ctypes.c_size_t
        self._c.steadyscale_scratch_first.argtypes = (ctypes.c_int, ctypes.c_int)
        self._c.steadyscale_allocate.restype = _pointer
        self._c.steadyscale_allocate.argtypes = (ctypes.c_size_t,)
        self._c.steadyscale_free.argtypes = (_pointer, ctypes.c_size_t)
        self._c.steadyscale_filters.argtypes = (_pointer, *[ctypes.c_int] * 2, _pointer, *[ctypes.c_int] * 2, _pointer)
        self._c.steadyscale_run.argtypes = (_pointer, ctypes.c_int, ctypes.c_int, _pointer, ctypes.c_size_t)

    def planes(self, channels: int) -> int:
        """How many planes hold so many channels."""
        return -(-channels // self.vector)

    def scratch(self, in_planes: int, out_planes: int) -> int:
        """Floats of scratch memory that a thread needs for a convolution of planes."""
        return self._c.steadyscale_scratch(in_planes, out_planes)

    def scratch_first(self, channels: int, width: int) -> int:
        """The same for one of a picture's few channels."""
        return self._c.steadyscale_scratch_first(channels, width)

    def allocate(self, size: int) -> Memory:
        """Zeroed memory of `size` bytes, freed with the object. Raises MemoryError."""
        size = -(-size // PAGE) * PAGE
        address = self._c.steadyscale_allocate(size)
        if not address:
            raise MemoryError(f"not enough memory for {size} bytes")
        memory = Memory(address, size)
        weakref.finalize(memory, self._c.steadyscale_free, address, size)
        return memory

    def transform(self, weight: Tensor, places: Sequence[int], out_planes: int) -> Memory:
        """Filters (out, in, 3, 3), float32 and contiguous, as convolutions want them, channels at `places`."""
        depth = places[-1] + 1
        memory = self.allocate(POINTS * depth * out_planes * self.vector * FLOAT)
        array = (_number * len(places))(*places)
        self._c.steadyscale_filters(weight.data_ptr(), *weight.shape[:2], array, depth, out_planes, memory.address)
        return memory

    def run(self, ops: ctypes.Array[Op], threads: int, scratch: Memory, per_thread: int) -> None:
        """Run all steps in order; other Python threads go on meanwhile."""
        self._c.steadyscale_run(ctypes.addressof(ops), len(ops), threads, scratch.address, per_thread)


class Store:
    """Memory that programs use one after the other: fresh pages of the system cost as much as a layer does."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._held: Memory | None = None

    def take(self, size: int, *, exact: bool = False) -> Memory:
        """At least `size` bytes, with whatever lies in them. exact: what is much more goes back to the system.

        Whoever took some before must not use it any more. Raises MemoryError.
        """
        held = self._held
        if held is None or held.size < size or (exact and held.size - size >= PAGE):
            # Before the next one is made: two need twice the memory.
            held = self._held = None
            held = self._held = self._library.allocate(size)
        held.rewind()
        return held

    def drop(self) -> None:
        """Give it back to the system. Whoever took some must not use it any more."""
        self._held = None


class Memory:
    """Bytes from `address` on. `take` hands them out piece by piece, `rewind` starts again."""

    def __init__(self, address: int, size: int) -> None:
        self.address = address
        self.size = size
        self._taken = 0

    def take(self, size: int) -> int:
        """The address of the next `size` bytes. Raises MemoryError when they are used up."""
        if self._taken + size > self.size:
            raise MemoryError(f"{size} bytes do not fit behind {self._taken} of {self.size}")
        self._taken += size
        return self.address + self._taken - size

    def rewind(self) -> None:
        self._taken = 0
