"""RRDBNet, the generator of ESRGAN and Real-ESRGAN.

Wang et al. 2018, arXiv:1809.00219; Wang et al. 2021, arXiv:2107.10833.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .inference_memory import ConcatBuffers, run_tiled
from .state_dict import StateDict, count_keys, load_strict

NEGATIVE_SLOPE = 0.2  # of every LeakyReLU
RESIDUAL_SCALE = 0.2  # residuals are scaled down before they are added, which keeps deep trunks stable in training
# Trunk pixels beyond which the trained x4 networks stay within 1/255 of the untiled result.
EFFECTIVE_RECEPTIVE_RADIUS = 64
# Side, in trunk pixels, of the tiles in which results are upsampled. On a CPU their activations stay below 32 MB, above
# which malloc returns freed memory to the system and every tile pays for new pages.
TAIL_TILE_SIZE, TAIL_TILE_SIZE_CPU = 256, 64
TAIL_HALO = 2  # trunk pixels: the tail has two convolutions at the trunk's size, or more at larger sizes


@dataclass(frozen=True)
class RRDBConfig:
    """Hyper-parameters of an RRDBNet; defaults are those of the published 4x model.

    in_channels, out_channels: of the image. features: channels of the trunk. growth: channels that each convolution of
    a dense block adds. blocks: residual-in-residual dense blocks. scale: output size over input size, 1, 2, 4 or 8.
    unshuffle: 2 (Real-ESRGAN x2) or 4 (x1) moves that many pixels a side into channels first (pixel unshuffle), so that
    the trunk runs at a lower resolution; 1 does not.
    """

    in_channels: int = 3
    out_channels: int = 3
    features: int = 64
    blocks: int = 23
    growth: int = 32
    scale: int = 4
    unshuffle: int = 1

    def __post_init__(self) -> None:
        if self.unshuffle not in (1, 2, 4):
            raise ValueError(f"unshuffle must be 1, 2 or 4, got {self.unshuffle}")
        if self.scale not in (1, 2, 4, 8):
            raise ValueError(f"scale must be 1, 2, 4 or 8, got {self.scale}")

    @property
    def doublings(self) -> int:
        """Number of 2x upsampling steps in the tail."""
        return int(math.log2(self.scale * self.unshuffle))


class DenseBlock(nn.Module):
    """Five densely connected convolutions with a residual.

    Each convolution reads the input and all results before it.
    """

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, growth, 3, padding=1)
        self.conv2 = nn.Conv2d(features + growth, growth, 3, padding=1)
        self.conv3 = nn.Conv2d(features + 2 * growth, growth, 3, padding=1)
        self.conv4 = nn.Conv2d(features + 3 * growth, growth, 3, padding=1)
        self.conv5 = nn.Conv2d(features + 4 * growth, features, 3, padding=1)

    def forward(self, x: Tensor, concat_buffers: ConcatBuffers | None = None) -> Tensor:
        """(B, features, h, w) -> the same shape.

        concat_buffers: memory to concatenate in; results are bit-identical.
        """
        concat = _concat if concat_buffers is None else concat_buffers.concat
        concatenated = x
        for index, conv in enumerate((self.conv1, self.conv2, self.conv3, self.conv4)):
            concatenated = concat(concatenated, conv(concatenated), index, NEGATIVE_SLOPE)
        return _add_scaled_residual(self.conv5(concatenated), x)


class RRDB(nn.Module):
    """Residual-in-residual dense block: three dense blocks with one more residual."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(features, growth)
        self.rdb2 = DenseBlock(features, growth)
        self.rdb3 = DenseBlock(features, growth)

    def forward(self, x: Tensor, concat_buffers: ConcatBuffers | None = None) -> Tensor:
        residual = self.rdb1(x, concat_buffers)
        residual = self.rdb2(residual, concat_buffers)
        residual = self.rdb3(residual, concat_buffers)
        return _add_scaled_residual(residual, x)


class RRDBNet(nn.Module):
    """The generator of ESRGAN: a trunk of dense blocks and an upsampling tail.

    (B, in_channels, h, w) in [0, 1] -> (B, out_channels, h * scale, w * scale), about [0, 1] and not clamped.

    halo: input pixels around a tile that its result depends on. The exact radius of b blocks is 15 b + 4 trunk pixels,
    but beyond 64 the influence on the trained 4x networks is below 1/255 (at 48 it is not), so halo is limited to that.
    multiple: sizes and tile positions that are multiples of it need no padding; other sizes are padded by reflection.
    activation_bytes: memory per input pixel in float32, without gradients, in bytes.
    """

    fingerprint_name = "rrdb"  # in job.json; must not change

    def __init__(self, config: RRDBConfig = RRDBConfig()) -> None:
        super().__init__()
        self.config = config
        self.scale = config.scale
        self.in_channels = config.in_channels
        self.out_channels = config.out_channels
        self.halo = min(15 * config.blocks + 4, EFFECTIVE_RECEPTIVE_RADIUS) * config.unshuffle
        # 4 also for unshuffle 2, where 2 would do: spandrel pads so, and results should be the same.
        self.multiple = 1 if config.unshuffle == 1 else 4
        # The activations of a dense block and its neighbors, and the result.
        trunk = 2 * (config.features + 4 * config.growth) + 4 * config.features
        self.activation_bytes = 4.0 * (trunk / config.unshuffle**2 + 2 * config.out_channels * config.scale**2)

        features = config.features
        self.conv_first = nn.Conv2d(config.in_channels * config.unshuffle**2, features, 3, padding=1)
        self.body = nn.ModuleList(RRDB(features, config.growth) for _ in range(config.blocks))
        self.conv_body = nn.Conv2d(features, features, 3, padding=1)
        for index in range(1, config.doublings + 1):
            self.add_module(f"conv_up{index}", nn.Conv2d(features, features, 3, padding=1))
        self.conv_hr = nn.Conv2d(features, features, 3, padding=1)
        self.conv_last = nn.Conv2d(features, config.out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(x, self._run_blocks)

    def alternatives(self, *, has_triton: bool) -> dict[str, Callable[[Tensor], Tensor]]:
        """Other ways to compute `forward` at inference, by name.

        Results differ by rounding. They copy the weights as they are now. has_triton: whether kernels in Triton run on
        the network's device.
        """
        if not has_triton:
            return {}
        from .fused_trunk import FusedTrunk  # It needs Triton.

        blocks = cast("Iterable[RRDB]", self.body)
        return {
            "fused": partial(self._forward, run_blocks=FusedTrunk(blocks, slope=NEGATIVE_SLOPE, scale=RESIDUAL_SCALE))
        }

    def _forward(self, x: Tensor, run_blocks: Callable[[Tensor], Tensor]) -> Tensor:
        height, width = x.shape[-2:]
        if self.config.unshuffle > 1:
            x = F.pixel_unshuffle(pad_to_multiple(x, self.multiple), self.config.unshuffle)
        x = self.conv_first(x)  # (B, features, H, W)
        x = x + self.conv_body(run_blocks(x))
        x = self._run_tail(x)  # (B, out_channels, H * 2^doublings, W * 2^doublings)
        return x[..., : height * self.scale, : width * self.scale]

    def _run_blocks(self, x: Tensor) -> Tensor:
        channels = self.config.features + 4 * self.config.growth
        concat_buffers = ConcatBuffers.for_inference(x, channels, self.config.growth)
        for block in self.body:
            x = block(x, concat_buffers)
        return x

    def _run_tail(self, x: Tensor) -> Tensor:
        """Run the tail, in tiles at inference.

        Its upsampled feature maps would take most of the network's memory.
        """
        if torch.is_grad_enabled():
            return self._upsample_tail(x)
        return run_tiled(
            self._upsample_tail,
            x,
            tile_size=TAIL_TILE_SIZE_CPU if x.device.type == "cpu" else TAIL_TILE_SIZE,
            halo=TAIL_HALO,
            scale=2**self.config.doublings,
            out_channels=self.out_channels,
        )

    def _upsample_tail(self, x: Tensor) -> Tensor:
        """(B, features, H, W) of the trunk -> image (B, out_channels, H * k, W * k)."""
        for index in range(1, self.config.doublings + 1):
            conv = self.get_submodule(f"conv_up{index}")
            x = _leaky_relu(conv(F.interpolate(x, scale_factor=2, mode="nearest")))
        return self.conv_last(_leaky_relu(self.conv_hr(x)))


def _concat(previous: Tensor, new: Tensor, _index: int, _negative_slope: float) -> Tensor:
    return torch.cat((previous, _leaky_relu(new)), dim=1)


def _leaky_relu(x: Tensor) -> Tensor:
    """LeakyReLU, in place where autograd does not need the input."""
    return F.leaky_relu(x, NEGATIVE_SLOPE, inplace=not torch.is_grad_enabled())


def _add_scaled_residual(residual: Tensor, x: Tensor) -> Tensor:
    """residual * RESIDUAL_SCALE + x, in place where autograd permits it."""
    return residual * RESIDUAL_SCALE + x if torch.is_grad_enabled() else residual.mul_(RESIDUAL_SCALE).add_(x)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pad (B, C, h, w) at the right and bottom to multiples.

    The padding is a reflection, or repetition where sides are too short for one.
    """
    height, width = x.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    reflected_bottom, reflected_right = min(bottom, height - 1), min(right, width - 1)
    x = F.pad(x, (0, reflected_right, 0, reflected_bottom), mode="reflect")
    return F.pad(x, (0, right - reflected_right, 0, bottom - reflected_bottom), mode="replicate")


# ---- weights ----


def convolution_names(blocks: int, doublings: int) -> Iterator[tuple[str, str, str]]:
    """The names of every convolution, in the order in which they run.

    Three columns: here and in Real-ESRGAN; in the first ESRGAN code, where positions in nested Sequentials count
    activations too; in BSRGAN and RealSR.
    """
    yield "conv_first", "model.0", "conv_first"
    for block in range(blocks):
        for dense in (1, 2, 3):
            for conv in (1, 2, 3, 4, 5):
                yield (
                    f"body.{block}.rdb{dense}.conv{conv}",
                    f"model.1.sub.{block}.RDB{dense}.conv{conv}.0",
                    f"RRDB_trunk.{block}.RDB{dense}.conv{conv}",
                )
    yield "conv_body", f"model.1.sub.{blocks}", "trunk_conv"
    for index in range(1, doublings + 1):
        yield f"conv_up{index}", f"model.{3 * index}", f"upconv{index}"
    yield "conv_hr", f"model.{3 * doublings + 2}", "HRconv"
    yield "conv_last", f"model.{3 * doublings + 4}", "conv_last"


@dataclass(frozen=True)
class _KeyLayout:
    """One naming scheme of weights.

    column: of `convolution_names`. The templates are keys to detect the scheme and to count layers by.
    """

    column: int
    block_template: str  # a key of the {}th block, counted from 0
    doubling_template: str  # a key of an upsampling convolution, numbered in steps of `step`
    step: int = 1


_KEY_LAYOUTS = (
    _KeyLayout(0, "body.{}.rdb1.conv1.weight", "conv_up{}.weight"),
    _KeyLayout(1, "model.1.sub.{}.RDB1.conv1.0.weight", "model.{}.weight", step=3),
    _KeyLayout(2, "RRDB_trunk.{}.RDB1.conv1.weight", "upconv{}.weight"),
)


def matches(state: StateDict) -> bool:
    """Whether these are weights of an RRDBNet in any of the three layouts.

    ESRGAN+, whose blocks have a conv1x1, is left to spandrel.
    """
    has_blocks = any(layout.block_template.format(0) in state for layout in _KEY_LAYOUTS)
    return has_blocks and not any(".conv1x1." in key for key in state)


def build(state: StateDict) -> RRDBNet:
    """Build the network of these weights (float32, any of the three layouts).

    All hyper-parameters follow from the shapes. Raises ValueError where keys or shapes do not fit together.
    """
    layout = next(layout for layout in _KEY_LAYOUTS if layout.block_template.format(0) in state)
    blocks = count_keys(state, layout.block_template)
    doublings = count_keys(state, layout.doubling_template, layout.step, layout.step)

    new_key = {
        f"{row[layout.column]}.{kind}": f"{row[0]}.{kind}"
        for row in convolution_names(blocks, doublings)
        for kind in ("weight", "bias")
    }
    renamed = {new_key.get(key, key): tensor for key, tensor in state.items()}
    keys = [f"{name}.weight" for name in ("conv_first", "conv_last", "body.0.rdb1.conv1")]
    if missing := [key for key in keys if key not in renamed or renamed[key].ndim != 4]:
        raise ValueError(
            f"it is nearly RRDBNet, but {', '.join(missing)} is missing or not a convolution; download the model again"
        )
    first, last, dense = (renamed[key] for key in keys)

    features, channels = first.shape[:2]
    out_channels = len(last)
    unshuffle = {4 * out_channels: 2, 16 * out_channels: 4}.get(channels, 1)
    if 2**doublings < unshuffle:
        raise ValueError(
            f"it is nearly RRDBNet, but unshuffles by {unshuffle} and doubles only {doublings} times; download it again"
        )
    config = RRDBConfig(
        in_channels=channels // unshuffle**2,
        out_channels=out_channels,
        features=features,
        blocks=blocks,
        growth=len(dense),
        scale=2**doublings // unshuffle,
        unshuffle=unshuffle,
    )
    return load_strict(lambda: RRDBNet(config), renamed)
