"""A network as a list of steps over memory laid out in advance, for pictures of one size."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn

from .bindings import CONV, FIRST, FLOAT, LAST, PACK, Library, Memory, Op, Store

# What the engine reads and writes, whatever a program has made torch's default: it is told addresses alone.
PLAIN: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}


@dataclass(frozen=True)
class Filters:
    """A convolution's weights as the engine wants them.

    channels: input channels, padding between groups included. in_planes: 0 for one that reads a picture as it is.
    """

    weights: Memory | Tensor
    bias: Tensor
    slope: Tensor | None
    channels: int
    in_planes: int
    out_planes: int


def filters(library: Library, module: nn.Module, groups: Sequence[int] = (), *, slope: Tensor | None = None) -> Filters:
    """Transform the weights of a 3x3 convolution once.

    groups: how the input channels are spread over buffers, each of which starts a new plane; empty = one buffer.
    slope: factor of negative results, one per output channel or one for all, None = no activation.
    """
    conv = cast(nn.Conv2d, module)
    weight, bias = conv.weight, conv.bias
    out_channels, in_channels = weight.shape[:2]
    groups = groups or (in_channels,)
    places, planes = [], 0
    for size in groups:
        places += range(planes * library.vector, planes * library.vector + size)
        planes += library.planes(size)
    out_planes = library.planes(out_channels)

    return Filters(
        weights=library.transform(weight.detach().contiguous(), places, out_planes),
        bias=_padded(torch.zeros(out_channels, **PLAIN) if bias is None else bias, out_planes * library.vector),
        slope=None if slope is None else _padded(slope.expand(out_channels), out_planes * library.vector),
        channels=places[-1] + 1,
        in_planes=planes,
        out_planes=out_planes,
    )


def colour_filters(library: Library, module: nn.Module, *, slope: Tensor | None = None) -> Filters:
    """The weights of a 3x3 convolution of a picture's few channels, which is done directly, without Winograd."""
    conv = cast(nn.Conv2d, module)
    out_channels, in_channels = conv.weight.shape[:2]
    out_planes = library.planes(out_channels)
    weights = torch.zeros(in_channels, 3, 3, out_planes * library.vector, **PLAIN)
    weights[..., :out_channels] = conv.weight.detach().float().permute(1, 2, 3, 0)
    bias = torch.zeros(out_channels, **PLAIN) if conv.bias is None else conv.bias
    return Filters(
        weights=weights,
        bias=_padded(bias, out_planes * library.vector),
        slope=None if slope is None else _padded(slope.expand(out_channels), out_planes * library.vector),
        channels=in_channels,
        in_planes=0,
        out_planes=out_planes,
    )


def _padded(values: Tensor, length: int) -> Tensor:
    result = torch.zeros(length, **PLAIN)
    result[: len(values)] = values.detach().float()
    return result


@dataclass(frozen=True)
class Planes:
    """Addresses of planes of V channels each, which hold the rows `row` ... `end` - 1 of a picture."""

    addresses: tuple[int, ...]
    row: int
    end: int

    def __add__(self, other: Planes) -> Planes:
        return Planes(self.addresses + other.addresses, self.row, self.end)

    def __getitem__(self, part: slice) -> Planes:
        return Planes(self.addresses[part], self.row, self.end)


@dataclass(frozen=True)
class Area:
    """Rows top ... bottom - 1 and columns left ... right - 1 of a picture."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def pixels(self) -> int:
        return (self.bottom - self.top) * (self.right - self.left)


class Program:
    """Steps in the order in which they run. `run` takes the pictures they start and end with.

    source: (channels, height, width) that the first step reads. skip: a picture added at the end. target: what is made.
    scratch: what the steps work in. Steps make an `area` of a picture, or all of it.
    """

    def __init__(self, library: Library, scratch: Store) -> None:
        self._library, self._scratch = library, scratch
        self._ops: list[Op] = []
        self._lasts: list[int] = []  # numbers of the steps that write the target
        self._list: ctypes.Array[Op] | None = None
        self._alive: list[object] = []  # memory that steps point to
        self._source = (ctypes.c_void_p * 1)()
        self._skip = (ctypes.c_void_p * 1)()
        self._target = (ctypes.c_void_p * 1)()
        self._per_thread = 0

    # ---- memory ----

    def planes_bytes(self, channels: int, rows: int, width: int) -> int:
        return self._library.planes(channels) * self._plane_bytes(rows, width)

    def planes(self, memory: Memory, channels: int, rows: int, width: int, row: int = 0) -> Planes:
        """Planes for so many channels, one after the other, out of `memory`."""
        size = self._plane_bytes(rows, width)
        return Planes(tuple(memory.take(size) for _ in range(self._library.planes(channels))), row, row + rows)

    def _plane_bytes(self, rows: int, width: int) -> int:
        # The extra lines keep planes of a power of two from falling into the same cache sets.
        return rows * width * self._library.vector * FLOAT + 5 * 64

    # ---- steps ----

    def first(self, conv: Filters, target: Planes, height: int, width: int, area: Area | None = None) -> None:
        """The source picture -> planes, through a convolution with `colour_filters`."""
        op = _op(height, width, area)
        op.kind, op.channels, op.out_planes = FIRST, conv.channels, conv.out_planes
        op.in_, op.out = ctypes.addressof(self._source), self._array(target)
        self._weigh(op, conv)
        self._ops.append(op)
        self._per_thread = max(self._per_thread, self._library.scratch_first(conv.channels, width))

    def pack(self, target: Planes, channels: int, height: int, width: int) -> None:
        """The source picture -> planes."""
        op = _op(height, width)
        op.kind, op.channels, op.out_planes = PACK, channels, len(target.addresses)
        op.in_, op.out = ctypes.addressof(self._source), self._array(target)
        self._ops.append(op)

    def convolve(
        self,
        conv: Filters,
        source: Planes,
        target: Planes,
        height: int,
        width: int,
        *,
        area: Area | None = None,
        up: bool = False,
        sums: Sequence[tuple[float, Planes]] = (),
    ) -> None:
        """A convolution of a picture of height x width, or of what of it the source holds.

        Winograd's blocks of 6x6 start at the area's top and left, which may both be up to 5 below 0.
        up: the source is half as large and stands for its enlargement by repetition; the top must be even.
        sums: up to two (scale, planes): the result is multiplied by the scale and the planes, which start at the same
        row as the target, are added; not together with a slope. The target may be one of them, but not the source.
        """
        op = self._winograd(conv, source, height, width, area, up)
        op.kind = CONV
        op.out, op.out_row = self._array(target), target.row
        for index, (scale, planes) in enumerate(sums, start=1):
            setattr(op, f"scale{index}", scale)
            setattr(op, f"add{index}", self._array(planes))
        self._ops.append(op)

    def last(
        self,
        conv: Filters,
        source: Planes,
        channels: int,
        height: int,
        width: int,
        *,
        area: Area | None = None,
        part: Area | None = None,
        shuffle: int = 1,
        add_skip: bool = False,
    ) -> None:
        """A convolution, as `convolve`, of which the result is unfolded into the target picture.

        part: what of height x width the target is a picture of, (channels, its rows * shuffle, its columns * shuffle);
        default: all. It ends at the area's right. Results that lie before it are dropped.
        add_skip: the skip picture (channels, height, width) is enlarged by repetition and added.
        """
        op = self._winograd(conv, source, height, width, area)
        op.kind, op.shuffle, op.out_channels = LAST, shuffle, channels
        part = part or Area(0, height, 0, width)
        op.out_row, op.out_column = part.top, part.left
        op.out = ctypes.addressof(self._target)
        op.add1 = ctypes.addressof(self._skip) if add_skip else None
        self._lasts.append(len(self._ops))
        self._ops.append(op)

    def _winograd(
        self,
        conv: Filters,
        source: Planes,
        height: int,
        width: int,
        area: Area | None,
        up: bool = False,
    ) -> Op:
        op = _op(height, width, area)
        op.channels, op.in_planes, op.out_planes, op.up = conv.channels, conv.in_planes, conv.out_planes, up
        # A patch may reach further than the rows that matter. What the source does not hold there counts as zero.
        op.held = min(height, source.end * 2 if up else source.end)
        op.in_, op.in_row = self._array(source), source.row
        self._weigh(op, conv)
        self._per_thread = max(self._per_thread, self._library.scratch(conv.in_planes, conv.out_planes))
        return op

    def _weigh(self, op: Op, conv: Filters) -> None:
        op.weights = conv.weights.data_ptr() if isinstance(conv.weights, Tensor) else conv.weights.address
        op.bias = conv.bias.data_ptr()
        op.slope = None if conv.slope is None else conv.slope.data_ptr()
        self._alive.append(conv)

    def _array(self, planes: Planes) -> int:
        array = (ctypes.c_void_p * len(planes.addresses))(*planes.addresses)
        self._alive.append(array)
        return ctypes.addressof(array)

    # ---- running ----

    def run(self, source: Tensor, skip: Tensor, target: Tensor, threads: int, *, clamped: bool = False) -> None:
        """All three are float32 pictures on the CPU; `target` is overwritten. clamped: to [0, 1].

        The first two are contiguous; of the target only the pixels of a row lie side by side.
        """
        self._source[0], self._skip[0], self._target[0] = source.data_ptr(), skip.data_ptr(), target.data_ptr()
        if self._list is None:
            self._list = (Op * len(self._ops))(*self._ops)
        for number in self._lasts:
            self._list[number].clamped = clamped
            self._list[number].colour, self._list[number].row = target.stride()[:2]
        scratch = self._scratch.take(self._per_thread * FLOAT * threads)
        self._library.run(self._list, threads, scratch, self._per_thread)


def _op(height: int, width: int, area: Area | None = None) -> Op:
    area = area or Area(0, height, 0, width)
    return Op(height=height, width=width, first=area.top, last=area.bottom, left=area.left, right=area.right)


def strips(length: int, size: int) -> list[tuple[int, int]]:
    """[0, length) cut into pieces of `size`; the last may be shorter."""
    return list(pairwise([*range(0, length, size), length]))


# (height, width of the input, what of it is wanted enlarged or None for all) -> program, the one to run from then on.
Compiler: TypeAlias = Callable[[int, int, "Area | None"], Program]
