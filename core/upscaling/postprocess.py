"""Post-processing of upscaled frames.

Size, blend with a plain resize, color correction and film grain.
"""

from __future__ import annotations

from math import pi

import torch
import torch.nn.functional as F
from torch import Tensor

from ..clip import Frames
from .resize import resize
from .settings import ColorCorrection, PostProcess

# Standard deviation of grain 1 in mid-gray, for values in [0, 1].
MAX_GRAIN_STD = 0.1
# Each level doubles the size of what counts as detail; 5 levels: up to about 60 pixels.
WAVELET_LEVELS = 5


def postprocess(
    upscaled: Frames, source: Frames, size: tuple[int, int], settings: PostProcess, first_frame: int
) -> Frames:
    """Post-process the network's result.

    upscaled: (B, 3 or 4, H, W). The result is on the same device, of size = (width, height).

    source: the input (B, 3 or 4, h, w), on any device. first_frame: number of the first frame in its clip. Grain and
    color correction do not change alpha.
    """
    result = resize(upscaled, *size, linear_light=settings.linear_light)
    if settings.is_identity:
        return result
    if settings.strength < 1 or settings.color_correction is not ColorCorrection.NONE:
        resized = resize(source.to(result.device), *size, linear_light=settings.linear_light)
        if settings.strength < 1:
            result = torch.lerp(resized, result, settings.strength)
        if settings.color_correction is not ColorCorrection.NONE:
            result = _with_alpha(correct_color(result[:, :3], resized[:, :3], settings.color_correction), result)
    return add_film_grain_rgba(result, settings.grain, first_frame) if settings.grain else result


def add_film_grain_rgba(frames: Frames, grain: float, first_frame: int) -> Frames:
    """Add film grain to (B, 3 or 4, H, W), see `PostProcess`.

    first_frame: number of the first frame in its clip. Alpha is not changed.
    """
    return _with_alpha(add_film_grain(frames[:, :3], grain, first_frame), frames)


def correct_color(frames: Tensor, reference: Tensor, method: ColorCorrection) -> Tensor:
    """Give frames the mean or the low frequencies of a reference.

    Both are (B, 3, H, W); the result is clamped to [0, 1].

    WAVELET is the color correction of StableSR (Wang et al., "Exploiting Diffusion Prior for Real-World Image
    Super-Resolution", 2023) with the à trous wavelet (Holschneider et al., 1989): low frequencies of the reference,
    detail of the frames. The low-pass filter is linear, so it is applied once, to their difference.
    """
    if method is ColorCorrection.NONE:
        return frames
    difference = reference - frames
    if method is ColorCorrection.MEAN:
        return (frames + difference.mean(dim=(-2, -1), keepdim=True)).clamp_(0.0, 1.0)
    return (frames + low_pass(difference)).clamp_(0.0, 1.0)


def low_pass(frames: Tensor) -> Tensor:
    """Remove fine detail from (B, C, H, W).

    Fine is below about 2 ** WAVELET_LEVELS pixels; edges are replicated.
    """
    height, width = frames.shape[-2:]
    for level in range(WAVELET_LEVELS):
        for axis, length in ((-1, width), (-2, height)):
            # A larger step would reach only replicated edges.
            step = min(2**level, length)
            padding = (step, step, 0, 0) if axis == -1 else (0, 0, step, step)
            padded = F.pad(frames, padding, mode="replicate")
            before, after = padded.narrow(axis, 0, length), padded.narrow(axis, 2 * step, length)
            frames = (before + after).mul_(0.25).add_(frames, alpha=0.5)
    return frames


def add_film_grain(frames: Tensor, grain: float, first_frame: int) -> Tensor:
    """Add noise to (B, 3, H, W), the same in all channels.

    It is strongest in mid-gray, and absent in black and white.

    Film has no grain where nothing or everything is exposed. first_frame: number of the first frame; the number of a
    frame seeds its noise.
    """
    height, width = frames.shape[-2:]
    noise = torch.stack([grain_noise(first_frame + i, height, width, frames.device) for i in range(len(frames))])
    red, green, blue = frames.unbind(1)
    luma = (0.2126 * red + 0.7152 * green + 0.0722 * blue).unsqueeze(1)  # ITU-R BT.709
    return (frames + noise * (4 * luma * (1 - luma)) * (grain * MAX_GRAIN_STD)).clamp_(0.0, 1.0)


def grain_noise(seed: int, height: int, width: int, device: torch.device) -> Tensor:
    """Return normally distributed noise (1, H, W).

    It is the same on every device, but for rounding.
    Each pixel's number is hashed (lowbias32 of Chris Wellons, https://nullprogram.com/blog/2018/07/31/) in 32 bits,
    because the generators of torch differ between devices, and the CPU's takes longer than a GPU's network.
    """
    bits = torch.arange(height * width, device=device, dtype=torch.int32).add_(_hash32(seed + 1))
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        bits = bits.bitwise_xor_(_shift_right(bits, shift)).mul_(_to_int32(factor))
    bits = bits.bitwise_xor_(_shift_right(bits, 16))
    # Box and Muller (1958), of two uniform numbers of 16 bits.
    radius = bits.bitwise_and(0xFFFF).float().add_(0.5).mul_(2**-16).log_().mul_(-2).sqrt_()
    angle = _shift_right(bits, 16).float().mul_(2 * pi * 2**-16)
    return radius.mul_(angle.cos_()).view(1, height, width)


def _shift_right(bits: Tensor, count: int) -> Tensor:
    """The logical shift of unsigned 32 bits in int32, which would repeat the sign."""
    return bits.bitwise_right_shift(count).bitwise_and_((1 << (32 - count)) - 1)


def _hash32(number: int) -> int:
    """lowbias32 of an integer, as int32."""
    bits = number & 0xFFFFFFFF
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        bits = ((bits ^ (bits >> shift)) * factor) & 0xFFFFFFFF
    return _to_int32(bits ^ (bits >> 16))


def _to_int32(bits: int) -> int:
    return bits - (1 << 32) if bits >= 1 << 31 else bits


def _with_alpha(rgb: Tensor, frames: Tensor) -> Tensor:
    return torch.cat([rgb, frames[:, 3:]], dim=1) if frames.shape[1] > 3 else rgb
