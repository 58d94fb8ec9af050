"""Compile an SRVGGNetCompact to execution plans.

For full frames, regions of interest, and partial updates with cached activations.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..arch.srvgg import SRVGGNetCompact
from .bindings import OUTPUT_TILE, Arena, NativeLibrary
from .plan import ExecutionPlan, PixelRect, Planes
from .prepack import CPU_FLOAT32, prepack_conv, prepack_input_conv

# Pixels by which the Winograd tiles of every second layer are shifted up and left. Rounding couples the pixels of a
# tile, so a change of the input spreads by up to 6 pixels per layer with aligned tiles, and by 3 with shifted ones.
TILE_SHIFT = OUTPUT_TILE // 2


def srvgg_exact_halo(network: SRVGGNetCompact, layers: int | None = None) -> int:
    """Pixels around a change of the input outside of which results stay bit-identical.

    layers: convolutions that are passed, default all. The first adds 1 pixel, the second a whole tile, each of the
    others TILE_SHIFT.
    """
    layers = network.config.convs + 2 if layers is None else layers
    return 1 + OUTPUT_TILE + TILE_SHIFT * (layers - 2)


def midpoint(network: SRVGGNetCompact) -> int:
    """Number of convolutions before the cached activations.

    0 for a network that is too short to be split. An even number of convolutions follows, so that the cached
    activations have the tile grid of the result.
    """
    convs = network.config.convs
    return convs + 2 - (convs + 2) // 4 * 2 if convs > 1 else 0


class SRVGGCompiler:
    """Compiler of plans for an SRVGGNetCompact, with prepacked weights.

    A plan: (in_channels, h, w) -> the network's result. For a region of interest each layer computes what the next one
    reads, on the tile grid of the full frame, so results are bit-identical to those of the full frame.

    Partial updates run in two stages, and the activations after the first `midpoint` layers are cached for the full
    frame. In one stage the first layer would recompute the halo of the whole network around a change, and as much again
    for the last layer to read.
    """

    def __init__(self, library: NativeLibrary, network: SRVGGNetCompact) -> None:
        self._config = network.config
        slopes = [*(_negative_slope(activation) for activation in network.body[1::2]), None]
        convs = list(zip(network.body[::2], slopes, strict=True))
        self._library = library
        self._input_conv = prepack_input_conv(library, convs[0][0], slope=convs[0][1])
        self._convs = [prepack_conv(library, conv, slope=slope) for conv, slope in convs[1:]]  # layers 1, 2, ...
        self._num_convs = len(convs)
        self.midpoint = midpoint(network)
        self._ping_pong_arena, self._cache_arena, self._scratch_arena = Arena(library), Arena(library), Arena(library)

    def __call__(self, height: int, width: int, roi: PixelRect | None) -> ExecutionPlan:
        """Compile the whole network, for the full frame or a region of interest."""
        plan = ExecutionPlan(self._library, self._scratch_arena)
        ping_pong = self._ping_pong_planes(plan, height, width, exact=roi is None)
        self._add_layers(plan, ping_pong, height, width, roi or PixelRect(0, height, 0, width), 0, self._num_convs)
        return plan

    def compile_to_midpoint(self, height: int, width: int, dirty_rect: PixelRect) -> ExecutionPlan:
        """Compile the first stage, which updates a rectangle of the cached activations."""
        plan = ExecutionPlan(self._library, self._scratch_arena)
        cached, ping_pong = self._midpoint_planes(plan, height, width), self._ping_pong_planes(plan, height, width)
        self._add_layers(plan, ping_pong, height, width, dirty_rect, 0, self.midpoint, cached)
        return plan

    def compile_from_midpoint(self, height: int, width: int, roi: PixelRect) -> ExecutionPlan:
        """Compile the second stage, from cached activations to a part of the result."""
        plan = ExecutionPlan(self._library, self._scratch_arena)
        cached, ping_pong = self._midpoint_planes(plan, height, width), self._ping_pong_planes(plan, height, width)
        self._add_layers(plan, ping_pong, height, width, roi, self.midpoint, self._num_convs, cached)
        return plan

    def cache_bytes(self, height: int, width: int) -> int:
        """Bytes of the cached activations of one frame."""
        return ExecutionPlan(self._library, self._scratch_arena).planes_bytes(self._config.features, height, width)

    def release_cache(self) -> None:
        """Free the cached activations."""
        self._cache_arena.release()

    def _ping_pong_planes(self, plan: ExecutionPlan, height: int, width: int, *, exact: bool = False) -> list[Planes]:
        """Two buffers that layers read and write in turn.

        exact: shrink the arena, which only full frames do: regions alternate with them, so their memory is kept.
        """
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
        """Add the layers start ... end - 1, the last of which computes `roi`.

        cached: the planes that the layers start from or end in, where that is not the source image or the result.
        """
        rects = layer_rects(roi, height, width, end - max(start, 1), self._num_convs - end)
        source, (target, other) = cached, ping_pong
        if start == 0:
            plan.convolve_input(self._input_conv, target, height, width, rects[0])
            source, target, other = target, other, target
        for number, rect in enumerate(rects[1:], start=max(start, 1)):
            assert source is not None, "only layer 0 reads the source image"
            conv = self._convs[number - 1]
            if number < self._num_convs - 1:
                result = target if number < end - 1 or cached is None else cached
                plan.convolve(conv, source, result, height, width, rect=rect)
                source, target, other = result, other, target
                continue
            plan.convolve_output(
                conv,
                source,
                self._config.out_channels,
                height,
                width,
                rect=rect,
                target_rect=roi,
                shuffle=self._config.scale,
                add_skip=True,
            )


def layer_rects(roi: PixelRect, height: int, width: int, layers: int, layers_after: int = 0) -> list[PixelRect]:
    """The rectangles that layers have to compute for a region of the result.

    roi: what the last layer computes of a frame of height x width.
    Returns layers + 1 rectangles: first what the layer before these has to provide, then those of the layers, in whole
    tiles at the top and left. layers_after: layers of the network that follow. Tiles of the network's last layer start
    at the frame's top left corner; those of every second layer before it are shifted up and left by TILE_SHIFT.
    """
    rects: list[PixelRect] = []
    needed = roi
    for before_last in range(layers_after, layers_after + layers):
        shift = -TILE_SHIFT * (before_last % 2)
        top, left = (start - (start - shift) % OUTPUT_TILE for start in (needed.top, needed.left))
        rects.append(PixelRect(top, needed.bottom, left, needed.right))
        # A tile reads one more pixel on each side than it covers, also where it extends beyond `needed`.
        bottom, right = (end + (shift - end) % OUTPUT_TILE for end in (needed.bottom, needed.right))
        needed = PixelRect(max(top - 1, 0), min(bottom + 1, height), max(left - 1, 0), min(right + 1, width))
    return [needed, *reversed(rects)]


def _negative_slope(activation: nn.Module) -> Tensor:
    """Factor of negative values: one per channel, or one for all."""
    if isinstance(activation, nn.PReLU):
        return activation.weight
    return torch.tensor([activation.negative_slope if isinstance(activation, nn.LeakyReLU) else 0.0], **CPU_FLOAT32)
