"""A compact network as a program: the whole of it, a part of its result, or what must be renewed of that."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..arch.srvgg import SRVGGNetCompact
from .bindings import OUTPUT_TILE, Arena, NativeLibrary
from .plan import CPU_FLOAT32, ExecutionPlan, PixelRect, Planes, prepack_conv, prepack_input_conv

# Pixels by which every second layer's blocks lie higher and further left. A block is rounded as a whole, so what
# changes in the input spreads through it: by 6 pixels a layer with blocks in line, by 3 with each half a block off.
TILE_SHIFT = OUTPUT_TILE // 2


def srvgg_exact_halo(network: SRVGGNetCompact, layers: int | None = None) -> int:
    """Pixels that a change of the input reaches through so many convolutions of CompactCompiler's, all by default, to
    the last bit: 1 for the first, a whole block for the next, from its own edge on SHIFT for each of the others.
    """
    layers = network.config.convs + 2 if layers is None else layers
    return 1 + OUTPUT_TILE + TILE_SHIFT * (layers - 2)


def midpoint(network: SRVGGNetCompact) -> int:
    """How many convolutions the first of two steps has; 0 for a network that is too short for two.

    An even number follows, so that blocks of the middle lie as those of the result do.
    """
    convs = network.config.convs
    return convs + 2 - (convs + 2) // 4 * 2 if convs > 1 else 0


class SRVGGCompiler:
    """Transforms the weights of a compact network; makes programs: (in_channels, h, w) -> the network's result.

    Of a wanted part each layer makes what the next one reads, in the blocks of the whole: results have the same bits.

    What is renewed again and again runs in two steps, and what the first `middle` layers make is kept of the whole
    picture. Else the first layer would make anew all that a change reaches through the whole network, and as much again
    around that, for the last one to read.
    """

    def __init__(self, library: NativeLibrary, network: SRVGGNetCompact) -> None:
        self._config = network.config
        slopes = [*(_negative_slope(activation) for activation in network.body[1::2]), None]
        convs = list(zip(network.body[::2], slopes, strict=True))
        self._library = library
        self._input_conv = prepack_input_conv(library, convs[0][0], slope=convs[0][1])
        self._convs = [prepack_conv(library, conv, slope=slope) for conv, slope in convs[1:]]  # numbered from 1 on
        self._num_convs = len(convs)
        self.midpoint = midpoint(network)
        self._ping_pong_arena, self._cache_arena, self._scratch_arena = Arena(library), Arena(library), Arena(library)

    def __call__(self, height: int, width: int, roi: PixelRect | None) -> ExecutionPlan:
        """The whole network, for all of the result or a part of it."""
        program = ExecutionPlan(self._library, self._scratch_arena)
        turns = self._ping_pong_planes(program, height, width, exact=roi is None)
        self._add_layers(program, turns, height, width, roi or PixelRect(0, height, 0, width), 0, self._num_convs)
        return program

    def compile_to_midpoint(self, height: int, width: int, dirty_rect: PixelRect) -> ExecutionPlan:
        """Renews that part of what is kept; the picture's result is left alone."""
        program = ExecutionPlan(self._library, self._scratch_arena)
        kept, turns = self._midpoint_planes(program, height, width), self._ping_pong_planes(program, height, width)
        self._add_layers(program, turns, height, width, dirty_rect, 0, self.midpoint, kept)
        return program

    def compile_from_midpoint(self, height: int, width: int, roi: PixelRect) -> ExecutionPlan:
        """That part of the result, of what is kept."""
        program = ExecutionPlan(self._library, self._scratch_arena)
        kept, turns = self._midpoint_planes(program, height, width), self._ping_pong_planes(program, height, width)
        self._add_layers(program, turns, height, width, roi, self.midpoint, self._num_convs, kept)
        return program

    def cache_bytes(self, height: int, width: int) -> int:
        """What is kept of a picture's middle, beside the memory of every program."""
        return ExecutionPlan(self._library, self._scratch_arena).planes_bytes(self._config.features, height, width)

    def release_cache(self) -> None:
        """Nothing is kept any more."""
        self._cache_arena.release()

    def _ping_pong_planes(self, plan: ExecutionPlan, height: int, width: int, *, exact: bool = False) -> list[Planes]:
        """What layers read and write in turns. Parts come between whole pictures, so what those need is kept."""
        features = self._config.features
        memory = self._ping_pong_arena.reserve(2 * plan.planes_bytes(features, height, width), exact=exact)
        return [plan.allocate_planes(memory, features, height, width) for _ in range(2)]

    def _midpoint_planes(self, plan: ExecutionPlan, height: int, width: int) -> Planes:
        memory = self._cache_arena.reserve(self.cache_bytes(height, width), exact=True)
        return plan.allocate_planes(memory, self._config.features, height, width)

    def _add_layers(
        self,
        plan: ExecutionPlan,
        ping_pong: list[Planes],
        height: int,
        width: int,
        roi: PixelRect,
        start: int,
        end: int,
        cached: Planes | None = None,
    ) -> None:
        """The layers begin ... end - 1, the last of which makes `wanted`. kept: what they start or end with, where that
        is not the picture and its result.
        """
        areas = layer_rects(roi, height, width, end - max(start, 1), self._num_convs - end)
        source, (target, other) = cached, ping_pong
        if start == 0:
            plan.convolve_input(self._input_conv, target, height, width, areas[0])
            source, target, other = target, other, target
        for number, area in enumerate(areas[1:], start=max(start, 1)):
            assert source is not None, "layers but the first start with planes"
            layer = self._convs[number - 1]
            if number < self._num_convs - 1:
                made = target if number < end - 1 or cached is None else cached
                plan.convolve(layer, source, made, height, width, rect=area)
                source, target, other = made, other, target
                continue
            plan.convolve_output(
                layer,
                source,
                self._config.out_channels,
                height,
                width,
                rect=area,
                target_rect=roi,
                shuffle=self._config.scale,
                add_skip=True,
            )


def layer_rects(roi: PixelRect, height: int, width: int, layers: int, layers_after: int = 0) -> list[PixelRect]:
    """What must be made of a picture of height x width so that the last layer makes `wanted`: by what comes before, and
    by each of so many layers in blocks. after: how many more layers of the network follow. Blocks of its very last
    start where the picture does; those of the layer before it lie SHIFT higher and further left, and so on in turns.
    """
    areas, needed = [], roi
    for before_last in range(layers_after, layers_after + layers):
        shift = -TILE_SHIFT * (before_last % 2)
        top, left = (start - (start - shift) % OUTPUT_TILE for start in (needed.top, needed.left))
        areas.append(PixelRect(top, needed.bottom, left, needed.right))
        # A block is made of the pixels that it covers and one more on each side, also where it ends outside.
        bottom, right = (end + (shift - end) % OUTPUT_TILE for end in (needed.bottom, needed.right))
        needed = PixelRect(max(top - 1, 0), min(bottom + 1, height), max(left - 1, 0), min(right + 1, width))
    return [needed, *reversed(areas)]


def _negative_slope(activation: nn.Module) -> Tensor:
    """What negative results are multiplied by, per channel or one for all."""
    if isinstance(activation, nn.PReLU):
        return activation.weight
    return torch.tensor([activation.negative_slope if isinstance(activation, nn.LeakyReLU) else 0.0], **CPU_FLOAT32)
