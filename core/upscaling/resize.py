"""Frames at another size.

Convention: pixel areas are mapped, not pixel centres: the picture fills the frame before and after, so nothing moves by
half a pixel (torch's align_corners=False).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..clip import ClipError, Frames


def resize(frames: Frames, width: int, height: int, *, linear_light: bool = False) -> Frames:
    """(B, C, H, W) -> (B, C, height, width) by antialiased bicubic interpolation (a = -0.5), on the same device.

    The same tensor is returned when it has that size already. Bicubic overshoots at edges, so the result is clamped to
    [0, 1].
    linear_light: mix light instead of stored values (sRGB, IEC 61966-2-1); alpha, the fourth channel, is stored as is.
    Each channel is resized by itself; give RGBA frames to `without_holes` first, so that no fringes appear.
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
    # Weights that sum to 1 only nearly make 0.9999999 of white and of opaque, which is 254 for whoever cuts to 8 bits.
    return torch.where(resized > 1 - 1e-6, 1.0, resized.clamp_(0.0, 1.0))


def srgb_to_linear(srgb: Tensor) -> Tensor:
    """Stored values in [0, 1] (sRGB) -> amounts of light in [0, 1]."""
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb.clamp_min(0.0) + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(linear: Tensor) -> Tensor:
    """Amounts of light in [0, 1] -> stored values in [0, 1] (sRGB)."""
    bright = 1.055 * linear.clamp_min(0.0) ** (1 / 2.4) - 0.055
    stored = torch.where(linear <= 0.0031308, linear * 12.92, bright)
    return torch.where(linear >= 1, 1.0, stored.clamp_(0.0, 1.0))  # 1.055 - 0.055 is not quite 1 in floats


def bleed_alpha(frames: Frames) -> Tensor:
    """RGBA (B, 4, H, W), not premultiplied -> RGB (B, 3, H, W) with nearby visible colour in place of invisible black.

    Enlarging mixes neighbouring pixels, so the black that most programs leave under fully transparent pixels would show
    as a dark fringe along every edge. Such pixels (alpha 0 and black) carry no colour and take that of the nearest
    visible ones, by averages over blocks of 2, 4, 8 … pixels. All other colours stay as they are, those hidden under
    alpha 0 too: ComfyUI graphs use alpha as a mask and need what lies beneath. Frames without holes are not copied.
    """
    colour, alpha = frames[:, :3], frames[:, 3:]
    holes = (alpha <= 0) & (colour.amax(dim=1, keepdim=True) <= 0)  # (B, 1, H, W)
    if not bool(holes.any()):
        return colour
    return torch.where(holes, _push_pull(colour * alpha, alpha), colour)


def _push_pull(weighted: Tensor, weight: Tensor) -> Tensor:
    """weighted / weight where there is weight; elsewhere the same of the smallest enclosing block that has some."""
    height, width = weight.shape[-2:]
    known = weighted / weight.clamp_min(torch.finfo(weight.dtype).tiny)
    if max(height, width) == 1:
        return known
    blocks = [F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False) for x in (weighted, weight)]
    filled = _push_pull(blocks[0], blocks[1]).repeat_interleave(2, -2).repeat_interleave(2, -1)[..., :height, :width]
    return torch.where(weight > 0, known, filled)
