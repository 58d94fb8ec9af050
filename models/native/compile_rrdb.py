"""An RRDBNet as a program: its trunk whole, its enlarged end in strips."""

from __future__ import annotations

import torch
from torch import nn

from ..arch.rrdb import DAMPING, SLOPE, RRDBNet
from .bindings import Library, Memory, Store
from .plan import PLAIN, Area, Compiler, Filters, Planes, Program, filters, strips

# The enlarged end runs in strips of rows. They use the memory that the trunk no longer needs, or this much: enough rows
# for the two that are computed twice at every seam not to matter.
TAIL_BYTES = 32 << 20
MOST_ROWS = 32 * 6 - 2  # With one more on either side a whole number of Winograd's patches.


def rrdb_compiler(library: Library, network: RRDBNet) -> Compiler:
    """Transforms the weights; the result makes programs: (in_channels * unshuffle^2, h, w), folded -> enlarged."""
    config = network.config
    features, growth = config.features, config.growth
    leaky = torch.tensor([SLOPE], **PLAIN)

    def dense(block: nn.Module) -> list[Filters]:
        return [
            filters(
                library,
                block.get_submodule(f"conv{index + 1}"),
                (features, *[growth] * index),
                slope=leaky if index < 4 else None,
            )
            for index in range(5)
        ]

    first, body_end = filters(library, network.conv_first), filters(library, network.conv_body)
    blocks = [[dense(block.get_submodule(f"rdb{index}")) for index in (1, 2, 3)] for block in network.body]
    ups = [
        filters(library, network.get_submodule(f"conv_up{index + 1}"), slope=leaky) for index in range(config.doublings)
    ]
    hr, last = filters(library, network.conv_hr, slope=leaky), filters(library, network.conv_last)
    tail = Tail(library, ups, hr, last, config.out_channels)
    kept_store, shared_store, scratch = Store(library), Store(library), Store(library)

    def compile_for(height: int, width: int, wanted: Area | None) -> Program:
        if wanted is not None:
            raise ValueError("the blocks of an RRDBNet reach so far that it is only made whole")
        program = Program(library, scratch)
        grown_channels = 4 * library.planes(growth) * library.vector  # Each growth starts a plane of its own.
        sizes = (network.conv_first.in_channels, features, features, features, grown_channels)
        trunk_bytes = sum(program.planes_bytes(count, height, width) for count in sizes)
        rows, tail_bytes = tail.fit(program, height, width, max(trunk_bytes, TAIL_BYTES))
        kept = kept_store.take(program.planes_bytes(features, height, width), exact=True)
        shared = shared_store.take(max(trunk_bytes, tail_bytes), exact=True)

        a = program.planes(kept, features, height, width)
        small, start, x, b, grown = (program.planes(shared, count, height, width) for count in sizes)
        program.pack(small, network.conv_first.in_channels, height, width)
        program.convolve(first, small, start, height, width)
        source = start
        for block in blocks:
            residuals = (a, []), (b, []), (x, [(DAMPING, source)])
            inner = source
            for layers, (target, more) in zip(block, residuals, strict=True):
                seen = inner
                for layer in layers[:4]:
                    index = len(seen.addresses) - len(inner.addresses)
                    piece = grown[index : index + layer.out_planes]
                    program.convolve(layer, seen, piece, height, width)
                    seen = seen + piece
                program.convolve(layers[4], seen, target, height, width, sums=[(DAMPING, inner), *more])
                inner = target
            source = x
        program.convolve(body_end, source, a, height, width, sums=[(1.0, start)])
        shared.rewind()
        tail.add(program, a, height, width, rows, shared.address, tail_bytes)
        return program

    return compile_for


class Tail:
    """The enlarged end of an RRDBNet, made in strips: every doubling, one more convolution, and the colours."""

    def __init__(self, library: Library, ups: list[Filters], hr: Filters, last: Filters, out_channels: int) -> None:
        self._vector = library.vector
        self._ups, self._hr, self._last = ups, hr, last
        self._out_channels = out_channels

    def fit(self, program: Program, height: int, width: int, budget: int) -> tuple[int, int]:
        """(rows of the result in a strip, bytes that it takes), the most that fit the budget, if any do."""
        for rows in range(MOST_ROWS, 0, -6):
            sizes = [self._bytes(program, part, height, width) for part in strips(height << len(self._ups), rows)]
            if max(sizes) <= budget or rows <= 10:
                return rows, max(sizes)
        raise AssertionError("unreachable: the smallest strip is always taken")

    def add(self, program: Program, source: Planes, height: int, width: int, rows: int, at: int, size: int) -> None:
        """Append the steps from the trunk's result (height x width) to the target picture, in [at, at + size)."""
        doublings = len(self._ups)
        full = (height << doublings, width << doublings)
        for part in strips(full[0], rows):
            memory = Memory(at, size)
            spans = self._spans(part, height)
            buffers = self._carve(program, memory, spans, width)
            inner = source
            for level, (up, target) in enumerate(zip(self._ups, buffers, strict=False), start=1):
                area = Area(target.row, target.end, 0, width << level)
                program.convolve(up, inner, target, height << level, width << level, area=area, up=True)
                inner = target
            hr = buffers[-1]
            program.convolve(self._hr, inner, hr, *full, area=Area(hr.row, hr.end, 0, full[1]))
            program.last(self._last, hr, self._out_channels, *full, area=Area(*part, 0, full[1]))

    def _spans(self, part: tuple[int, int], height: int) -> list[tuple[int, int, int]]:
        """(level, first row, end) of what each convolution but the last must make for the rows `part` of the result."""
        top = len(self._ups)
        first, end = part
        first, end = max(first - 1, 0), min(end + 1, height << top)
        spans = [(top, first, end)]
        first, end = max(first - 1, 0), min(end + 1, height << top)
        for level in range(top, 0, -1):
            first -= first % 2  # Enlarging starts at an even row.
            spans.append((level, first, end))
            first, end = max((first - 1) // 2, 0), min(end // 2 + 1, height << level >> 1)
        return spans[::-1]

    def _filters(self) -> list[Filters]:
        return [*self._ups, self._hr]

    def _halves(self, program: Program, spans: list[tuple[int, int, int]], width: int) -> list[int]:
        """Bytes of the two buffers that the convolutions take turns with: each reads one and writes the other."""
        sizes = [
            program.planes_bytes(conv.out_planes * self._vector, end - first, width << level)
            for conv, (level, first, end) in zip(self._filters(), spans, strict=True)
        ]
        return [max(sizes[0::2]), max(sizes[1::2], default=0)]

    def _bytes(self, program: Program, part: tuple[int, int], height: int, width: int) -> int:
        return sum(self._halves(program, self._spans(part, height), width))

    def _carve(self, program: Program, memory: Memory, spans: list[tuple[int, int, int]], width: int) -> list[Planes]:
        halves = [Memory(memory.take(size), size) for size in self._halves(program, spans, width)]
        result = []
        for index, (conv, (level, first, end)) in enumerate(zip(self._filters(), spans, strict=True)):
            half = halves[index % 2]
            half.rewind()
            result.append(program.planes(half, conv.out_planes * self._vector, end - first, width << level, row=first))
        return result
