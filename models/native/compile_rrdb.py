"""Compile an RRDBNet to an execution plan.

The trunk runs on full frames, the upsampling tail in strips of rows.
"""

from __future__ import annotations

import torch
from torch import nn

from ..arch.rrdb import NEGATIVE_SLOPE, RESIDUAL_SCALE, RRDBNet
from .bindings import Arena, MemoryBlock, NativeLibrary
from .plan import ExecutionPlan, PixelRect, PlanCompiler, Planes, split_range
from .prepack import CPU_FLOAT32, PrepackedConv, prepack_conv

# Strips of the tail use the memory that the trunk no longer needs, or this much: enough rows for the two that are
# computed twice at every seam not to matter.
TAIL_BUDGET_BYTES = 32 << 20
MAX_STRIP_ROWS = 32 * 6 - 2  # with one more on either side a whole number of Winograd tiles


def make_rrdb_compiler(library: NativeLibrary, network: RRDBNet) -> PlanCompiler:
    """Prepack the weights, and return a compiler of plans for them.

    A plan takes a pixel-unshuffled image (in_channels * unshuffle^2, h, w).
    """
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

    conv_first, conv_body = prepack_conv(library, network.conv_first), prepack_conv(library, network.conv_body)
    blocks = [
        [prepack_dense_block(block.get_submodule(f"rdb{index}")) for index in (1, 2, 3)] for block in network.body
    ]
    up_convs = [
        prepack_conv(library, network.get_submodule(f"conv_up{index + 1}"), slope=leaky)
        for index in range(config.doublings)
    ]
    hr_conv, last_conv = prepack_conv(library, network.conv_hr, slope=leaky), prepack_conv(library, network.conv_last)
    tail = UpsampleTail(library, up_convs, hr_conv, last_conv, config.out_channels)
    result_arena, shared_arena, scratch_arena = Arena(library), Arena(library), Arena(library)

    def compile_plan(height: int, width: int, roi: PixelRect | None) -> ExecutionPlan:
        if roi is not None:
            raise ValueError("an RRDBNet has too large a receptive field for a region of interest; run full frames")
        plan = ExecutionPlan(library, scratch_arena)
        growth_channels = 4 * library.plane_count(growth) * library.vector_width  # each growth starts a new plane
        channel_counts = (network.conv_first.in_channels, features, features, features, growth_channels)
        trunk_bytes = sum(plan.planes_bytes(count, height, width) for count in channel_counts)
        rows, tail_bytes = tail.fit_strips(plan, height, width, max(trunk_bytes, TAIL_BUDGET_BYTES))
        result = result_arena.reserve(plan.planes_bytes(features, height, width), exact=True)
        shared = shared_arena.reserve(max(trunk_bytes, tail_bytes), exact=True)

        a = plan.allocate_planes(result, features, height, width)
        packed, first, x, b, grown = (plan.allocate_planes(shared, count, height, width) for count in channel_counts)
        plan.pack(packed, network.conv_first.in_channels, height, width)
        plan.convolve(conv_first, packed, first, height, width)
        block_input = first
        for block in blocks:
            # Target and further residuals of each dense block.
            targets: list[tuple[Planes, list[tuple[float, Planes]]]]
            targets = [(a, []), (b, []), (x, [(RESIDUAL_SCALE, block_input)])]
            dense_input = block_input
            for convs, (target, block_residual) in zip(block, targets, strict=True):
                concatenated = dense_input
                for conv in convs[:4]:
                    index = len(concatenated.addresses) - len(dense_input.addresses)
                    new = grown[index : index + conv.out_planes]
                    plan.convolve(conv, concatenated, new, height, width)
                    concatenated = concatenated + new
                residuals = [(RESIDUAL_SCALE, dense_input), *block_residual]
                plan.convolve(convs[4], concatenated, target, height, width, residuals=residuals)
                dense_input = target
            block_input = x
        plan.convolve(conv_body, block_input, a, height, width, residuals=[(1.0, first)])
        shared.reset()
        tail.add_to_plan(plan, a, height, width, rows, shared.address, tail_bytes)
        return plan

    return compile_plan


class UpsampleTail:
    """The tail of an RRDBNet in strips of rows: doublings, conv_hr and conv_last."""

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
        """Rows of the result in a strip, and its bytes.

        The tallest strip within the budget, else the smallest.
        """
        for rows in range(MAX_STRIP_ROWS, 0, -6):
            sizes = [
                self._strip_bytes(plan, strip, height, width)
                for strip in split_range(height << len(self._up_convs), rows)
            ]
            if max(sizes) <= budget_bytes or rows <= 10:
                return rows, max(sizes)
        raise AssertionError("unreachable: the smallest strip is always taken")

    def add_to_plan(
        self, plan: ExecutionPlan, source: Planes, height: int, width: int, rows: int, address: int, size: int
    ) -> None:
        """Append the operations from the trunk's result to the target image.

        height, width: of the trunk. They work in the memory [address, address + size).
        """
        doublings = len(self._up_convs)
        full = (height << doublings, width << doublings)
        for strip in split_range(full[0], rows):
            memory = MemoryBlock(address, size)
            spans = self._row_spans(strip, height)
            buffers = self._allocate_buffers(plan, memory, spans, width)
            conv_input = source
            for level, (up_conv, target) in enumerate(zip(self._up_convs, buffers, strict=False), start=1):
                rect = PixelRect(target.first_row, target.end_row, 0, width << level)
                plan.convolve(up_conv, conv_input, target, height << level, width << level, rect=rect, upsample=True)
                conv_input = target
            hr = buffers[-1]
            plan.convolve(self._hr_conv, conv_input, hr, *full, rect=PixelRect(hr.first_row, hr.end_row, 0, full[1]))
            plan.convolve_output(self._last_conv, hr, self._out_channels, *full, rect=PixelRect(*strip, 0, full[1]))

    def _row_spans(self, strip: tuple[int, int], height: int) -> list[tuple[int, int, int]]:
        """(level, first row, end row) of each convolution but the last, for a strip."""
        top = len(self._up_convs)
        first, end = strip
        first, end = max(first - 1, 0), min(end + 1, height << top)
        spans = [(top, first, end)]
        first, end = max(first - 1, 0), min(end + 1, height << top)
        for level in range(top, 0, -1):
            first -= first % 2  # upsampling starts at an even row
            spans.append((level, first, end))
            first, end = max((first - 1) // 2, 0), min(end // 2 + 1, height << level >> 1)
        return spans[::-1]

    def _strip_convs(self) -> list[PrepackedConv]:
        return [*self._up_convs, self._hr_conv]

    def _ping_pong_bytes(self, plan: ExecutionPlan, spans: list[tuple[int, int, int]], width: int) -> list[int]:
        """Bytes of the two buffers that the convolutions use in turn."""
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
        buffers: list[Planes] = []
        for index, (conv, (level, first, end)) in enumerate(zip(self._strip_convs(), spans, strict=True)):
            half = halves[index % 2]
            half.reset()
            channels = conv.out_planes * self._vector_width
            buffers.append(plan.allocate_planes(half, channels, end - first, width << level, first_row=first))
        return buffers
