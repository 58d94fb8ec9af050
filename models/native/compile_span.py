"""Compile a SPAN to execution plans, for full frames and regions of interest."""

from __future__ import annotations

from ..arch.span import BLOCKS, SPAN
from .bindings import OUTPUT_TILE, Activation, Arena, NativeLibrary
from .compile_srvgg import TILE_SHIFT, layer_rects
from .plan import ExecutionPlan, PixelRect, PlanCompiler
from .prepack import prepack_conv, prepack_input_conv, prepack_pointwise

CONVS = 3 * BLOCKS + 3  # one after another, each of 3x3


def span_exact_halo() -> int:
    """Pixels around a change of the input that its result reaches.

    Outside of them results stay bit-identical; see `srvgg_exact_halo`.
    """
    return 1 + OUTPUT_TILE + TILE_SHIFT * (CONVS - 2)


def make_span_compiler(library: NativeLibrary, network: SPAN) -> PlanCompiler:
    """Prepack the weights, and return a compiler of plans for them.

    A plan: (in_channels, h, w), after `SPAN.normalize` -> the network's result. For
    a region of interest each layer computes what the next one reads.
    """
    config = network.config
    features = config.features

    first = prepack_input_conv(library, network.conv_1.eval_conv)
    blocks = [
        tuple(prepack_conv(library, block.get_submodule(f"c{index}_r.eval_conv")) for index in (1, 2, 3))
        for block in (network.get_submodule(f"block_{number}") for number in range(1, BLOCKS + 1))
    ]
    join = prepack_pointwise(library, network.conv_cat, [features] * 4)
    second, last = prepack_conv(library, network.conv_2.eval_conv), prepack_conv(library, network.upsampler[0])
    planes_arena, scratch_arena = Arena(library), Arena(library)

    def compile_plan(height: int, width: int, roi: PixelRect | None) -> ExecutionPlan:
        plan = ExecutionPlan(library, scratch_arena)
        size = height, width
        # Regions alternate with full frames, so their memory is kept.
        memory = planes_arena.reserve(7 * plan.planes_bytes(features, *size), exact=roi is None)
        shallow, after_first, x, y, a, b, joined = (plan.allocate_planes(memory, features, *size) for _ in range(7))
        target_rect = roi or PixelRect(0, height, 0, width)
        input_rect, *rects = layer_rects(target_rect, *size, CONVS - 1)
        joined_rect = layer_rects(target_rect, *size, 1)[0]

        plan.convolve_input(first, shallow, *size, input_rect)
        source = shallow
        for number, convs in enumerate(blocks):
            target = after_first if number == 0 else y if source is x else x
            r1, r2, r3 = rects[3 * number : 3 * number + 3]
            plan.convolve(convs[0], source, a, *size, rect=r1, activation=Activation.SILU)
            plan.convolve(convs[1], a, b, *size, rect=r2, activation=Activation.SILU)
            plan.convolve(convs[2], b, target, *size, rect=r3, activation=Activation.ATTENTION, gate=source)
            source = target
        plan.convolve(second, source, b, *size, rect=rects[-2])
        # `a` still holds the activations after the first convolution of the last block.
        plan.convolve_pointwise(join, shallow + b + after_first + a, joined, *size, rect=joined_rect)
        plan.convolve_output(
            last,
            joined,
            config.out_channels,
            *size,
            rect=rects[-1],
            target_rect=target_rect,
            shuffle=config.scale,
        )
        return plan

    return compile_plan
