"""An RRDBNet as a program: its trunk whole, its enlarged end in strips."""

from __future__ import annotations

import torch
from torch import nn

from ..arch.rrdb import NEGATIVE_SLOPE, RESIDUAL_SCALE, RRDBNet
from .bindings import Arena, MemoryBlock, NativeLibrary
from .plan import CPU_FLOAT32, ExecutionPlan, PixelRect, PlanCompiler, Planes, PrepackedConv, prepack_conv, split_range

# The enlarged end runs in strips of rows. They use the memory that the trunk no longer needs, or this much: enough rows
# for the two that are computed twice at every seam not to matter.
TAIL_BUDGET_BYTES = 32 << 20
MAX_STRIP_ROWS = 32 * 6 - 2  # With one more on either side a whole number of Winograd's patches.


def make_rrdb_compiler(library: NativeLibrary, network: RRDBNet) -> PlanCompiler:
    """Transforms the weights; the result makes programs: (in_channels * unshuffle^2, h, w), folded -> enlarged."""
    config = network.config
    features, growth = config.features, config.growth
    leaky = torch.tensor([NEGATIVE_SLOPE], **CPU_FLOAT32)

    def prepack_dense_block(block: nn.Module) -> list[PrepackedConv]:
        return [
            prepack_conv(
                library,
                block.get_submodule(f"conv{index + 1}"),
                (features, *[growth] * index),
                slope=leaky if index < 4 else None,
            )
            for index in range(5)
        ]

    first, body_end = prepack_conv(library, network.conv_first), prepack_conv(library, network.conv_body)
    blocks = [
        [prepack_dense_block(block.get_submodule(f"rdb{index}")) for index in (1, 2, 3)] for block in network.body
    ]
    ups = [
        prepack_conv(library, network.get_submodule(f"conv_up{index + 1}"), slope=leaky)
        for index in range(config.doublings)
    ]
    hr, last = prepack_conv(library, network.conv_hr, slope=leaky), prepack_conv(library, network.conv_last)
    tail = UpsampleTail(library, ups, hr, last, config.out_channels)
    kept_store, shared_store, scratch = Arena(library), Arena(library), Arena(library)

    def compile_plan(height: int, width: int, roi: PixelRect | None) -> ExecutionPlan:
        if roi is not None:
            raise ValueError("the blocks of an RRDBNet reach so far that it is only made whole")
        program = ExecutionPlan(library, scratch)
        grown_channels = (
            4 * library.plane_count(growth) * library.vector_width
        )  # Each growth starts a plane of its own.
        sizes = (network.conv_first.in_channels, features, features, features, grown_channels)
        trunk_bytes = sum(program.planes_bytes(count, height, width) for count in sizes)
        rows, tail_bytes = tail.fit_strips(program, height, width, max(trunk_bytes, TAIL_BUDGET_BYTES))
        kept = kept_store.reserve(program.planes_bytes(features, height, width), exact=True)
        shared = shared_store.reserve(max(trunk_bytes, tail_bytes), exact=True)

        a = program.allocate_planes(kept, features, height, width)
        small, start, x, b, grown = (program.allocate_planes(shared, count, height, width) for count in sizes)
        program.pack(small, network.conv_first.in_channels, height, width)
        program.convolve(first, small, start, height, width)
        source = start
        for block in blocks:
            residuals = (a, []), (b, []), (x, [(RESIDUAL_SCALE, source)])
            inner = source
            for layers, (target, more) in zip(block, residuals, strict=True):
                seen = inner
                for layer in layers[:4]:
                    index = len(seen.addresses) - len(inner.addresses)
                    piece = grown[index : index + layer.out_planes]
                    program.convolve(layer, seen, piece, height, width)
                    seen = seen + piece
                program.convolve(layers[4], seen, target, height, width, residuals=[(RESIDUAL_SCALE, inner), *more])
                inner = target
            source = x
        program.convolve(body_end, source, a, height, width, residuals=[(1.0, start)])
        shared.reset()
        tail.add_to_plan(program, a, height, width, rows, shared.address, tail_bytes)
        return program

    return compile_plan


class UpsampleTail:
    """The enlarged end of an RRDBNet, made in strips: every doubling, one more convolution, and the colours."""

    def __init__(
        self,
        library: NativeLibrary,
        up_convs: list[PrepackedConv],
        hr_conv: PrepackedConv,
        last_conv: PrepackedConv,
        out_channels: int,
    ) -> None:
        self._vector_width = library.vector_width
        self._up_convs, self._hr_conv, self._last_conv = up_convs, hr_conv, last_conv
        self._out_channels = out_channels

    def fit_strips(self, plan: ExecutionPlan, height: int, width: int, budget_bytes: int) -> tuple[int, int]:
        """(rows of the result in a strip, bytes that it takes), the most that fit the budget, if any do."""
        for rows in range(MAX_STRIP_ROWS, 0, -6):
            sizes = [
                self._strip_bytes(plan, part, height, width)
                for part in split_range(height << len(self._up_convs), rows)
            ]
            if max(sizes) <= budget_bytes or rows <= 10:
                return rows, max(sizes)
        raise AssertionError("unreachable: the smallest strip is always taken")

    def add_to_plan(
        self, plan: ExecutionPlan, source: Planes, height: int, width: int, rows: int, address: int, size: int
    ) -> None:
        """Append the steps from the trunk's result (height x width) to the target picture, in [at, at + size)."""
        doublings = len(self._up_convs)
        full = (height << doublings, width << doublings)
        for part in split_range(full[0], rows):
            memory = MemoryBlock(address, size)
            spans = self._row_spans(part, height)
            buffers = self._allocate_buffers(plan, memory, spans, width)
            inner = source
            for level, (up, target) in enumerate(zip(self._up_convs, buffers, strict=False), start=1):
                area = PixelRect(target.first_row, target.end_row, 0, width << level)
                plan.convolve(up, inner, target, height << level, width << level, rect=area, upsample=True)
                inner = target
            hr = buffers[-1]
            plan.convolve(self._hr_conv, inner, hr, *full, rect=PixelRect(hr.first_row, hr.end_row, 0, full[1]))
            plan.convolve_output(self._last_conv, hr, self._out_channels, *full, rect=PixelRect(*part, 0, full[1]))

    def _row_spans(self, strip: tuple[int, int], height: int) -> list[tuple[int, int, int]]:
        """(level, first row, end) of what each convolution but the last must make for the rows `part` of the result."""
        top = len(self._up_convs)
        first, end = strip
        first, end = max(first - 1, 0), min(end + 1, height << top)
        spans = [(top, first, end)]
        first, end = max(first - 1, 0), min(end + 1, height << top)
        for level in range(top, 0, -1):
            first -= first % 2  # Enlarging starts at an even row.
            spans.append((level, first, end))
            first, end = max((first - 1) // 2, 0), min(end // 2 + 1, height << level >> 1)
        return spans[::-1]

    def _strip_convs(self) -> list[PrepackedConv]:
        return [*self._up_convs, self._hr_conv]

    def _ping_pong_bytes(self, plan: ExecutionPlan, spans: list[tuple[int, int, int]], width: int) -> list[int]:
        """Bytes of the two buffers that the convolutions take turns with: each reads one and writes the other."""
        sizes = [
            plan.planes_bytes(conv.out_planes * self._vector_width, end - first, width << level)
            for conv, (level, first, end) in zip(self._strip_convs(), spans, strict=True)
        ]
        return [max(sizes[0::2]), max(sizes[1::2], default=0)]

    def _strip_bytes(self, plan: ExecutionPlan, strip: tuple[int, int], height: int, width: int) -> int:
        return sum(self._ping_pong_bytes(plan, self._row_spans(strip, height), width))

    def _allocate_buffers(
        self, plan: ExecutionPlan, memory: MemoryBlock, spans: list[tuple[int, int, int]], width: int
    ) -> list[Planes]:
        halves = [MemoryBlock(memory.allocate(size), size) for size in self._ping_pong_bytes(plan, spans, width)]
        result = []
        for index, (conv, (level, first, end)) in enumerate(zip(self._strip_convs(), spans, strict=True)):
            half = halves[index % 2]
            half.reset()
            result.append(
                plan.allocate_planes(
                    half, conv.out_planes * self._vector_width, end - first, width << level, first_row=first
                )
            )
        return result
