"""A network as a list of steps over memory laid out in advance, for pictures of one size."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn

from .bindings import CONV, FLOAT_BYTES, INPUT_CONV, OUTPUT_CONV, PACK, Arena, MemoryBlock, NativeLibrary, Op

# What the engine reads and writes, whatever a program has made torch's default: it is told addresses alone.
CPU_FLOAT32: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}


@dataclass(frozen=True)
class PrepackedConv:
    """A convolution's weights as the engine wants them.

    channels: input channels, padding between groups included. in_planes: 0 for one that reads a picture as it is.
    """

    weights: MemoryBlock | Tensor
    bias: Tensor
    slope: Tensor | None
    channels: int
    in_planes: int
    out_planes: int


def prepack_conv(
    library: NativeLibrary, module: nn.Module, channel_groups: Sequence[int] = (), *, slope: Tensor | None = None
) -> PrepackedConv:
    """Transform the weights of a 3x3 convolution once.

    groups: how the input channels are spread over buffers, each of which starts a new plane; empty = one buffer.
    slope: factor of negative results, one per output channel or one for all, None = no activation.
    """
    conv = cast(nn.Conv2d, module)
    weight, bias = conv.weight, conv.bias
    out_channels, in_channels = weight.shape[:2]
    channel_groups = channel_groups or (in_channels,)
    places, planes = [], 0
    for size in channel_groups:
        places += range(planes * library.vector_width, planes * library.vector_width + size)
        planes += library.plane_count(size)
    out_planes = library.plane_count(out_channels)

    return PrepackedConv(
        weights=library.transform_filters(weight.detach().contiguous(), places, out_planes),
        bias=_zero_pad(
            torch.zeros(out_channels, **CPU_FLOAT32) if bias is None else bias, out_planes * library.vector_width
        ),
        slope=None if slope is None else _zero_pad(slope.expand(out_channels), out_planes * library.vector_width),
        channels=places[-1] + 1,
        in_planes=planes,
        out_planes=out_planes,
    )


def prepack_input_conv(library: NativeLibrary, module: nn.Module, *, slope: Tensor | None = None) -> PrepackedConv:
    """The weights of a 3x3 convolution of a picture's few channels, which is done directly, without Winograd."""
    conv = cast(nn.Conv2d, module)
    out_channels, in_channels = conv.weight.shape[:2]
    out_planes = library.plane_count(out_channels)
    weights = torch.zeros(in_channels, 3, 3, out_planes * library.vector_width, **CPU_FLOAT32)
    weights[..., :out_channels] = conv.weight.detach().float().permute(1, 2, 3, 0)
    bias = torch.zeros(out_channels, **CPU_FLOAT32) if conv.bias is None else conv.bias
    return PrepackedConv(
        weights=weights,
        bias=_zero_pad(bias, out_planes * library.vector_width),
        slope=None if slope is None else _zero_pad(slope.expand(out_channels), out_planes * library.vector_width),
        channels=in_channels,
        in_planes=0,
        out_planes=out_planes,
    )


def _zero_pad(values: Tensor, length: int) -> Tensor:
    result = torch.zeros(length, **CPU_FLOAT32)
    result[: len(values)] = values.detach().float()
    return result


@dataclass(frozen=True)
class Planes:
    """Addresses of planes of V channels each, which hold the rows `row` ... `end` - 1 of a picture."""

    addresses: tuple[int, ...]
    first_row: int
    end_row: int

    def __add__(self, other: Planes) -> Planes:
        return Planes(self.addresses + other.addresses, self.first_row, self.end_row)

    def __getitem__(self, index: slice) -> Planes:
        return Planes(self.addresses[index], self.first_row, self.end_row)


@dataclass(frozen=True)
class PixelRect:
    """Rows top ... bottom - 1 and columns left ... right - 1 of a picture."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def pixels(self) -> int:
        return (self.bottom - self.top) * (self.right - self.left)


class ExecutionPlan:
    """Steps in the order in which they run. `run` takes the pictures they start and end with.

    source: (channels, height, width) that the first step reads. skip: a picture added at the end. target: what is made.
    scratch: what the steps work in. Steps make an `area` of a picture, or all of it.
    """

    def __init__(self, library: NativeLibrary, scratch_arena: Arena) -> None:
        self._library, self._scratch_arena = library, scratch_arena
        self._ops: list[Op] = []
        self._output_ops: list[int] = []  # numbers of the steps that write the target
        self._op_array: ctypes.Array[Op] | None = None
        self._keep_alive: list[object] = []  # memory that steps point to
        self._source = (ctypes.c_void_p * 1)()
        self._skip = (ctypes.c_void_p * 1)()
        self._target = (ctypes.c_void_p * 1)()
        self._scratch_per_thread = 0

    # ---- memory ----

    def planes_bytes(self, channels: int, rows: int, width: int) -> int:
        return self._library.plane_count(channels) * self._plane_bytes(rows, width)

    def allocate_planes(self, memory: MemoryBlock, channels: int, rows: int, width: int, first_row: int = 0) -> Planes:
        """Planes for so many channels, one after the other, out of `memory`."""
        size = self._plane_bytes(rows, width)
        return Planes(
            tuple(memory.allocate(size) for _ in range(self._library.plane_count(channels))),
            first_row,
            first_row + rows,
        )

    def _plane_bytes(self, rows: int, width: int) -> int:
        # The extra lines keep planes of a power of two from falling into the same cache sets.
        return rows * width * self._library.vector_width * FLOAT_BYTES + 5 * 64

    # ---- steps ----

    def convolve_input(
        self, conv: PrepackedConv, target: Planes, height: int, width: int, rect: PixelRect | None = None
    ) -> None:
        """The source picture -> planes, through a convolution with `colour_filters`."""
        op = _make_op(height, width, rect)
        op.kind, op.channels, op.out_planes = INPUT_CONV, conv.channels, conv.out_planes
        op.in_, op.out = ctypes.addressof(self._source), self._pointer_array(target)
        self._set_weights(op, conv)
        self._ops.append(op)
        self._scratch_per_thread = max(
            self._scratch_per_thread, self._library.input_scratch_floats(conv.channels, width)
        )

    def pack(self, target: Planes, channels: int, height: int, width: int) -> None:
        """The source picture -> planes."""
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
    ) -> None:
        """A convolution of a picture of height x width, or of what of it the source holds.

        Winograd's blocks of 6x6 start at the area's top and left, which may both be up to 5 below 0.
        up: the source is half as large and stands for its enlargement by repetition; the top must be even.
        sums: up to two (scale, planes): the result is multiplied by the scale and the planes, which start at the same
        row as the target, are added; not together with a slope. The target may be one of them, but not the source.
        """
        op = self._make_winograd_op(conv, source, height, width, rect, upsample)
        op.kind = CONV
        op.out, op.out_row = self._pointer_array(target), target.first_row
        for index, (scale, planes) in enumerate(residuals, start=1):
            setattr(op, f"scale{index}", scale)
            setattr(op, f"add{index}", self._pointer_array(planes))
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
        """A convolution, as `convolve`, of which the result is unfolded into the target picture.

        part: what of height x width the target is a picture of, (channels, its rows * shuffle, its columns * shuffle);
        default: all. It ends at the area's right. Results that lie before it are dropped.
        add_skip: the skip picture (channels, height, width) is enlarged by repetition and added.
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
        op.channels, op.in_planes, op.out_planes, op.up = conv.channels, conv.in_planes, conv.out_planes, upsample
        # A patch may reach further than the rows that matter. What the source does not hold there counts as zero.
        op.held = min(height, source.end_row * 2 if upsample else source.end_row)
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
        """All three are float32 pictures on the CPU; `target` is overwritten. clamped: to [0, 1].

        The first two are contiguous; of the target only the pixels of a row lie side by side.
        """
        self._source[0], self._skip[0], self._target[0] = source.data_ptr(), skip.data_ptr(), target.data_ptr()
        if self._op_array is None:
            self._op_array = (Op * len(self._ops))(*self._ops)
        for number in self._output_ops:
            self._op_array[number].clamped = clamp
            self._op_array[number].colour, self._op_array[number].row = target.stride()[:2]
        scratch = self._scratch_arena.reserve(self._scratch_per_thread * FLOAT_BYTES * threads)
        self._library.run(self._op_array, threads, scratch, self._scratch_per_thread)


def _make_op(height: int, width: int, rect: PixelRect | None = None) -> Op:
    rect = rect or PixelRect(0, height, 0, width)
    return Op(height=height, width=width, first=rect.top, last=rect.bottom, left=rect.left, right=rect.right)


def split_range(length: int, size: int) -> list[tuple[int, int]]:
    """[0, length) cut into pieces of `size`; the last may be shorter."""
    return list(pairwise([*range(0, length, size), length]))


# (height, width of the input, what of it is wanted enlarged or None for all) -> program, the one to run from then on.
PlanCompiler: TypeAlias = Callable[[int, int, "PixelRect | None"], ExecutionPlan]
