"""Compile a RealPLKSR to an execution plan of full frames."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ..arch.realplksr import PixelNorm, PLKBlock, RealPLKSR
from .bindings import Activation, Arena, NativeLibrary
from .plan import ExecutionPlan, PixelRect, PlanCompiler
from .prepack import (
    PrepackedConv,
    PrepackedNorm,
    prepack_conv,
    prepack_input_conv,
    prepack_large_conv,
    prepack_norm,
    prepack_pointwise,
)


@dataclass(frozen=True)
class PrepackedBlock:
    """The weights of a block.

    norm: the group norm at its end, or the layer norm at its start.
    """

    norm: PrepackedNorm
    widen: PrepackedConv
    narrow: PrepackedConv
    large: PrepackedConv
    attention: PrepackedConv | None
    refine: PrepackedConv


def make_realplksr_compiler(library: NativeLibrary, network: RealPLKSR) -> PlanCompiler:
    """Prepack the weights, and return a compiler of plans for them.

    A plan: (in_channels, h, w) -> the network's result.
    """
    config = network.config
    features = config.features

    def prepack_block(block: nn.Module) -> PrepackedBlock:
        assert isinstance(block, PLKBlock)
        if isinstance(block.layer_norm, PixelNorm):
            pixel_norm = block.layer_norm
            norm = prepack_norm(library, pixel_norm.weight, pixel_norm.bias, epsilon=pixel_norm.epsilon)
        else:
            assert isinstance(block.norm, nn.GroupNorm)
            norm = prepack_norm(
                library, block.norm.weight, block.norm.bias, groups=block.norm.num_groups, epsilon=block.norm.eps
            )
        return PrepackedBlock(
            norm,
            prepack_conv(library, block.channel_mixer[0]),
            prepack_conv(library, block.channel_mixer[2]),
            prepack_large_conv(library, block.lk.conv, features),
            prepack_conv(library, block.attn.get_submodule("f.0")) if config.attention else None,
            prepack_pointwise(library, block.refine),
        )

    first = prepack_input_conv(library, network.feats[0])
    blocks = [prepack_block(network.feats[index]) for index in range(1, 1 + config.blocks)]
    last = prepack_conv(library, network.feats[-1])
    planes_arena, scratch_arena = Arena(library), Arena(library)

    def compile_plan(height: int, width: int, roi: PixelRect | None) -> ExecutionPlan:
        if roi is not None:
            raise ValueError("a RealPLKSR has too large a receptive field for a region of interest; run full frames")
        plan = ExecutionPlan(library, scratch_arena)
        size = height, width
        channel_counts = (features, 2 * features, features, features, config.kernel_channels)
        sums_bytes = plan.row_sums_bytes(blocks[0].norm, height)
        planes_bytes = sum(plan.planes_bytes(count, *size) for count in channel_counts)
        memory = planes_arena.reserve(planes_bytes + sums_bytes, exact=True)
        x, wide, mixed, gated, large = (plan.allocate_planes(memory, count, *size) for count in channel_counts)
        row_sums = memory.allocate(sums_bytes)

        plan.convolve_input(first, x, *size)
        for block in blocks:
            source = x
            if config.layer_norm:
                source = gated  # free until the attention
                plan.normalize_pixels(block.norm, x, source, *size)
            plan.convolve(block.widen, source, wide, *size, activation=Activation.MISH)
            plan.convolve(block.narrow, wide, mixed, *size)
            plan.convolve_large(block.large, mixed, large, *size)
            result, other = large + mixed[block.large.out_planes :], gated
            if block.attention:
                plan.convolve(block.attention, result, gated, *size, activation=Activation.GATE, gate=result)
                result, other = gated, mixed
            if config.layer_norm:
                plan.convolve_pointwise(block.refine, result, x, *size, residual=x)
            else:
                plan.convolve_pointwise(block.refine, result, other, *size, row_sums=row_sums)
                plan.normalize_groups(block.norm, other, x, row_sums, *size)
        plan.convolve_output(last, x, config.out_channels, *size, shuffle=config.scale, add_skip=True)
        return plan

    return compile_plan
