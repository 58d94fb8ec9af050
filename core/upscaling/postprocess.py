"""The last touches to an enlarged frame: its size, how much of the network to show, its colours, and grain."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..clip import Frames
from .resize import resize
from .settings import ColorCorrection, PostProcess

# Standard deviation of grain 1 in mid-grey, of 1: the coarsest film.
MAX_GRAIN_STD = 0.1
# Each level of the wavelet doubles the size of what counts as fine: 5 keep structure up to about 60 pixels.
WAVELET_LEVELS = 5


def postprocess(
    upscaled: Frames, source: Frames, size: tuple[int, int], settings: PostProcess, frame_offset: int
) -> Frames:
    """What the network made, (B, 3 or 4, H, W), at size = (width, height) and finished, on the same device.

    source: (B, 3 or 4, h, w), what it was made of, on any device. first: number of the first frame in its clip. Grain
    and colour leave alpha as it is.
    """
    result = resize(upscaled, *size, linear_light=settings.linear_light)
    if settings.is_identity:
        return result
    if settings.strength < 1 or settings.color_correction is not ColorCorrection.NONE:
        simple = resize(source.to(result.device), *size, linear_light=settings.linear_light)
        if settings.strength < 1:
            result = torch.lerp(simple, result, settings.strength)
        if settings.color_correction is not ColorCorrection.NONE:
            result = _with_alpha(correct_color(result[:, :3], simple[:, :3], settings.color_correction), result)
    return add_film_grain_rgba(result, settings.grain, frame_offset) if settings.grain else result


def add_film_grain_rgba(frames: Frames, grain: float, frame_offset: int) -> Frames:
    """(B, 3 or 4, H, W) with grain, as `Finish` says. first: number of the first frame in its clip."""
    return _with_alpha(add_film_grain(frames[:, :3], grain, frame_offset), frames)


def correct_color(frames: Tensor, reference: Tensor, method: ColorCorrection) -> Tensor:
    """(B, 3, H, W) with the mean, or the coarse part, of `like`, of the same size; clamped to [0, 1].

    WAVELET is the colour correction of StableSR (Wang et al., "Exploiting Diffusion Prior for Real-World Image
    Super-Resolution", 2023), with the à trous wavelet (Holschneider et al., 1989): coarse part of one, detail of the
    other. Since coarse parts of sums are sums of coarse parts, that is one coarse part of the difference.
    """
    if method is ColorCorrection.NONE:
        return frames
    difference = reference - frames
    if method is ColorCorrection.MEAN:
        return (frames + difference.mean(dim=(-2, -1), keepdim=True)).clamp_(0.0, 1.0)
    return (frames + low_pass(difference)).clamp_(0.0, 1.0)


def low_pass(frames: Tensor) -> Tensor:
    """(B, C, H, W) without what is finer than about 2 ** LEVELS pixels; edges are repeated outwards."""
    height, width = frames.shape[-2:]
    for level in range(WAVELET_LEVELS):
        for axis, length in ((-1, width), (-2, height)):
            # Steps beyond the frame would see nothing but its edges.
            step = min(2**level, length)
            padding = (step, step, 0, 0) if axis == -1 else (0, 0, step, step)
            wide = F.pad(frames, padding, mode="replicate")
            before, after = wide.narrow(axis, 0, length), wide.narrow(axis, 2 * step, length)
            frames = (before + after).mul_(0.25).add_(frames, alpha=0.5)
    return frames


def add_film_grain(frames: Tensor, grain: float, frame_offset: int) -> Tensor:
    """(B, 3, H, W) with noise that is alike in the three channels; strongest in mid-grey, none in black and white.

    That is how film has it: where nothing or everything is exposed there are no grains to scatter. first: number of
    the first frame, which seeds its noise.
    """
    noise = torch.stack(
        [_grain_noise(frame_offset + i, frames.shape[-2], frames.shape[-1]) for i in range(len(frames))]
    )
    weights = frames.new_tensor([0.2126, 0.7152, 0.0722]).reshape(1, 3, 1, 1)  # luma of ITU-R BT.709
    luma = (frames * weights).sum(dim=1, keepdim=True)
    return (frames + noise.to(frames.device) * (4 * luma * (1 - luma)) * (grain * MAX_GRAIN_STD)).clamp_(0.0, 1.0)


def _grain_noise(seed: int, height: int, width: int) -> Tensor:
    """(1, H, W), normal, made on the CPU so that it is the same for every device."""
    return torch.randn(1, height, width, generator=torch.Generator().manual_seed(seed))


def _with_alpha(rgb: Tensor, frames: Tensor) -> Tensor:
    return torch.cat([rgb, frames[:, 3:]], dim=1) if frames.shape[1] > 3 else rgb
