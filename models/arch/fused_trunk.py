"""The dense blocks of an RRDBNet, with one kernel for each convolution."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from . import fused_convolution as kernels

if TYPE_CHECKING:
    from .rrdb import RRDB, DenseBlock


class FusedTrunk:
    """The blocks of an RRDBNet in Triton, for inference.

    (B, features, h, w) -> the same shape, in channels_last.

    Each convolution writes behind its own input, so that nothing is concatenated: a buffer (B, h, w, features + 4 *
    growth) holds the input of a dense block and the results of its convolutions, the last of which goes to the start
    of the next buffer. Three buffers suffice: that of an RRDB's input also receives its result. Outside of its
    convolutions a block in torch moves 20 times the bytes.

    The weights are copied, as (3, 3, in, out).
    """

    def __init__(self, blocks: Iterable[RRDB], *, slope: float, scale: float) -> None:
        self._slope, self._scale = slope, scale
        self._blocks = [tuple(_pack(dense) for dense in (block.rdb1, block.rdb2, block.rdb3)) for block in blocks]

    def __call__(self, x: Tensor) -> Tensor:
        features, growth = x.shape[1], self._blocks[0][0][0][1].shape[0]
        batch, _, height, width = x.shape
        buffers = x.new_empty(3, batch, height, width, features + 4 * growth)
        first, second, third = buffers
        first[..., :features] = x.movedim(1, 3)
        for dense1, dense2, dense3 in self._blocks:
            self._run(dense1, first, second, kernels.RESIDUAL)
            self._run(dense2, second, third, kernels.RESIDUAL)
            self._run(dense3, third, first, kernels.OUTER_RESIDUAL)
        return first[..., :features].contiguous().movedim(3, 1)

    def _run(self, layers: list[tuple[Tensor, Tensor]], source: Tensor, target: Tensor, epilogue: int) -> None:
        precision = "tf32" if torch.backends.cudnn.allow_tf32 else "ieee"
        for weight, bias in layers:
            is_last = weight is layers[-1][0]
            kernels.convolve(
                source,
                weight,
                bias,
                target if is_last else source[..., weight.shape[2] :],
                epilogue if is_last else kernels.LEAKY_RELU,
                slope=self._slope,
                scale=self._scale,
                precision=precision,
            )


def _pack(dense: DenseBlock) -> list[tuple[Tensor, Tensor]]:
    convolutions = (dense.conv1, dense.conv2, dense.conv3, dense.conv4, dense.conv5)
    return [(conv.weight.detach().permute(2, 3, 1, 0).contiguous(), _bias(conv)) for conv in convolutions]


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None, "every convolution of an RRDBNet has a bias"
    return conv.bias.detach()
