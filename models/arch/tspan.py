"""TSPAN, a SPAN that reads several neighboring frames of a video.

Two formats of weight files are public, both by Kim2091: in the first, `TSPAN`, the first convolution reads all frames
at once; in the second, `TemporalSPAN`, each frame has a convolution of its own, and blocks have group norms.

Frames are concatenated along the channels, the oldest first, as in the ONNX graphs of the authors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .span import BLOCKS, SPAB, SPAN, ReparameterizedConv, SPANConfig
from .state_dict import StateDict, count_keys, infer_scale_and_channels, load_strict

COLORS = 3  # channels of a frame
NORM_GROUPS = 8  # of the group norms; a file does not hold it
GROUP_NORM_HALO = 64  # group norms reach everywhere, see `core/upscaling/model/model_traits.py`


@dataclass(frozen=True)
class TSPANConfig(SPANConfig):
    """Hyper-parameters of a TSPAN.

    frames: an odd number, read for one frame of the result, which is that of the middle one.
    norm: subtract RGB_MEAN from each frame and multiply it by IMAGE_RANGE.
    """

    norm: bool = False
    frames: int = 5

    def __post_init__(self) -> None:
        _check_frames(self.in_channels, self.frames)

    @property
    def input_channels(self) -> int:
        return self.in_channels * self.frames


@dataclass(frozen=True)
class TemporalSPANConfig:
    """Hyper-parameters of a TemporalSPAN; defaults: those of the authors.

    features: channels inside. frame_features: channels that are computed of each frame but the middle one. scale:
    output size over input size. frames: as in TSPANConfig.
    """

    features: int = 48
    frame_features: int = 12
    scale: int = 4
    frames: int = 5

    def __post_init__(self) -> None:
        _check_frames(COLORS, self.frames)
        if self.features % NORM_GROUPS:
            raise ValueError(f"a TemporalSPAN has a multiple of {NORM_GROUPS} features, not {self.features}")


def _check_frames(channels: int, frames: int) -> None:
    if channels != COLORS or frames < 3 or frames % 2 == 0:
        raise ValueError(f"it reads {frames} frames of {channels} channels; use an odd number of RGB frames, 3 or more")


def to_window(images: Tensor, frames: int) -> Tensor:
    """Repeat still images (B, 3, h, w) to windows (B, 3 * frames, h, w).

    Windows stay as they are.
    """
    return images.repeat(1, frames, 1, 1) if images.shape[1] == COLORS else images


class TSPAN(SPAN):
    """A SPAN whose first convolution reads several frames.

    (B, 3 * frames, h, w) in [0, 1], or still images (B, 3, h, w) -> (B, 3, h * scale, w * scale), about [0, 1] and not
    clamped.

    frames_context: the number of frames before and after the one that is upscaled. All else is as in SPAN.
    """

    fingerprint_name = "tspan"  # in job.json; must not change

    def __init__(self, config: TSPANConfig = TSPANConfig()) -> None:
        super().__init__(config)
        self.frames = config.frames
        self.frames_context = config.frames // 2, config.frames // 2

    def normalize(self, x: Tensor) -> Tensor:
        window = to_window(x, self.frames)
        if not self.config.norm:
            return window
        return super().normalize(window.reshape(-1, COLORS, *x.shape[-2:])).reshape(window.shape)


class GroupNormSPAB(SPAB):
    """A SPAB with a group norm after each convolution."""

    def __init__(self, features: int) -> None:
        super().__init__(features)
        self.norm1 = nn.GroupNorm(NORM_GROUPS, features)
        self.norm2 = nn.GroupNorm(NORM_GROUPS, features)
        self.norm3 = nn.GroupNorm(NORM_GROUPS, features)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first = F.silu(self.norm1(self.c1_r(x)))
        detail = self.norm3(self.c3_r(F.silu(self.norm2(self.c2_r(first)))))
        return (detail + x) * (torch.sigmoid(detail) - 0.5), first


class TemporalSPAN(nn.Module):
    """Features of each frame, fused, then the blocks of a SPAN with group norms.

    (B, 3 * frames, h, w) in [0, 1], or still images (B, 3, h, w) -> (B, 3, h * scale, w * scale), about [0, 1] and not
    clamped. The result for a tile depends on all of it, because of the group norms.

    frames_context: the number of frames before and after the one that is upscaled. All else is as in SPAN.
    """

    fingerprint_name = "temporal-span"  # in job.json; must not change

    def __init__(self, config: TemporalSPANConfig = TemporalSPANConfig()) -> None:
        super().__init__()
        self.config = config
        self.scale = config.scale
        self.in_channels = self.out_channels = COLORS
        self.frames_context = config.frames // 2, config.frames // 2
        self.halo = GROUP_NORM_HALO
        self.multiple = 1
        features, others = config.features, config.frames - 1
        fused = features + others * config.frame_features
        # As in SPAN, with the features of all frames at the start.
        self.activation_bytes = 4.0 * (max(10 * features, 2 * fused) + 3 * COLORS * config.scale**2)

        self.center_conv = ReparameterizedConv(COLORS, features)
        self.history_convs = nn.ModuleList(ReparameterizedConv(COLORS, config.frame_features) for _ in range(others))
        self.fusion_conv = nn.Sequential(ReparameterizedConv(fused, features), ReparameterizedConv(features, features))
        for number in range(1, BLOCKS + 1):
            self.add_module(f"block_{number}", GroupNormSPAB(features))
        self.conv_cat = nn.Conv2d(4 * features, features, 1)
        self.conv_2 = ReparameterizedConv(features, features)
        self.upsampler = nn.Sequential(
            nn.Conv2d(features, COLORS * config.scale**2, 3, padding=1), nn.PixelShuffle(config.scale)
        )

    def forward(self, x: Tensor) -> Tensor:
        frames = torch.split(to_window(x, self.config.frames), COLORS, dim=1)
        convs = list(self.history_convs)
        convs.insert(self.frames_context[0], self.center_conv)
        shallow = self.fusion_conv(torch.cat([conv(frame) for conv, frame in zip(convs, frames, strict=True)], dim=1))
        deep, after_first, activation = shallow, shallow, shallow
        for number in range(1, BLOCKS + 1):
            deep, activation = self.get_submodule(f"block_{number}")(deep)
            after_first = deep if number == 1 else after_first
        return self.upsampler(self.conv_cat(torch.cat([shallow, self.conv_2(deep), after_first, activation], dim=1)))


# ---- weights ----


def matches(state: StateDict) -> bool:
    """Whether a SPAN of these weights reads several RGB frames."""
    first, last = state.get("conv_1.sk.weight"), state.get("upsampler.0.weight")
    if first is None or last is None or first.ndim != 4 or last.ndim != 4 or "conv_cat.weight" not in state:
        return False
    # An even multiple of 3 channels stands for pixel-unshuffled images, not for frames.
    return first.shape[1] > COLORS and first.shape[1] % (2 * COLORS) == COLORS and len(last) % COLORS == 0


def build(state: StateDict) -> TSPAN:
    """Build the network of these weights (float32).

    All hyper-parameters follow from the shapes. Raises ValueError where keys or shapes do not fit together.
    """
    features, channels = state["conv_1.sk.weight"].shape[:2]
    scale, colors = infer_scale_and_channels(len(state["upsampler.0.weight"]), COLORS)
    config = TSPANConfig(COLORS, colors, features, scale, norm="no_norm" not in state, frames=channels // COLORS)
    return load_strict(lambda: TSPAN(config), state).eval()


def matches_temporal(state: StateDict) -> bool:
    """Whether there is a convolution for each frame, and group norms in the blocks."""
    keys = ("center_conv.sk.weight", "history_convs.0.sk.weight", "fusion_conv.0.sk.weight", "block_1.norm1.weight")
    return all(key in state for key in keys)


def build_temporal(state: StateDict) -> TemporalSPAN:
    """Build the network of these weights (float32); see `build`."""
    last = state.get("upsampler.0.weight")
    if last is None or last.ndim != 4:
        raise ValueError("its upsampler is not the one convolution and the pixel shuffle of a TemporalSPAN")
    config = TemporalSPANConfig(
        features=len(state["center_conv.sk.weight"]),
        frame_features=len(state["history_convs.0.sk.weight"]),
        scale=infer_scale_and_channels(len(last), COLORS)[0],
        frames=1 + count_keys(state, "history_convs.{}.sk.weight"),
    )
    return load_strict(lambda: TemporalSPAN(config), state).eval()
