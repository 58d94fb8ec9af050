"""Flow as colors and camera paths as plots."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ImageDraw
from torch import Tensor

from ..clip import Frames
from ..path.border import Border, with_border_zoom
from ..path.trajectory import Correction, Trajectory, correction
from ..path.zoom import MAX_ZOOM, zooms_to_fill
from ..runtime.deprecation import renamed_arguments
from ..runtime.typed_torch import norm
from .panel import (
    AFTER_COLOR,
    BEFORE_COLOR,
    LIMIT_COLOR,
    SUPERSAMPLING,
    TEXT_COLOR,
    ZOOM_COLOR,
    Color,
    Curve,
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
    do not reduce the saturation of the rest. White is no motion. A color wheel in the corner is the legend.
    """
    speed = norm(flow, dim=1)
    if max_motion is None:
        max_motion = float(np.quantile(speed.cpu().numpy(), 0.99))
    return draw_color_wheel(colorize_flow(flow / max(max_motion, MIN_FLOW_RANGE_PIXELS)))


def draw_color_wheel(image: Frames) -> Frames:
    """Draw the color wheel into the lower right corner of frames, in place.

    Frames are (B, 3, H, W); small ones are not changed.
    """
    size = min(image.shape[-2:]) // 4
    if size >= 16:
        axis = torch.linspace(-1, 1, size)
        wheel = torch.stack(torch.meshgrid(axis, axis, indexing="xy"))[None]
        disc = (norm(wheel, dim=1, keepdim=True) <= 1).to(image)
        corner = image[..., -size:, -size:]
        corner.copy_(disc * colorize_flow(wheel).to(image) + (1 - disc) * corner)
    return image


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
    ("sideways, px", 0, 1.0),
    ("up and down, px", 1, 1.0),
    ("roll, degrees", 2, 180 / math.pi),
    ("zoom, %", 3, 100.0),
)

Series = tuple[NDArray[np.float64], Color]  # one value per frame, and its color


def plot_trajectory(
    before: Trajectory,
    after: Trajectory | None,
    width: int = 960,
    height: int = 720,
    *,
    applied: Correction | None = None,
    max_zoom: float | None = None,
    border: Border | None = None,
    caption: str = "",
) -> Frames:
    """Plot the camera path before and after smoothing.

    Returns one RGB frame (1, 3, height, width), with a panel per parameter.

    The last panel shows the zoom that each frame needs so that no border is visible, and the limit `max_zoom` (1.2
    means 20 %), if given, as a horizontal line. The x axis is time in seconds, cuts are vertical lines, and both curves
    of a panel share its scale.
    after: None plots the measured path only. applied: the correction of the frames, for the last panel; None takes that
    from `before` to `after`. border: the border of the warp; for a crop, the last panel also shows its zoom, and what
    cannot be cropped raises ClipError as `with_border_zoom` does. caption: a line of text above the panels.
    """
    canvas = new_canvas(width, height)
    draw = ImageDraw.Draw(canvas)
    margin, title_height = 64 * SUPERSAMPLING, (44 if caption else 26) * SUPERSAMPLING
    panels, legend = _build_panels(before, after, applied, max_zoom, border)
    left = margin
    for text, color, advance in legend:
        draw.text((left, 5 * SUPERSAMPLING), text, fill=color, font=plot_font())
        left += advance * SUPERSAMPLING
    draw.text((margin, 24 * SUPERSAMPLING), caption, fill=TEXT_COLOR, font=plot_font())
    times, rate = before.frame_times - before.frame_times[:1], float(before.info.fps)
    last = max(float(times[-1]), 1.0) if len(times) else 1.0
    x_ticks = [(tick * rate, f"{tick:g} s") for tick in ticks(0, last / rate, 8)]
    cuts = [float(times[shot.start - 1] + times[shot.start]) / 2 for shot in before.shots if shot.start]
    panel_height = (canvas.height - title_height) // len(panels)
    for row, (name, series) in enumerate(panels):
        top, bottom = (title_height + (row + n) * panel_height for n in (0, 1))
        box = (margin, top + 20 * SUPERSAMPLING, canvas.width - 16 * SUPERSAMPLING, bottom - 20 * SUPERSAMPLING)
        curves = [Curve(times[shot], values[shot], color) for shot in before.shots for values, color in series]
        draw_panel(draw, box, name, curves, last, x_ticks, cuts=cuts)
    return canvas_to_frame(canvas)


def _build_panels(
    before: Trajectory,
    after: Trajectory | None,
    applied: Correction | None,
    max_zoom: float | None,
    border: Border | None,
) -> tuple[list[tuple[str, list[Series]]], list[tuple[str, Color, int]]]:
    """Return the panels and the legend above them.

    Panels are (name, series); legend entries are (text, color, advance in pixels).
    """
    panels = [(name, [(before.path[:, column] * unit, BEFORE_COLOR)]) for name, column, unit in PANELS]
    legend = [("camera path", TEXT_COLOR, 110), ("before", BEFORE_COLOR, 55)]
    if after is None:
        return panels, legend
    legend.append(("after", AFTER_COLOR, 45))
    for (_, series), (_, column, unit) in zip(panels, PANELS, strict=True):
        series.append((after.path[:, column] * unit, AFTER_COLOR))
    fix = correction(before, after) if applied is None else applied
    required = zooms_to_fill(fix).clip(max=MAX_ZOOM)
    series = [((required - 1) * 100, AFTER_COLOR)]
    if border is not None and Border(border) in (Border.CROP, Border.CROP_ADAPTIVE):
        legend.append((f"zoom of {Border(border).value}", ZOOM_COLOR, 70 + 7 * len(Border(border).value)))
        series.insert(0, (_border_zoom_percent(fix, Border(border)), ZOOM_COLOR))
    if max_zoom is not None:
        legend.append(("most crop allowed", LIMIT_COLOR, 0))
        series.insert(0, (np.full(len(required), (max_zoom - 1) * 100), LIMIT_COLOR))
    return [*panels, ("crop needed, %", series)], legend


def _border_zoom_percent(fix: Correction, border: Border) -> NDArray[np.float64]:
    """The zoom of the border per frame, (N,), in per cent."""
    before, after = (np.linalg.norm(m[:, 0], axis=1) for m in (fix.matrices, with_border_zoom(fix, border).matrices))
    return (after / before - 1) * 100
