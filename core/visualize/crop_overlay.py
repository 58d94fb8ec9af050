"""Overlay of a correction on a source frame: the cropped area and the filled area."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from .. import geometry
from ..clip import ClipError, Frames
from ..crop.border import Border, with_border_zoom
from ..crop.zoom import zooms_to_fill
from ..path.trajectory import Correction
from ..runtime.typed_torch import from_numpy
from .captions import draw_caption

CUT_COLOR, FILL_COLOR, CANVAS_COLOR = (0.75, 0.1, 0.15), (0.25, 0.45, 1.0), (0.12, 0.12, 0.13)
CUT_OPACITY = 0.6  # of the color over the cropped area


def find_max_zoom_frame(correction: Correction) -> int:
    """Index of the frame that needs the most magnification to be filled."""
    return int(zooms_to_fill(correction).argmax())


def draw_crop_overlay(
    frame: Frames, correction: Correction, frame_number: int, border: Border = Border.CROP, *, pad: int = 0
) -> Frames:
    """Draw the output area of a warp on a source frame.

    frame: number `frame_number`, (1, 3 or 4, H, W). Returns RGB (1, 3, H', W').

    A white outline is the output frame. Red is outside it and is cropped; blue is inside it but outside the source, and
    is filled by the border. The canvas extends the frame by the blue area, by at most half the frame on each side.
    pad: as for `warp`, in pixels of the frame. If the correction has bars, the area inside them is drawn.
    Raises ClipError for a frame number outside the correction, and as `with_border_zoom` does.
    """
    height, width = frame.shape[-2:]
    if not 0 <= frame_number < len(correction.matrices):
        raise ClipError(f"there is no frame {frame_number}: motion was measured for {len(correction.matrices)} frames")
    correction = with_border_zoom(correction.resized(width, height), Border(border))
    correction, index = _section_of(correction, frame_number)
    if correction.bars is not None:  # only the area inside is cropped
        frame = frame[(..., *correction.bars.area(height, width))]
        correction, (height, width) = replace(correction, bars=None), frame.shape[-2:]
    matrix = correction.matrices[index]
    corners = geometry.corners(width + 2 * pad, height + 2 * pad)
    outline = geometry.transform_points(geometry.inverse(matrix), corners) + np.array([width / 2, height / 2])
    left, top = (_canvas_margin(-float(low), size) for low, size in zip(outline.min(0), (width, height), strict=True))
    right, bottom = (
        _canvas_margin(float(high) - size, size) for high, size in zip(outline.max(0), (width, height), strict=True)
    )
    x = torch.arange(-left, width + right, dtype=torch.float64) + 0.5
    y = torch.arange(-top, height + bottom, dtype=torch.float64)[:, None] + 0.5
    visible = _visible_mask(matrix, x - width / 2, y - height / 2, width / 2 + pad, height / 2 + pad)
    in_source = ((x > 0) & (x < width) & (y > 0) & (y < height)).expand_as(visible)
    canvas = torch.tensor(CANVAS_COLOR).view(3, 1, 1).repeat(1, *visible.shape)
    canvas[:, visible & ~in_source] = torch.tensor(FILL_COLOR)[:, None]
    pixels = frame[0, :3].cpu().float()
    inner = canvas[:, top : top + height, left : left + width]
    cropped = ~visible[top : top + height, left : left + width]
    tinted = pixels * (1 - CUT_OPACITY) + torch.tensor(CUT_COLOR).view(3, 1, 1) * CUT_OPACITY
    inner.copy_(torch.where(cropped, tinted, pixels))
    overlay = _draw_outline(canvas, [(float(a) + left, float(b) + top) for a, b in outline])
    cropped_percent = 100 * float(cropped.double().mean())
    filled_percent = 100 * float((visible & ~in_source).sum() / visible.sum().clamp(min=1))
    return draw_caption(
        overlay, f"frame {frame_number}: {cropped_percent:.1f} % cropped, {filled_percent:.1f} % synthesized"
    )


def _section_of(correction: Correction, frame_number: int) -> tuple[Correction, int]:
    """The part of a correction with the bars of a frame, and the index in it."""
    for part in correction.split_by_bars():
        if frame_number < len(part.matrices):
            return part, frame_number
        frame_number -= len(part.matrices)
    raise IndexError(frame_number)


def blank_frame(correction: Correction) -> Frames:
    """A gray frame of the size of the correction, to draw on without source pixels."""
    info = correction.frame_info
    return torch.full((1, 3, info.height, info.width), 0.5)


def identity_correction(correction: Correction) -> Correction:
    """The same correction with identity matrices."""
    return replace(correction, matrices=np.broadcast_to(np.eye(3), correction.matrices.shape).copy())


def _canvas_margin(overshoot: float, size: int) -> int:
    """Return the canvas margin on one side, in pixels.

    overshoot: pixels by which the outline exceeds a frame of that size.
    """
    return min(size // 2, max(0, ceil(overshoot - 1e-6) + 2)) if overshoot > 1e-6 else 0


def _visible_mask(matrix: geometry.Matrices, x: Tensor, y: Tensor, half_width: float, half_height: float) -> Tensor:
    """Return which source points a matrix maps into the output rectangle.

    x, y: in pixels from the center. Returns (h, w) bool.
    """
    (a, b, c), (d, e, f), (g, h, i) = matrix.tolist()
    depth = g * x + h * y + i
    return (
        (depth > 0)
        & ((a * x + b * y + c).abs() <= half_width * depth)
        & ((d * x + e * y + f).abs() <= half_height * depth)
    )


def _draw_outline(canvas: Tensor, corners: list[tuple[float, float]]) -> Frames:
    """Draw a white outline through the corners: (3, h, w) -> (1, 3, h, w)."""
    height, width = canvas.shape[-2:]
    line = Image.new("L", (width, height), 0)
    draw = ImageDraw.Draw(line)
    draw.line([*corners, corners[0], corners[1]], fill=255, width=max(1, round(min(width, height) / 240)))
    mask = from_numpy(np.array(line, dtype=np.float32) / 255)
    return (canvas * (1 - mask) + mask)[None]
