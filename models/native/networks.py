"""The two networks as programs: which steps, in which memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from ..rrdb import DAMPING, SLOPE, RRDBNet
from ..srvgg import SRVGGNetCompact
from .library import OUT, Library, Memory, Store
from .program import Area, Filters, Planes, Program, colour_filters, filters, strips

# The enlarged end of an RRDBNet runs in strips of rows. They use the memory that the trunk no longer needs, or this
# much: enough rows for the two that are computed twice at every seam not to matter.
TAIL_BYTES = 32 << 20
MOST_ROWS = 32 * 6 - 2  # With one more on either side a whole number of Winograd's patches.
# Pixels by which every second layer's blocks lie higher and further left. A block is rounded as a whole, so what
# changes in the input spreads through it: by 6 pixels a layer with blocks in line, by 3 with each half a block off.
SHIFT = OUT // 2

# (height, width of the input, what of it is wanted enlarged or None for all) -> program, the one to run from then on.
Compiler: TypeAlias = Callable[[int, int, "Area | None"], Program]


def srvgg_reach(network: SRVGGNetCompact, layers: int | None = None) -> int:
    """Pixels that a change of the input reaches through so many convolutions of CompactCompiler's, all by default, to
    the last bit: 1 for the first, a whole block for the next, from its own edge on SHIFT for each of the others.
    """
    layers = network.config.convs + 2 if layers is None else layers
    return 1 + OUT + SHIFT * (layers - 2)


def halfway(network: SRVGGNetCompact) -> int:
    """How many convolutions the first of two steps has; 0 for a network that is too short for two.

    An even number follows, so that blocks of the middle lie as those of the result do.
    """
    convs = network.config.convs
    return convs + 2 - (convs + 2) // 4 * 2 if convs > 1 else 0


class CompactCompiler:
    """Transforms the weights of a compact network; makes programs: (in_channels, h, w) -> the network's result.

    Of a wanted part each layer makes what the next one reads, in the blocks of the whole: results have the same bits.

    What is renewed again and again runs in two steps, and what the `middle` layers of them make is kept for the whole
    picture. Else the first layer would make anew what changed, as far as it reaches through all layers, and as much
    again around that, for the last one to read.
    """

    def __init__(self, library: Library, network: SRVGGNetCompact) -> None:
        self._config = network.config
        slopes = [*(_slope(activation) for activation in network.body[1::2]), None]
        convs = list(zip(network.body[::2], slopes, strict=True))
        self._library = library
        self._first = colour_filters(library, convs[0][0], slope=convs[0][1])
        self._layers = [filters(library, conv, slope=slope) for conv, slope in convs[1:]]  # numbered from 1 on
        self._count = len(convs)
        self.middle = halfway(network)
        self._held, self._kept, self._scratch = Store(library), Store(library), Store(library)

    def __call__(self, height: int, width: int, wanted: Area | None) -> Program:
        """The whole network, for all of the result or a part of it."""
        program = Program(self._library, self._scratch)
        turns = self._turns(program, height, width, exact=wanted is None)
        self._add(program, turns, height, width, wanted or Area(0, height, 0, width), 0, self._count)
        return program

    def make_room(self, height: int, width: int) -> None:
        """For what the two steps need, and keep. Raises MemoryError, and keeps nothing then."""
        program = Program(self._library, self._scratch)
        try:
            self._middle(program, height, width)
            self._turns(program, height, width)
        except MemoryError:
            self.drop()
            raise

    def until_middle(self, height: int, width: int, changed: Area) -> Program:
        """Renews that part of what is kept; the picture's result is left alone."""
        program = Program(self._library, self._scratch)
        kept, turns = self._middle(program, height, width), self._turns(program, height, width)
        self._add(program, turns, height, width, changed, 0, self.middle, kept)
        return program

    def from_middle(self, height: int, width: int, wanted: Area) -> Program:
        """That part of the result, of what is kept."""
        program = Program(self._library, self._scratch)
        kept, turns = self._middle(program, height, width), self._turns(program, height, width)
        self._add(program, turns, height, width, wanted, self.middle, self._count, kept)
        return program

    def kept_bytes(self, height: int, width: int) -> int:
        """What is kept of a picture's middle, beside the memory of every program."""
        return Program(self._library, self._scratch).planes_bytes(self._config.features, height, width)

    def drop(self) -> None:
        """Nothing is kept any more."""
        self._kept.drop()

    def _turns(self, program: Program, height: int, width: int, *, exact: bool = False) -> list[Planes]:
        """What layers read and write in turns. Parts come between whole pictures, so what those need is kept."""
        features = self._config.features
        memory = self._held.take(2 * program.planes_bytes(features, height, width), exact=exact)
        return [program.planes(memory, features, height, width) for _ in range(2)]

    def _middle(self, program: Program, height: int, width: int) -> Planes:
        memory = self._kept.take(self.kept_bytes(height, width), exact=True)
        return program.planes(memory, self._config.features, height, width)

    def _add(
        self,
        program: Program,
        turns: list[Planes],
        height: int,
        width: int,
        wanted: Area,
        begin: int,
        end: int,
        kept: Planes | None = None,
    ) -> None:
        """The layers begin ... end - 1, the last of which makes `wanted`. kept: what they start or end with, where that
        is not the picture and its result.
        """
        areas = shrinking(wanted, height, width, end - max(begin, 1), self._count - end)
        source, (target, other) = kept, turns
        if begin == 0:
            program.first(self._first, target, height, width, areas[0])
            source, target, other = target, other, target
        for number, area in enumerate(areas[1:], start=max(begin, 1)):
            assert source is not None, "layers but the first start with planes"
            layer = self._layers[number - 1]
            if number < self._count - 1:
                made = target if number < end - 1 or kept is None else kept
                program.convolve(layer, source, made, height, width, area=area)
                source, target, other = made, other, target
                continue
            program.last(
                layer,
                source,
                self._config.out_channels,
                height,
                width,
                area=area,
                part=wanted,
                shuffle=self._config.scale,
                add_skip=True,
            )


def shrinking(wanted: Area, height: int, width: int, layers: int, after: int = 0) -> list[Area]:
    """What must be made of a picture of height x width so that the last layer makes `wanted`: by what comes before, and
    by each of so many layers in blocks. after: how many more layers of the network follow. Blocks of its very last
    start where the picture does; those of the layer before it lie SHIFT higher and further left, and so on in turns.
    """
    areas, needed = [], wanted
    for before_last in range(after, after + layers):
        shift = -SHIFT * (before_last % 2)
        top, left = (start - (start - shift) % OUT for start in (needed.top, needed.left))
        areas.append(Area(top, needed.bottom, left, needed.right))
        # A block is made of the pixels that it covers and one more on each side, also where it ends outside.
        bottom, right = (end + (shift - end) % OUT for end in (needed.bottom, needed.right))
        needed = Area(max(top - 1, 0), min(bottom + 1, height), max(left - 1, 0), min(right + 1, width))
    return [needed, *reversed(areas)]


def _slope(activation: nn.Module) -> Tensor:
    """What negative results are multiplied by, per channel or one for all."""
    if isinstance(activation, nn.PReLU):
        return activation.weight
    return torch.tensor([activation.negative_slope if isinstance(activation, nn.LeakyReLU) else 0.0])


def rrdb_compiler(library: Library, network: RRDBNet) -> Compiler:
    """Transforms the weights; the result makes programs: (in_channels * unshuffle^2, h, w), folded -> enlarged."""
    config = network.config
    features, growth = config.features, config.growth
    leaky = torch.tensor([SLOPE])

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
