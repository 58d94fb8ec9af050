"""A compact network as a program: the whole of it, a part of its result, or what must be renewed of that."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..arch.srvgg import SRVGGNetCompact
from .bindings import OUT, Library, Store
from .plan import PLAIN, Area, Planes, Program, colour_filters, filters

# Pixels by which every second layer's blocks lie higher and further left. A block is rounded as a whole, so what
# changes in the input spreads through it: by 6 pixels a layer with blocks in line, by 3 with each half a block off.
SHIFT = OUT // 2


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

    What is renewed again and again runs in two steps, and what the first `middle` layers make is kept of the whole
    picture. Else the first layer would make anew all that a change reaches through the whole network, and as much again
    around that, for the last one to read.
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
    return torch.tensor([activation.negative_slope if isinstance(activation, nn.LeakyReLU) else 0.0], **PLAIN)
