"""Execution plans: operations over preallocated memory, for one frame size."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from torch import Tensor

from .bindings import (
    CONV,
    FLOAT_BYTES,
    INPUT_CONV,
    LARGE_CONV,
    LAYER_NORM,
    OUTPUT_CONV,
    PACK,
    POINTWISE,
    REDUCE,
    SCALE,
    Activation,
    Arena,
    MemoryBlock,
    NativeLibrary,
    Op,
)
from .prepack import PrepackedConv, PrepackedNorm


@dataclass(frozen=True)
class Planes:
    """Addresses of planes of `vector_width` channels each.

    They hold the rows first_row ... end_row - 1 of a frame.
    """

    addresses: tuple[int, ...]
    first_row: int
    end_row: int

    def __add__(self, other: Planes) -> Planes:
        return Planes(self.addresses + other.addresses, self.first_row, self.end_row)

    def __getitem__(self, index: slice) -> Planes:
        return Planes(self.addresses[index], self.first_row, self.end_row)


@dataclass(frozen=True)
class PixelRect:
    """Rows top ... bottom - 1 and columns left ... right - 1 of a frame."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def pixels(self) -> int:
        return (self.bottom - self.top) * (self.right - self.left)


class ExecutionPlan:
    """Operations in order, from a source image to a target image.

    source: (channels, height, width), read by the first operation. skip: an image added by the last operation.
    target: the result. scratch_arena: scratch memory of the operations. An operation computes a rectangle of a frame,
    by default all of it.
    """

    def __init__(self, library: NativeLibrary, scratch_arena: Arena) -> None:
        self._library, self._scratch_arena = library, scratch_arena
        self._ops: list[Op] = []
        self._output_ops: list[int] = []  # indices of the operations that write the target
        self._op_array: ctypes.Array[Op] | None = None
        self._keep_alive: list[object] = []  # memory that operations point to
        self._source = (ctypes.c_void_p * 1)()
        self._skip = (ctypes.c_void_p * 1)()
        self._target = (ctypes.c_void_p * 1)()
        self._scratch_per_thread = 0

    # ---- memory ----

    def planes_bytes(self, channels: int, rows: int, width: int) -> int:
        """Bytes of the planes for so many channels."""
        return self._library.plane_count(channels) * self._plane_bytes(rows, width)

    def allocate_planes(self, memory: MemoryBlock, channels: int, rows: int, width: int, first_row: int = 0) -> Planes:
        """Allocate planes for so many channels from `memory`."""
        size = self._plane_bytes(rows, width)
        return Planes(
            tuple(memory.allocate(size) for _ in range(self._library.plane_count(channels))),
            first_row,
            first_row + rows,
        )

    def _plane_bytes(self, rows: int, width: int) -> int:
        # Five more cache lines keep planes whose size is a power of two out of the same cache sets.
        return rows * width * self._library.vector_width * FLOAT_BYTES + 5 * 64

    # ---- operations ----

    def convolve_input(
        self, conv: PrepackedConv, target: Planes, height: int, width: int, rect: PixelRect | None = None
    ) -> None:
        """Add a convolution of the source image into planes.

        conv: from `prepack_input_conv`.
        """
        op = _make_op(height, width, rect)
        op.kind, op.channels, op.out_planes = INPUT_CONV, conv.channels, conv.out_planes
        op.in_, op.out = ctypes.addressof(self._source), self._pointer_array(target)
        self._set_weights(op, conv)
        self._ops.append(op)
        self._scratch_per_thread = max(
            self._scratch_per_thread, self._library.input_scratch_floats(conv.channels, width)
        )

    def pack(self, target: Planes, channels: int, height: int, width: int) -> None:
        """Add a copy of the source image into planes."""
        op = _make_op(height, width)
        op.kind, op.channels, op.out_planes = PACK, channels, len(target.addresses)
        op.in_, op.out = ctypes.addressof(self._source), self._pointer_array(target)
        self._ops.append(op)

    def convolve(
        self,
        conv: PrepackedConv,
        source: Planes,
        target: Planes,
        height: int,
        width: int,
        *,
        rect: PixelRect | None = None,
        upsample: bool = False,
        residuals: Sequence[tuple[float, Planes]] = (),
        activation: Activation = Activation.LINEAR,
        gate: Planes | None = None,
    ) -> None:
        """Add a convolution from planes to planes.

        height, width: of the full frame, of which the source may hold a range of rows.
        rect: Winograd tiles of 6x6 start at its top and left, which may both be down to -5.
        upsample: the source has half the size and is upsampled 2x (nearest); the top must be even.
        residuals: up to two (scale, planes): the result is multiplied by the scale and the planes, which have the first
        row of the target, are added; not together with a slope. The target may be one of them, but not the source.
        activation: instead of slope and residuals; GATE and ATTENTION combine the result with the planes `gate`.
        """
        op = self._make_winograd_op(conv, source, height, width, rect, upsample)
        op.kind, op.activation = CONV, activation
        op.out, op.out_row = self._pointer_array(target), target.first_row
        if gate is not None:
            op.add1 = self._pointer_array(gate)
        for index, (scale, planes) in enumerate(residuals, start=1):
            setattr(op, f"scale{index}", scale)
            setattr(op, f"add{index}", self._pointer_array(planes))
        self._ops.append(op)

    def convolve_large(self, conv: PrepackedConv, source: Planes, target: Planes, height: int, width: int) -> None:
        """Add a convolution with a large kernel of full frames.

        conv: from `prepack_large_conv`, whose planes the source starts with. The target has other memory.
        """
        op = _make_op(height, width)
        op.kind, op.kernel, op.channels = LARGE_CONV, conv.kernel, conv.channels
        op.in_planes, op.out_planes, op.in_end_row = conv.in_planes, conv.out_planes, height
        op.in_, op.out = self._pointer_array(source), self._pointer_array(target)
        self._set_weights(op, conv)
        self._ops.append(op)
        floats = self._library.large_scratch_floats(conv.kernel, conv.in_planes, conv.out_planes)
        self._scratch_per_thread = max(self._scratch_per_thread, floats)

    def convolve_pointwise(
        self,
        conv: PrepackedConv,
        source: Planes,
        target: Planes,
        height: int,
        width: int,
        *,
        rect: PixelRect | None = None,
        residual: Planes | None = None,
        row_sums: int | None = None,
    ) -> None:
        """Add a 1x1 convolution of full frames.

        residual: planes to add, which may be the target; the source may not. row_sums: address of the sums that
        `normalize_groups` reads.
        """
        op = _make_op(height, width, rect)
        op.kind, op.channels, op.in_planes, op.out_planes = POINTWISE, conv.channels, conv.in_planes, conv.out_planes
        op.in_, op.out, op.row_sums = self._pointer_array(source), self._pointer_array(target), row_sums
        op.add1 = None if residual is None else self._pointer_array(residual)
        self._set_weights(op, conv)
        self._ops.append(op)
        self._scratch_per_thread = max(self._scratch_per_thread, self._library.pointwise_scratch_floats(conv.in_planes))

    def normalize_groups(
        self, norm: PrepackedNorm, source: Planes, target: Planes, row_sums: int, height: int, width: int
    ) -> None:
        """Add a group norm of full frames, whose result is added to the target.

        row_sums: from the convolution that computes the source.
        """
        scaling = Planes(tuple(row_sums + offset * FLOAT_BYTES for offset in self._scaling_offsets(norm, height)), 0, 1)
        reduce = _make_op(height, width)
        reduce.kind, reduce.channels, reduce.groups, reduce.epsilon = REDUCE, norm.channels, norm.groups, norm.epsilon
        reduce.out_planes, reduce.row_sums, reduce.out = len(target.addresses), row_sums, self._pointer_array(scaling)
        reduce.weights, reduce.bias = norm.weight.data_ptr(), norm.bias.data_ptr()
        scale = _make_op(height, width)
        scale.kind, scale.in_, scale.out = SCALE, self._pointer_array(source), self._pointer_array(target)
        scale.add1, scale.out_planes = scale.out, len(target.addresses)
        scale.weights, scale.bias = scaling.addresses
        self._keep_alive.append(norm)
        self._ops += [reduce, scale]

    def _scaling_offsets(self, norm: PrepackedNorm, height: int) -> tuple[int, int]:
        """Floats from the row sums to the factors and the summands of the channels."""
        return 3 * height * len(norm.weight), (3 * height + 1) * len(norm.weight)

    def row_sums_bytes(self, norm: PrepackedNorm, height: int) -> int:
        """Bytes of the sums of all rows, and of what they are reduced to."""
        return (3 * height + 2) * len(norm.weight) * FLOAT_BYTES

    def normalize_pixels(self, norm: PrepackedNorm, source: Planes, target: Planes, height: int, width: int) -> None:
        """Add a layer norm of each pixel over its channels."""
        op = _make_op(height, width)
        op.kind, op.channels, op.epsilon, op.in_planes = LAYER_NORM, norm.channels, norm.epsilon, len(source.addresses)
        op.in_, op.out = self._pointer_array(source), self._pointer_array(target)
        op.weights, op.bias = norm.weight.data_ptr(), norm.bias.data_ptr()
        self._keep_alive.append(norm)
        self._ops.append(op)

    def convolve_output(
        self,
        conv: PrepackedConv,
        source: Planes,
        channels: int,
        height: int,
        width: int,
        *,
        rect: PixelRect | None = None,
        target_rect: PixelRect | None = None,
        shuffle: int = 1,
        add_skip: bool = False,
    ) -> None:
        """Add a convolution whose result is pixel-shuffled into the target image.

        target_rect: the part of height x width that the target covers, (channels, rows * shuffle, columns * shuffle);
        default: all. It ends at the right edge of `rect`. Results above and left of it are dropped.
        add_skip: the skip image (channels, height, width) is upsampled (nearest) and added.
        """
        op = self._make_winograd_op(conv, source, height, width, rect)
        op.kind, op.shuffle, op.out_channels = OUTPUT_CONV, shuffle, channels
        target_rect = target_rect or PixelRect(0, height, 0, width)
        op.out_row, op.out_column = target_rect.top, target_rect.left
        op.out = ctypes.addressof(self._target)
        op.add1 = ctypes.addressof(self._skip) if add_skip else None
        self._output_ops.append(len(self._ops))
        self._ops.append(op)

    def _make_winograd_op(
        self,
        conv: PrepackedConv,
        source: Planes,
        height: int,
        width: int,
        rect: PixelRect | None,
        upsample: bool = False,
    ) -> Op:
        op = _make_op(height, width, rect)
        op.channels, op.in_planes, op.out_planes = conv.channels, conv.in_planes, conv.out_planes
        op.upsample = upsample
        # A tile may reach further than the rows that matter; rows that the source does not hold count as zero.
        op.in_end_row = min(height, source.end_row * 2 if upsample else source.end_row)
        op.in_, op.in_row = self._pointer_array(source), source.first_row
        self._set_weights(op, conv)
        self._scratch_per_thread = max(
            self._scratch_per_thread, self._library.scratch_floats(conv.in_planes, conv.out_planes)
        )
        return op

    def _set_weights(self, op: Op, conv: PrepackedConv) -> None:
        op.weights = conv.weights.data_ptr() if isinstance(conv.weights, Tensor) else conv.weights.address
        op.bias = conv.bias.data_ptr()
        op.slope = None if conv.slope is None else conv.slope.data_ptr()
        self._keep_alive.append(conv)

    def _pointer_array(self, planes: Planes) -> int:
        array = (ctypes.c_void_p * len(planes.addresses))(*planes.addresses)
        self._keep_alive.append(array)
        return ctypes.addressof(array)

    # ---- running ----

    def run(self, source: Tensor, skip: Tensor, target: Tensor, threads: int, *, clamp: bool = False) -> None:
        """Run the plan.

        All three tensors are float32 images on the CPU; `target` is overwritten. source and skip are contiguous; of the
        target only the last dimension has to be. clamp: the result to [0, 1].
        """
        self._source[0], self._skip[0], self._target[0] = source.data_ptr(), skip.data_ptr(), target.data_ptr()
        if self._op_array is None:
            self._op_array = (Op * len(self._ops))(*self._ops)
        for index in self._output_ops:
            op = self._op_array[index]
            op.clamp = clamp
            op.channel_stride, op.row_stride = target.stride()[:2]
        scratch = self._scratch_arena.reserve(self._scratch_per_thread * FLOAT_BYTES * threads)
        self._library.run(self._op_array, threads, scratch, self._scratch_per_thread)


def _make_op(height: int, width: int, rect: PixelRect | None = None) -> Op:
    rect = rect or PixelRect(0, height, 0, width)
    return Op(height=height, width=width, top=rect.top, bottom=rect.bottom, left=rect.left, right=rect.right)


def split_range(length: int, size: int) -> list[tuple[int, int]]:
    """Split [0, length) into ranges of `size`; the last may be shorter."""
    return list(pairwise([*range(0, length, size), length]))


# (height, width of the input, the rectangle of it whose result is wanted or None for all) -> plan, which invalidates
# the plans compiled before it.
PlanCompiler: TypeAlias = Callable[[int, int, "PixelRect | None"], ExecutionPlan]
