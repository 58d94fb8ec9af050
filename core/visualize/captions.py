"""Captions on frames: white text on a dark translucent plate."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..clip import Frames
from ..runtime.typed_torch import from_numpy

PLATE_OPACITY = 0.6


def draw_caption(
    frames: Frames, text: str, *, right: bool = False, bottom: bool = False, size: int | None = None
) -> Frames:
    """Draw a text into a corner of frames, by default the upper left.

    Frames are (B, 3, H, W) in [0, 1]; returns new ones.

    size: of the font in pixels; None scales it with the frame. Text beyond the width of the frame is cut off; an empty
    text changes nothing.
    """
    height, width = frames.shape[-2:]
    if not text.strip():
        return frames
    size = max(10, round(min(height, width) / 24)) if size is None else size
    ink, plate = (plane.to(frames) for plane in _render_caption(text, size))
    rows_used, columns_used = min(plate.shape[0], height), min(plate.shape[1], width)
    rows = slice(height - rows_used, height) if bottom else slice(0, rows_used)
    columns = slice(width - columns_used, width) if right else slice(0, columns_used)
    ink, plate = ink[:rows_used, :columns_used], plate[:rows_used, :columns_used]
    captioned = frames.clone()
    captioned[..., rows, columns] = frames[..., rows, columns] * (1 - plate) * (1 - ink) + ink
    return captioned


@lru_cache(maxsize=16)
def _render_caption(text: str, size: int) -> tuple[Tensor, Tensor]:
    """Opacity of the letters and of the plate below them, (h, w) each, in [0, 1]."""
    font = ImageFont.load_default(size)
    left, top, right, bottom = font.getbbox(text)
    margin = size // 2
    sheet = Image.new("L", (int(right - left) + 2 * margin, int(bottom - top) + 2 * margin), 0)
    ImageDraw.Draw(sheet).text((margin - left, margin - top), text, fill=255, font=font)
    ink = from_numpy(np.asarray(sheet, np.float32) / 255)
    return ink, torch.full_like(ink, PLATE_OPACITY)
