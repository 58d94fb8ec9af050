"""Words on pictures: white on a dark, half transparent plate."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..clip import Frames

PLATE_OPACITY = 0.6  # how much of the picture the plate hides


def draw_caption(frames: Frames, text: str, *, right: bool = False, bottom: bool = False) -> Frames:
    """Frames (B, 3, H, W) with a text in one corner: the upper left, unless told otherwise. No text changes nothing.

    The letters grow with the frame; what does not fit into its width is left out. Values in [0, 1].
    """
    height, width = frames.shape[-2:]
    if not text.strip():
        return frames
    ink, plate = (plane.to(frames) for plane in _render_caption(text, max(10, round(min(height, width) / 24))))
    high, wide = min(plate.shape[0], height), min(plate.shape[1], width)
    rows = slice(height - high, height) if bottom else slice(0, high)
    columns = slice(width - wide, width) if right else slice(0, wide)
    ink, plate = ink[:high, :wide], plate[:high, :wide]
    written = frames.clone()
    written[..., rows, columns] = frames[..., rows, columns] * (1 - plate) * (1 - ink) + ink
    return written


@lru_cache(maxsize=16)
def _render_caption(text: str, size: int) -> tuple[Tensor, Tensor]:
    """The letters and the plate below them, (h, w) each, in [0, 1]."""
    font = ImageFont.load_default(size)
    left, top, right, bottom = font.getbbox(text)
    room = size // 2
    sheet = Image.new("L", (int(right - left) + 2 * room, int(bottom - top) + 2 * room), 0)
    ImageDraw.Draw(sheet).text((room - left, room - top), text, fill=255, font=font)
    ink = torch.from_numpy(np.asarray(sheet, np.float32) / 255)
    return ink, torch.full_like(ink, PLATE_OPACITY)
