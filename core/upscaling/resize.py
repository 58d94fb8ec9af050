"""Resize frames.

Convention: pixel areas are mapped, not pixel centers, so that nothing moves by half a pixel (align_corners=False).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..clip import ClipError, Frames


def resize(frames: Frames, width: int, height: int, *, linear_light: bool = False) -> Frames:
    """Resize (B, C, H, W) by antialiased bicubic interpolation (a = -0.5).

    The result is on the same device; it is the same tensor if that has the size already. The result is clamped to
    [0, 1]: bicubic overshoots.
    linear_light: interpolate linear light instead of sRGB values (IEC 61966-2-1); alpha, the fourth channel, is linear
    already. Channels are independent; pass RGBA frames to `bleed_alpha` first to avoid fringes.
    Raises ClipError for a size below one pixel.
    """
    if width < 1 or height < 1:
        raise ClipError(f"frames cannot be resized to {width}x{height} pixels; both sides must be at least 1")
    if frames.shape[-2:] == (height, width):
        return frames
    if linear_light:
        light = resize(torch.cat([srgb_to_linear(frames[:, :3]), frames[:, 3:]], dim=1), width, height)
        return torch.cat([linear_to_srgb(light[:, :3]), light[:, 3:]], dim=1)
    resized = F.interpolate(frames, size=(height, width), mode="bicubic", align_corners=False, antialias=True)
    # The weights sum to 1 only nearly, and 0.9999999 would be 254 where values are truncated to 8 bits.
    return torch.where(resized > 1 - 1e-6, 1.0, resized.clamp_(0.0, 1.0))


def srgb_to_linear(srgb: Tensor) -> Tensor:
    """Convert sRGB values in [0, 1] to linear light in [0, 1]."""
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb.clamp_min(0.0) + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(linear: Tensor) -> Tensor:
    """Convert linear light in [0, 1] to sRGB values in [0, 1]."""
    bright = 1.055 * linear.clamp_min(0.0) ** (1 / 2.4) - 0.055
    srgb = torch.where(linear <= 0.0031308, linear * 12.92, bright)
    return torch.where(linear >= 1, 1.0, srgb.clamp_(0.0, 1.0))  # 1.055 - 0.055 is not exactly 1 in floats


def bleed_alpha(frames: Frames) -> Tensor:
    """Spread nearby visible color into invisible black.

    RGBA (B, 4, H, W), not premultiplied -> RGB (B, 3, H, W).

    Upscaling mixes neighboring pixels, so the black that most programs write under fully transparent pixels would
    appear as a dark fringe along every edge. Such pixels (alpha 0 and black) take the color of the nearest visible
    ones, by averages over blocks of 2, 4, 8 ... pixels (push-pull). All other colors stay, also those under alpha 0:
    ComfyUI graphs use alpha as a mask and need the colors beneath. Frames without such pixels are not copied.
    """
    color, alpha = frames[:, :3], frames[:, 3:]
    holes = (alpha <= 0) & (color.amax(dim=1, keepdim=True) <= 0)  # (B, 1, H, W)
    if not bool(holes.any()):
        return color
    return torch.where(holes, _push_pull(color * alpha, alpha), color)


def _push_pull(weighted: Tensor, weight: Tensor) -> Tensor:
    """Divide weighted by weight, and fill the pixels without weight.

    They take the value of the smallest enclosing block with weight.
    """
    height, width = weight.shape[-2:]
    known = weighted / weight.clamp_min(torch.finfo(weight.dtype).tiny)
    if max(height, width) == 1:
        return known
    blocks = [F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False) for x in (weighted, weight)]
    filled = _push_pull(blocks[0], blocks[1]).repeat_interleave(2, -2).repeat_interleave(2, -1)[..., :height, :width]
    return torch.where(weight > 0, known, filled)
