"""ctypes bindings of the compiled engine."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path

from torch import Tensor

ABI_VERSION = 7  # must equal ABI_VERSION of winograd/op.h
PAGE_BYTES = 4096
FLOAT_BYTES = 4
OUTPUT_TILE = 6  # side of a Winograd output tile, in pixels
TILE_POINTS = 64  # points of a transformed 8x8 input tile
# OpKind of winograd/op.h
PACK, CONV, INPUT_CONV, OUTPUT_CONV, LARGE_CONV, POINTWISE, REDUCE, SCALE, LAYER_NORM = range(9)
KERNEL_PART = 3  # side of the parts that a large kernel is cut into


class Activation(IntEnum):
    """Activations after a 3x3 convolution; winograd/op.h explains them."""

    LINEAR = 0
    SILU = 1
    MISH = 2
    GATE = 3
    ATTENTION = 4


_pointer = ctypes.c_void_p
_int32 = ctypes.c_int32
_int64 = ctypes.c_int64


class Op(ctypes.Structure):
    """One operation; winograd/op.h explains the fields.

    The creator of an Op keeps what it points to alive.
    """

    _fields_ = (
        ("in_", _pointer),
        ("out", _pointer),
        ("add1", _pointer),
        ("add2", _pointer),
        ("weights", _pointer),
        ("bias", _pointer),
        ("slope", _pointer),
        ("row_sums", _pointer),
        ("row_stride", _int64),
        ("channel_stride", _int64),
        ("scale1", ctypes.c_float),
        ("scale2", ctypes.c_float),
        ("epsilon", ctypes.c_float),
        ("kind", _int32),
        ("channels", _int32),
        ("in_planes", _int32),
        ("out_planes", _int32),
        ("height", _int32),
        ("width", _int32),
        ("in_end_row", _int32),
        ("in_row", _int32),
        ("out_row", _int32),
        ("out_column", _int32),
        ("top", _int32),
        ("bottom", _int32),
        ("left", _int32),
        ("right", _int32),
        ("upsample", _int32),
        ("shuffle", _int32),
        ("out_channels", _int32),
        ("clamp", _int32),
        ("activation", _int32),
        ("kernel", _int32),
        ("groups", _int32),
    )


class NativeLibrary:
    """A loaded engine library.

    vector_width: channels in a plane, the floats of a vector register. max_planes_per_pass: output planes that one pass
    of the matrix product computes.

    Raises OSError for a file that is not a library or belongs to another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._cdll = ctypes.CDLL(str(path))
        if self._cdll.steadyscale_abi() != ABI_VERSION or self._cdll.steadyscale_op_bytes() != ctypes.sizeof(Op):
            raise OSError(f"{path} was built for another version of SteadyScale; run `steadyscale native build`")
        self.vector_width: int = self._cdll.steadyscale_vector()
        self.max_planes_per_pass: int = self._cdll.steadyscale_widest()
        self._cdll.steadyscale_scratch.restype = ctypes.c_size_t
        self._cdll.steadyscale_scratch.argtypes = (ctypes.c_int, ctypes.c_int)
        self._cdll.steadyscale_scratch_first.restype = ctypes.c_size_t
        self._cdll.steadyscale_scratch_first.argtypes = (ctypes.c_int, ctypes.c_int)
        self._cdll.steadyscale_scratch_large.restype = ctypes.c_size_t
        self._cdll.steadyscale_scratch_large.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int)
        self._cdll.steadyscale_scratch_pointwise.restype = ctypes.c_size_t
        self._cdll.steadyscale_scratch_pointwise.argtypes = (ctypes.c_int,)
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
        """Number of planes that hold `channels` channels."""
        return -(-channels // self.vector_width)

    def scratch_floats(self, in_planes: int, out_planes: int) -> int:
        """Size of the scratch buffer per thread, in floats, for a convolution of planes."""
        return self._cdll.steadyscale_scratch(in_planes, out_planes)

    def input_scratch_floats(self, channels: int, width: int) -> int:
        """Size of the scratch buffer per thread, in floats, for the first convolution."""
        return self._cdll.steadyscale_scratch_first(channels, width)

    def large_scratch_floats(self, kernel: int, in_planes: int, out_planes: int) -> int:
        """Size of the scratch buffer per thread, in floats, for a large kernel."""
        return self._cdll.steadyscale_scratch_large(kernel, in_planes, out_planes)

    def pointwise_scratch_floats(self, in_planes: int) -> int:
        """Size of the scratch buffer per thread, in floats, for a 1x1 convolution."""
        return self._cdll.steadyscale_scratch_pointwise(in_planes)

    def allocate(self, size: int) -> MemoryBlock:
        """Allocate zeroed bytes, freed with the returned object. Raises MemoryError."""
        size = -(-size // PAGE_BYTES) * PAGE_BYTES
        address = self._cdll.steadyscale_allocate(size)
        if not address:
            raise MemoryError(f"not enough memory for {size} bytes; use a smaller tile size")
        memory = MemoryBlock(address, size)
        weakref.finalize(memory, self._cdll.steadyscale_free, address, size)
        return memory

    def transform_filters(
        self, weights: Sequence[Tensor], channel_positions: Sequence[int], depth: int, out_planes: int
    ) -> MemoryBlock:
        """Transform 3x3 filters into the Winograd domain, one set after another.

        weights: each (out, in, 3, 3), float32 and contiguous.
            channel_positions: index of each input channel among the `depth` channels of the input planes.
        """
        floats = TILE_POINTS * depth * out_planes * self.vector_width
        memory = self.allocate(len(weights) * floats * FLOAT_BYTES)
        array = (_int32 * len(channel_positions))(*channel_positions)
        for weight in weights:
            target = memory.allocate(floats * FLOAT_BYTES)
            self._cdll.steadyscale_filters(weight.data_ptr(), *weight.shape[:2], array, depth, out_planes, target)
        return memory

    def run(self, ops: ctypes.Array[Op], threads: int, scratch: MemoryBlock, scratch_per_thread: int) -> None:
        """Run all operations in order, without the GIL."""
        self._cdll.steadyscale_run(ctypes.addressof(ops), len(ops), threads, scratch.address, scratch_per_thread)


class Arena:
    """A memory block that plans use in turn.

    Fresh pages of the system cost as much as a layer.
    """

    def __init__(self, library: NativeLibrary) -> None:
        self._library = library
        self._block: MemoryBlock | None = None

    def reserve(self, size: int, *, exact: bool = False) -> MemoryBlock:
        """Reserve at least `size` bytes with undefined contents.

        This invalidates what was reserved before.
        exact: return memory to the system if the block is larger than needed. Raises MemoryError.
        """
        block = self._block
        if block is None or block.size < size or (exact and block.size - size >= PAGE_BYTES):
            # Free the old block first: two blocks at once need twice the memory.
            block = self._block = None
            block = self._block = self._library.allocate(size)
        block.reset()
        return block

    def release(self) -> None:
        """Return the memory to the system, and invalidate what was reserved before."""
        self._block = None


class MemoryBlock:
    """`size` bytes from `address` on, handed out one piece after another."""

    def __init__(self, address: int, size: int) -> None:
        self.address = address
        self.size = size
        self._used = 0

    def allocate(self, size: int) -> int:
        """Address of the next `size` bytes. Raises MemoryError when the block is full."""
        if self._used + size > self.size:
            raise MemoryError(f"{size} bytes do not fit after the {self._used} of {self.size} in use")
        self._used += size
        return self.address + self._used - size

    def reset(self) -> None:
        """Hand out the block from its start again."""
        self._used = 0
