"""Flow as colors and camera paths as plots."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ImageDraw
from torch import Tensor

from ..clip import Frames
from ..crop.border import Border, border_zooms
from ..crop.zoom import MAX_ZOOM, zooms_to_fill
from ..path.trajectory import Correction, Trajectory, correction
from ..runtime.deprecation import renamed_arguments
from ..runtime.typed_torch import norm
from .captions import draw_caption
from .panel import (
    AFTER_COLOR,
    BEFORE_COLOR,
    LIMIT_COLOR,
    SUPERSAMPLING,
    TEXT_COLOR,
    ZOOM_COLOR,
    Color,
    Curve,
    Marker,
    canvas_to_frame,
    draw_panel,
    new_canvas,
    plot_font,
    ticks,
)

COLOR_WHEEL = ((15, (1, 0, 0), (1, 1, 0)), (6, (1, 1, 0), (0, 1, 0)), (4, (0, 1, 0), (0, 1, 1)),
         (11, (0, 1, 1), (0, 0, 1)), (13, (0, 0, 1), (1, 0, 1)), (6, (1, 0, 1), (1, 0, 0)))  # fmt: skip
"""The color wheel of Baker et al., A Database and Evaluation Methodology for Optical Flow (2011): steps, from, to.
It has more steps where the eye distinguishes more hues."""

MIN_FLOW_RANGE_PIXELS = 0.5  # slower motion is not scaled to full saturation: it may be noise of the estimator


@renamed_arguments(largest="max_motion")
def flow_to_image(flow: Tensor, max_motion: float | None = None) -> Frames:
    """Visualize a flow (B, 2, H, W) as RGB frames (B, 3, H, W).

    Hue is direction, saturation is speed.

    max_motion: motion in pixels at full saturation; None takes the 99th percentile of the batch, so that a few outliers
    do not reduce the saturation of the rest. White is no motion. A color wheel in the corner is the legend, and a
    caption says which motion has its full color; images too small for the wheel have neither.
    """
    speed = norm(flow, dim=1)
    if max_motion is None:
        max_motion = float(np.quantile(speed.cpu().numpy(), 0.99))
    max_motion = max(max_motion, MIN_FLOW_RANGE_PIXELS)
    image = draw_color_wheel(colorize_flow(flow / max_motion))
    if _wheel_size(image) is None:
        return image
    return draw_caption(
        image, f"full color: {max_motion:.1f} px per frame", bottom=True, size=min(image.shape[-2:]) // 14
    )


def draw_color_wheel(image: Frames) -> Frames:
    """Draw the color wheel into the lower right corner of frames, in place.

    Frames are (B, 3, H, W); small ones are not changed.
    """
    size = _wheel_size(image)
    if size is not None:
        axis = torch.linspace(-1, 1, size)
        wheel = torch.stack(torch.meshgrid(axis, axis, indexing="xy"))[None]
        disc = (norm(wheel, dim=1, keepdim=True) <= 1).to(image)
        corner = image[..., -size:, -size:]
        corner.copy_(disc * colorize_flow(wheel).to(image) + (1 - disc) * corner)
    return image


def _wheel_size(image: Frames) -> int | None:
    """Side of the color wheel in pixels, or None for an image too small for one."""
    size = min(image.shape[-2:]) // 4
    return size if size >= 16 else None


def colorize_flow(flow: Tensor) -> Tensor:
    """Colors (B, 3, H, W) of a flow (B, 2, H, W); a speed of 1 has full saturation."""
    wheel = torch.cat([
        torch.lerp(torch.tensor(a, dtype=torch.float32), torch.tensor(b, dtype=torch.float32),
                   torch.arange(n)[:, None] / n)
        for n, a, b in COLOR_WHEEL
    ]).to(flow.device)  # (55, 3)  # fmt: skip
    direction = torch.atan2(flow[:, 1], flow[:, 0]) / (2 * math.pi) % 1  # (B, H, W), 0 is right, 1/4 is down
    position = direction * len(wheel)
    index = position.long() % len(wheel)
    hue = torch.lerp(wheel[index], wheel[(index + 1) % len(wheel)], (position - position.floor())[..., None])
    speed = norm(flow, dim=1).clamp(max=1)[..., None]
    return (1 - speed * (1 - hue)).permute(0, 3, 1, 2)


PANELS = (
    ("horizontal, px", 0, 1.0),
    ("vertical, px", 1, 1.0),
    ("rotation, degrees", 2, 180 / math.pi),
    ("zoom, %", 3, 100.0),
)
MAIN_PANEL_COUNT = 2  # the rest is drawn on demand
MIN_MARKED_CROP_PERCENT = 0.05  # less is not visible
PANEL_HEIGHT, FONT_SIZE = 270, 22  # in pixels; nodes display plots at half their size or less
CAPTION_FONT_SIZE = 17  # small enough for a line of 110 letters

Series = tuple[NDArray[np.float64], Color]  # one value per frame, and its color


def plot_trajectory(
    before: Trajectory,
    after: Trajectory | None,
    width: int = 960,
    height: int | None = None,
    *,
    applied: Correction | None = None,
    max_zoom: float | NDArray[np.float64] | None = None,
    border: Border | None = None,
    caption: str = "",
    details: bool = False,
) -> Frames:
    """Plot the camera path before and after smoothing, in a dark theme.

    Returns one RGB frame (1, 3, height, width). Two rows show the horizontal and the vertical path in pixels. Labeled
    vertical lines mark cuts and the frame that needs the largest crop. The x axis is time in seconds, and both curves
    of a row share its scale.

    The second line of the legend has the zoom, in per cent, that keeps borders out of the frame that needs the largest
    crop, the limit `max_zoom` (1.2 means 20 %; one or (N,)), and the largest zoom of `border` if that crops.
    after: None plots the measured path only. height: None is 270 pixels for each row. applied: the correction of the
    frames; None takes that from `before` to `after`. border: that of the warp; what cannot be cropped raises ClipError
    as `with_border_zoom` does. caption: a line of text below the legend. details: also rows for rotation, zoom, and the
    crop that each frame needs, with limit and border.
    """
    fix = None if after is None else (correction(before, after) if applied is None else applied)
    crop = None if fix is None else _measure_crop(fix, max_zoom, border)
    rows = _build_rows(before, after, crop, details)
    height = PANEL_HEIGHT * len(rows) if height is None else height
    canvas = new_canvas(width, height)
    draw = ImageDraw.Draw(canvas)
    header_height = _draw_legend(draw, crop, caption)
    times, rate = before.frame_times - before.frame_times[:1], float(before.info.fps)
    last = max(float(times[-1]), 1.0) if len(times) else 1.0
    x_ticks = [(tick * rate, f"{tick:g} s") for tick in ticks(0, last / rate, 8)]
    markers = [
        Marker(float(times[shot.start - 1] + times[shot.start]) / 2, "cut", TEXT_COLOR)
        for shot in before.shots
        if shot.start
    ]
    if crop is not None and float(crop.needed.max(initial=0)) > MIN_MARKED_CROP_PERCENT:
        markers.append(Marker(float(times[crop.needed.argmax()]), "largest crop", LIMIT_COLOR, at_bottom=True))
    row_height = (canvas.height - header_height) // len(rows)
    line = (FONT_SIZE + 8) * SUPERSAMPLING
    for number, (name, series) in enumerate(rows):
        top, bottom = (header_height + (number + n) * row_height for n in (0, 1))
        box = (4 * line, top + line, canvas.width - line, bottom - line)
        curves = [Curve(times[shot], values[shot], color) for shot in before.shots for values, color in series]
        draw_panel(draw, box, name, curves, last, x_ticks, markers=markers, font_size=FONT_SIZE)
        markers = [replace(marker, label="") for marker in markers]  # labels once
    return canvas_to_frame(canvas)


@dataclass(frozen=True, eq=False)
class _Crop:
    """Zooms in per cent: needed, allowed, and of a border that crops."""

    needed: NDArray[np.float64]  # (N,), one per frame
    limit: NDArray[np.float64] | None  # (N,)
    border: Border | None
    of_border: NDArray[np.float64] | None


def _measure_crop(fix: Correction, max_zoom: float | NDArray[np.float64] | None, border: Border | None) -> _Crop:
    needed = (zooms_to_fill(fix).clip(max=MAX_ZOOM) - 1) * 100
    does_crop = border is not None and Border(border) in (Border.CROP, Border.CROP_ADAPTIVE)
    return _Crop(
        needed,
        None if max_zoom is None else np.broadcast_to((np.asarray(max_zoom) - 1) * 100, len(needed)),
        Border(border) if border is not None and does_crop else None,
        (border_zooms(fix, Border(border)) - 1) * 100 if border is not None and does_crop else None,
    )


def _build_rows(
    before: Trajectory, after: Trajectory | None, crop: _Crop | None, details: bool
) -> list[tuple[str, list[Series]]]:
    """The rows of the plot: (name, series)."""
    paths = [(before, BEFORE_COLOR), *([] if after is None else [(after, AFTER_COLOR)])]
    rows = [
        (name, [(trajectory.path[:, column] * unit, color) for trajectory, color in paths])
        for name, column, unit in (PANELS if details else PANELS[:MAIN_PANEL_COUNT])
    ]
    if crop is None or not details:
        return rows
    series = [(crop.needed, AFTER_COLOR)]
    if crop.of_border is not None:
        series.insert(0, (crop.of_border, ZOOM_COLOR))
    if crop.limit is not None:
        series.insert(0, (crop.limit, LIMIT_COLOR))
    return [*rows, ("crop, %", series)]


def _draw_legend(draw: ImageDraw.ImageDraw, crop: _Crop | None, caption: str) -> int:
    """Draw legend and caption at the top; return their height in canvas pixels."""
    lines = [[("camera path", TEXT_COLOR), ("before", BEFORE_COLOR)]]
    if crop is not None:
        lines[0].append(("after", AFTER_COLOR))
        lines.append([(f"largest crop {crop.needed.max(initial=0):.1f} %", AFTER_COLOR)])
        if crop.limit is not None:
            lines[1].append((f"allowed {crop.limit.max(initial=0):.0f} %", LIMIT_COLOR))
        if crop.border is not None and crop.of_border is not None:
            lines[1].append((f"zoom of {crop.border.value} {crop.of_border.max(initial=0):.1f} %", ZOOM_COLOR))
    font, advance, top = plot_font(FONT_SIZE), FONT_SIZE * SUPERSAMPLING, 8 * SUPERSAMPLING
    for line in lines:
        left = float(advance)
        for text, color in line:
            draw.text((left, top), text, fill=color, font=font)
            left += draw.textlength(text, font) + advance
        top += (FONT_SIZE + 6) * SUPERSAMPLING
    if caption:
        draw.text((advance, top), caption, fill=TEXT_COLOR, font=plot_font(CAPTION_FONT_SIZE))
        top += (CAPTION_FONT_SIZE + 6) * SUPERSAMPLING
    return top
