"""What a correction does to the picture, drawn on a frame: what is cut away, and what has to be made up."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from .. import geometry
from ..clip import ClipError, Frames
from ..path.border import Border, with_border_zoom
from ..path.trajectory import Correction
from ..path.zoom import zooms_to_fill
from .captions import draw_caption

CUT_COLOR, FILL_COLOR, CANVAS_COLOR = (0.75, 0.1, 0.15), (0.25, 0.45, 1.0), (0.12, 0.12, 0.13)
CUT_OPACITY = 0.6  # of what is cut away: how much of it is colour


def find_max_zoom_frame(correction: Correction) -> int:
    """Number of the frame that needs the most magnification to be filled: the one to look at first."""
    return int(zooms_to_fill(correction).argmax())


def draw_crop_overlay(
    frame: Frames, correction: Correction, frame_number: int, border: Border = Border.CROP, *, pad: int = 0
) -> Frames:
    """The source frame `number`, (1, 3 or 4, H, W), with what the warp will show of it -> RGB (1, 3, H', W').

    A white outline is the picture that will be seen. Red lies outside it and is cut away; blue lies in it but outside
    the frame, and is made up by the border. The picture is as much larger than the frame as the blue needs, and half
    the frame on each side at most. pad: as for `warp`, in pixels of the frame.
    Raises ClipError for a number that the correction does not have, and as `framed` does.
    """
    height, width = frame.shape[-2:]
    if not 0 <= frame_number < len(correction.matrices):
        raise ClipError(f"there is no frame {frame_number}: motion was measured for {len(correction.matrices)} frames")
    moved = with_border_zoom(correction.resized(width, height), Border(border)).matrices[frame_number]
    shown = geometry.corners(width + 2 * pad, height + 2 * pad)
    outline = geometry.transform_points(geometry.inverse(moved), shown) + np.array([width / 2, height / 2])
    left, top = (_canvas_margin(-float(low), size) for low, size in zip(outline.min(0), (width, height), strict=True))
    right, bottom = (
        _canvas_margin(float(high) - size, size) for high, size in zip(outline.max(0), (width, height), strict=True)
    )
    x = torch.arange(-left, width + right, dtype=torch.float64) + 0.5
    y = torch.arange(-top, height + bottom, dtype=torch.float64)[:, None] + 0.5
    seen = _visible_mask(moved, x - width / 2, y - height / 2, width / 2 + pad, height / 2 + pad)
    genuine = ((x > 0) & (x < width) & (y > 0) & (y < height)).expand_as(seen)
    canvas = torch.tensor(CANVAS_COLOR).view(3, 1, 1).repeat(1, *seen.shape)
    canvas[:, seen & ~genuine] = torch.tensor(FILL_COLOR)[:, None]
    picture = frame[0, :3].cpu().float()
    inner = canvas[:, top : top + height, left : left + width]
    cut = ~seen[top : top + height, left : left + width]
    tinted = picture * (1 - CUT_OPACITY) + torch.tensor(CUT_COLOR).view(3, 1, 1) * CUT_OPACITY
    inner.copy_(torch.where(cut, tinted, picture))
    corners = [(float(a) + left, float(b) + top) for a, b in outline]
    lined = _draw_outline(canvas, corners)
    lost = 100 * float(cut.double().mean())
    made_up = 100 * float((seen & ~genuine).sum() / seen.sum().clamp(min=1))
    return draw_caption(lined, f"frame {frame_number}: {lost:.1f} % cut away, {made_up:.1f} % made up")


def blank_frame(correction: Correction) -> Frames:
    """A grey frame of the size that the correction was measured at, where there are no pixels to draw on."""
    return torch.full((1, 3, correction.info.height, correction.info.width), 0.5)


def identity_correction(correction: Correction) -> Correction:
    """The correction that leaves every frame where it is."""
    return replace(correction, matrices=np.broadcast_to(np.eye(3), correction.matrices.shape).copy())


def _canvas_margin(overshoot: float, size: int) -> int:
    """Pixels of canvas beside a frame of that size for an outline that reaches that far beyond it."""
    return min(size // 2, max(0, ceil(overshoot - 1e-6) + 2)) if overshoot > 1e-6 else 0


def _visible_mask(matrix: geometry.Matrices, x: Tensor, y: Tensor, half_width: float, half_height: float) -> Tensor:
    """(h, w) bool: which places of the source, from its centre, a matrix moves to within `across` and `down` of it."""
    (a, b, c), (d, e, f), (g, h, i) = matrix.tolist()
    depth = g * x + h * y + i
    return (
        (depth > 0)
        & ((a * x + b * y + c).abs() <= half_width * depth)
        & ((d * x + e * y + f).abs() <= half_height * depth)
    )


def _draw_outline(canvas: Tensor, corners: list[tuple[float, float]]) -> Frames:
    """(3, h, w) with a white line from corner to corner -> (1, 3, h, w)."""
    height, width = canvas.shape[-2:]
    line = Image.new("L", (width, height), 0)
    draw = ImageDraw.Draw(line)
    draw.line([*corners, corners[0], corners[1]], fill=255, width=max(1, round(min(width, height) / 240)))
    mask = torch.from_numpy(np.array(line, dtype=np.float32) / 255)
    return (canvas * (1 - mask) + mask)[None]
