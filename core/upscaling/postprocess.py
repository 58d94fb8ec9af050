"""The last touches to an enlarged frame: its size, how much of the network to show, its colours, and grain."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..clip import Frames
from .resize import resize
from .settings import Colour, Finish

# Standard deviation of grain 1 in mid-grey, of 1: the coarsest film.
MOST_GRAIN = 0.1
# Each level of the wavelet doubles the size of what counts as fine: 5 keep structure up to about 60 pixels.
LEVELS = 5


def finished(large: Frames, source: Frames, size: tuple[int, int], finish: Finish, first: int) -> Frames:
    """What the network made, (B, 3 or 4, H, W), at size = (width, height) and finished, on the same device.

    source: (B, 3 or 4, h, w), what it was made of, on any device. first: number of the first frame in its clip. Grain
    and colour leave alpha as it is.
    """
    result = resize(large, *size, linear_light=finish.linear_light)
    if finish.plain:
        return result
    if finish.strength < 1 or finish.colour is not Colour.NONE:
        simple = resize(source.to(result.device), *size, linear_light=finish.linear_light)
        if finish.strength < 1:
            result = torch.lerp(simple, result, finish.strength)
        if finish.colour is not Colour.NONE:
            result = _with_alpha(recoloured(result[:, :3], simple[:, :3], finish.colour), result)
    return with_grain(result, finish.grain, first) if finish.grain else result


def with_grain(frames: Frames, grain: float, first: int) -> Frames:
    """(B, 3 or 4, H, W) with grain, as `Finish` says. first: number of the first frame in its clip."""
    return _with_alpha(grained(frames[:, :3], grain, first), frames)


def recoloured(frames: Tensor, like: Tensor, colour: Colour) -> Tensor:
    """(B, 3, H, W) with the mean, or the coarse part, of `like`, of the same size; clamped to [0, 1].

    WAVELET is the colour correction of StableSR (Wang et al., "Exploiting Diffusion Prior for Real-World Image
    Super-Resolution", 2023), with the à trous wavelet (Holschneider et al., 1989): coarse part of one, detail of the
    other. Since coarse parts of sums are sums of coarse parts, that is one coarse part of the difference.
    """
    if colour is Colour.NONE:
        return frames
    difference = like - frames
    if colour is Colour.MEAN:
        return (frames + difference.mean(dim=(-2, -1), keepdim=True)).clamp_(0.0, 1.0)
    return (frames + coarse(difference)).clamp_(0.0, 1.0)


def coarse(frames: Tensor) -> Tensor:
    """(B, C, H, W) without what is finer than about 2 ** LEVELS pixels; edges are repeated outwards."""
    height, width = frames.shape[-2:]
    for level in range(LEVELS):
        for axis, length in ((-1, width), (-2, height)):
            # Steps beyond the frame would see nothing but its edges.
            step = min(2**level, length)
            padding = (step, step, 0, 0) if axis == -1 else (0, 0, step, step)
            wide = F.pad(frames, padding, mode="replicate")
            before, after = wide.narrow(axis, 0, length), wide.narrow(axis, 2 * step, length)
            frames = (before + after).mul_(0.25).add_(frames, alpha=0.5)
    return frames


def grained(frames: Tensor, grain: float, first: int) -> Tensor:
    """(B, 3, H, W) with noise that is alike in the three channels; strongest in mid-grey, none in black and white.

    That is how film has it: where nothing or everything is exposed there are no grains to scatter. first: number of
    the first frame, which seeds its noise.
    """
    noise = torch.stack([_noise(first + i, frames.shape[-2], frames.shape[-1]) for i in range(len(frames))])
    weights = frames.new_tensor([0.2126, 0.7152, 0.0722]).reshape(1, 3, 1, 1)  # luma of ITU-R BT.709
    luma = (frames * weights).sum(dim=1, keepdim=True)
    return (frames + noise.to(frames.device) * (4 * luma * (1 - luma)) * (grain * MOST_GRAIN)).clamp_(0.0, 1.0)


def _noise(number: int, height: int, width: int) -> Tensor:
    """(1, H, W), normal, made on the CPU so that it is the same for every device."""
    return torch.randn(1, height, width, generator=torch.Generator().manual_seed(number))


def _with_alpha(colour: Tensor, frames: Tensor) -> Tensor:
    return torch.cat([colour, frames[:, 3:]], dim=1) if frames.shape[1] > 3 else colour
