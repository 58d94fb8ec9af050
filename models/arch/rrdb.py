"""RRDBNet, the generator of ESRGAN (Wang et al. 2018, arXiv:1809.00219) and Real-ESRGAN (2021, arXiv:2107.10833)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .state_dict import StateDict, count_keys, load_strict

NEGATIVE_SLOPE = 0.2  # of every LeakyReLU
RESIDUAL_SCALE = 0.2  # residuals are scaled down before they are added, which keeps deep trunks stable in training
EFFECTIVE_RECEPTIVE_RADIUS = (
    64  # trunk pixels beyond which the trained x4 networks stay within 1/255 of the untiled result
)
TAIL_TILE_SIZE = 256  # side, in trunk pixels, of the pieces in which results are enlarged
TAIL_TILE_SIZE_CPU = (
    64  # whose activations stay below 32 MB, above which the C library gives memory back and pages fault anew
)
TAIL_HALO = 2  # trunk pixels around a piece that its result depends on: two convolutions, or more at a larger size


@dataclass(frozen=True)
class RRDBConfig:
    """The shape of the network; the defaults are those of the published 4x model.

    in_channels, out_channels: of the image. features: channels of the trunk. growth: channels that each convolution of
    a dense block adds. blocks: residual-in-residual dense blocks. scale: output size over input size, 1, 2, 4 or 8.
    unshuffle: 2 (Real-ESRGAN x2) or 4 (x1) folds that many pixels a side into channels first, so that the trunk runs
    on a smaller picture; 1 leaves the picture alone.
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
        """How often the trunk's picture is doubled on its way out."""
        return int(math.log2(self.scale * self.unshuffle))


# Memory for what dense convolutions read, one after the other; twice the same where planes can stay where they are.
ConcatBuffers: TypeAlias = "tuple[Tensor, Tensor]"


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees the input and everything that those before it have made."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, growth, 3, padding=1)
        self.conv2 = nn.Conv2d(features + growth, growth, 3, padding=1)
        self.conv3 = nn.Conv2d(features + 2 * growth, growth, 3, padding=1)
        self.conv4 = nn.Conv2d(features + 3 * growth, growth, 3, padding=1)
        self.conv5 = nn.Conv2d(features + 4 * growth, features, 3, padding=1)

    def forward(self, x: Tensor, concat_buffers: ConcatBuffers | None = None) -> Tensor:
        """rooms: memory to gather in, see `_gathered`; the result is the same to the bit."""
        seen = x
        for index, conv in enumerate((self.conv1, self.conv2, self.conv3, self.conv4)):
            made = _leaky_relu(conv(seen))
            seen = (
                torch.cat((seen, made), dim=1)
                if concat_buffers is None
                else _concat_into(seen, made, concat_buffers, index)
            )
        return _add_scaled_residual(self.conv5(seen), x)


class RRDB(nn.Module):
    """Three dense blocks inside one more residual."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(features, growth)
        self.rdb2 = DenseBlock(features, growth)
        self.rdb3 = DenseBlock(features, growth)

    def forward(self, x: Tensor, concat_buffers: ConcatBuffers | None = None) -> Tensor:
        return _add_scaled_residual(
            self.rdb3(self.rdb2(self.rdb1(x, concat_buffers), concat_buffers), concat_buffers), x
        )


class RRDBNet(nn.Module):
    """(B, in_channels, h, w) in [0, 1] -> (B, out_channels, h * scale, w * scale), about [0, 1] and not clamped.

    halo: input pixels around a tile that its result depends on. The exact radius of b blocks is 15 b + 4 trunk pixels,
    but beyond 64 the influence on the trained 4x networks is below 1/255 (at 48 it is not), so no more is asked for.
    multiple: sizes and tile positions that are multiples of it need no padding; other sizes are mirrored up to it.
    activation_bytes: memory that it takes per input pixel in float32, without gradients, in bytes.
    """

    fingerprint_name = "rrdb"  # in job.json; must not change

    def __init__(self, config: RRDBConfig = RRDBConfig()) -> None:
        super().__init__()
        self.config = config
        self.scale = config.scale
        self.in_channels = config.in_channels
        self.out_channels = config.out_channels
        self.halo = min(15 * config.blocks + 4, EFFECTIVE_RECEPTIVE_RADIUS) * config.unshuffle
        # A multiple of 4 also for unshuffle 2, as spandrel pads: the same picture in gives the same picture out.
        self.multiple = 1 if config.unshuffle == 1 else 4
        # Bytes of fp32 activations per input pixel: a dense block's and its neighbours', and the result.
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
        height, width = x.shape[-2:]
        if self.config.unshuffle > 1:
            x = F.pixel_unshuffle(pad_to_multiple(x, self.multiple), self.config.unshuffle)
        x = self.conv_first(x)
        rooms = None
        if x.device.type == "cpu" and len(x) == 1 and not torch.is_grad_enabled():
            # New memory is filled with noughts page by page, which takes a third of the time of dense blocks otherwise.
            most, pixels = self.config.features + 4 * self.config.growth, x.shape[-2] * x.shape[-1]
            room = x.new_empty(most * pixels)
            # The weights have a say in the layout too, so it is that of what they made.
            other = x.new_empty((most - self.config.growth) * pixels) if _has_channels_last(x) else room
            rooms = other, room
        trunk = x
        for block in self.body:
            trunk = block(trunk, rooms)
        del rooms  # Before the tail needs memory of its own.
        x = x + self.conv_body(trunk)
        x = self._upsample_tail(x) if torch.is_grad_enabled() else self._upsample_tail_tiled(x)
        return x[..., : height * self.scale, : width * self.scale]

    def _upsample_tail(self, x: Tensor) -> Tensor:
        """Enlarge and colour what the trunk has made: (B, features, H, W) -> (B, out_channels, H * k, W * k)."""
        for index in range(1, self.config.doublings + 1):
            conv = self.get_submodule(f"conv_up{index}")
            x = conv(F.interpolate(x, scale_factor=2, mode="nearest"))
            x = _leaky_relu(x)
        return self.conv_last(_leaky_relu(self.conv_hr(x)))

    def _upsample_tail_tiled(self, x: Tensor) -> Tensor:
        """The same numbers without the memory: enlarged 64-channel pictures are most of what the network takes.

        Every pixel of the result depends on two pixels of the trunk around it, so pieces with that margin are exact.
        """
        side = TAIL_TILE_SIZE_CPU if x.device.type == "cpu" else TAIL_TILE_SIZE
        height, width = x.shape[-2:]
        if max(height, width) <= side:
            return self._upsample_tail(x)
        k = 2**self.config.doublings
        out = x.new_empty(len(x), self.out_channels, height * k, width * k)
        for top in range(0, height, side):
            for left in range(0, width, side):
                above, before = min(top, TAIL_HALO), min(left, TAIL_HALO)
                piece = x[..., top - above : top + side + TAIL_HALO, left - before : left + side + TAIL_HALO]
                made = self._upsample_tail(piece)[..., above * k :, before * k :][..., : side * k, : side * k]
                out[..., top * k : top * k + made.shape[-2], left * k : left * k + made.shape[-1]] = made
        return out


def _concat_into(previous: Tensor, new: Tensor, concat_buffers: ConcatBuffers, layer_index: int) -> Tensor:
    """The channels of both, of one picture, in the memory of the room whose turn it is."""
    room, known = concat_buffers[layer_index % 2], previous.shape[1]
    channels, (height, width) = known + new.shape[1], previous.shape[2:]
    place = room[: channels * height * width]
    if concat_buffers[0] is not concat_buffers[1]:
        return torch.cat((previous, new), dim=1, out=place.view(1, height, width, channels).movedim(3, 1))
    place = place.view(1, channels, height, width)
    if previous.data_ptr() != room.data_ptr():  # Planes follow each other: those that lie here already can stay.
        place[:, :known] = previous
    place[:, known:] = new
    return place


def _has_channels_last(x: Tensor) -> bool:
    """Whether the channels of a pixel lie together, rather than the pixels of a channel."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def _leaky_relu(x: Tensor) -> Tensor:
    """Overwrites x where autograd does not need it."""
    return F.leaky_relu(x, NEGATIVE_SLOPE, inplace=not torch.is_grad_enabled())


def _add_scaled_residual(residual: Tensor, x: Tensor) -> Tensor:
    """residual * DAMPING + x; overwrites the residual where autograd does not need it."""
    return residual * RESIDUAL_SCALE + x if torch.is_grad_enabled() else residual.mul_(RESIDUAL_SCALE).add_(x)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Mirror (B, C, h, w) to the right and below until both sides are multiples. Short sides are repeated."""
    height, width = x.shape[-2:]
    down, right = -height % multiple, -width % multiple
    mirrored_down, mirrored_right = min(down, height - 1), min(right, width - 1)
    x = F.pad(x, (0, mirrored_right, 0, mirrored_down), mode="reflect")
    return F.pad(x, (0, right - mirrored_right, 0, down - mirrored_down), mode="replicate")


# ---- weights ----


def convolution_names(blocks: int, doublings: int) -> Iterator[tuple[str, str, str]]:
    """The name of every convolution in the order in which they run: here (as in Real-ESRGAN), in ESRGAN's first code,
    where positions in nested Sequentials count activations too, and in BSRGAN and RealSR."""
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
    """One way of naming the convolutions: its column of `convolution_names`, and the keys that tell and count."""

    column: int
    block_template: str  # in block {}, counted from 0
    doubling_template: str  # the {}th doubling, counted in steps of `step`
    step: int = 1


_KEY_LAYOUTS = (
    _KeyLayout(0, "body.{}.rdb1.conv1.weight", "conv_up{}.weight"),
    _KeyLayout(1, "model.1.sub.{}.RDB1.conv1.0.weight", "model.{}.weight", step=3),
    _KeyLayout(2, "RRDB_trunk.{}.RDB1.conv1.weight", "upconv{}.weight"),
)


def matches(state: StateDict) -> bool:
    """Whether these weights are an RRDBNet in any of the three layouts. ESRGAN+ (its blocks have a conv1x1) is not."""
    known = any(layout.block_template.format(0) in state for layout in _KEY_LAYOUTS)
    return known and not any(".conv1x1." in key for key in state)


def build(state: StateDict) -> RRDBNet:
    """The network that these weights (float32, any of the three layouts) belong to, with the weights in it.

    Every hyper-parameter is read off the shapes. Raises ValueError where keys or shapes do not fit together.
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
    ends = [f"{name}.weight" for name in ("conv_first", "conv_last", "body.0.rdb1.conv1")]
    if missing := [key for key in ends if key not in renamed or renamed[key].ndim != 4]:
        raise ValueError(f"it is nearly RRDBNet, but {', '.join(missing)} is missing or no convolution")
    first, last, dense = (renamed[key] for key in ends)

    features, channels = first.shape[:2]
    out_channels = len(last)
    unshuffle = {4 * out_channels: 2, 16 * out_channels: 4}.get(channels, 1)
    if 2**doublings < unshuffle:
        raise ValueError(f"it folds {unshuffle} pixels a side into channels and doubles only {doublings} times")
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
