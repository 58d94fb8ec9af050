"""A line plot in a box: the panel that all plots are made of, drawn with Pillow."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..clip import Frames
from ..runtime.typed_torch import from_numpy

Color: TypeAlias = tuple[int, int, int]
Box: TypeAlias = tuple[int, int, int, int]  # left, top, right, bottom in pixels of the canvas

SUPERSAMPLING = 2  # the canvas is this many times as large, and reduced at the end: Pillow has no smooth lines
BEFORE_COLOR, AFTER_COLOR, LIMIT_COLOR, ZOOM_COLOR = (255, 150, 50), (70, 165, 255), (255, 85, 110), (80, 210, 130)
BACKGROUND_COLOR, GRID_COLOR, TEXT_COLOR = (23, 24, 29), (60, 62, 72), (224, 224, 230)
FONT_SIZE = 13  # in pixels of the plot


@dataclass(frozen=True, eq=False)
class Curve:
    """A polyline x, y (n,); a label adds it to the legend of its panel."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    color: Color
    label: str = ""


@dataclass(frozen=True)
class Marker:
    """A vertical line at x, with a label at the top or at the bottom of the panel."""

    x: float
    label: str
    color: Color
    at_bottom: bool = False


def new_canvas(width: int, height: int) -> Image.Image:
    """An empty dark canvas for a plot of that size."""
    return Image.new("RGB", (width * SUPERSAMPLING, height * SUPERSAMPLING), BACKGROUND_COLOR)


def canvas_to_frame(canvas: Image.Image) -> Frames:
    """Reduce a canvas to the size of the plot: (1, 3, H, W)."""
    size = canvas.width // SUPERSAMPLING, canvas.height // SUPERSAMPLING
    return image_to_frame(canvas.resize(size, Image.Resampling.LANCZOS))


def image_to_frame(image: Image.Image) -> Frames:
    """An RGB image as a frame (1, 3, H, W)."""
    pixels = np.array(image, dtype=np.float32) / 255
    return from_numpy(pixels).permute(2, 0, 1)[None].contiguous()


def frame_to_image(frame: Frames) -> Image.Image:
    """A frame (1, 3, H, W) as an RGB image of 8 bits."""
    return Image.fromarray((frame[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())


def plot_font(size: int = FONT_SIZE) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font of labels, for a size in pixels of the plot."""
    return ImageFont.load_default(size * SUPERSAMPLING)


def draw_panel(
    draw: ImageDraw.ImageDraw,
    box: Box,
    title: str,
    curves: Sequence[Curve],
    x_max: float,
    x_ticks: Iterable[tuple[float, str]],
    *,
    reference_lines: Sequence[tuple[float, str]] = (),
    markers: Sequence[Marker] = (),
    padding: tuple[float, float] = (0.08, 0.5),
    logarithmic: bool = False,
    font_size: int = FONT_SIZE,
) -> None:
    """Draw curves over x from 0 to `x_max`, with a grid and a legend.

    x_ticks: (x, label). reference_lines: horizontal lines (y, label). padding: space below and above the curves,
    relative to their range, and at least; for a logarithmic scale in decades. logarithmic: y in decades; ignored if a
    value is not positive. font_size: in pixels of the plot.
    """
    left, top, right, bottom = box
    scale, font = SUPERSAMPLING, plot_font(font_size)
    logarithmic = logarithmic and all(bool((curve.y > 0).all()) for curve in curves)
    heights = [np.log10(curve.y) if logarithmic else curve.y for curve in curves]
    values = np.concatenate([*heights, np.array([y for y, _ in reference_lines], np.float64)])
    label_y = top - 3 * scale
    draw.text((left + 4 * scale, label_y), title, fill=TEXT_COLOR, font=font, anchor="lb")
    if values.size == 0:
        draw.rectangle(box, outline=TEXT_COLOR, width=scale)
        return
    low, high = float(values.min()), float(values.max())
    space = max((high - low) * padding[0], padding[1])
    low, high = low - space, high + space

    def to_pixel(x: float, y: float) -> tuple[float, float]:
        return left + (right - left) * x / x_max, bottom - (bottom - top) * (y - low) / (high - low)

    for tick in log_ticks(low, high) if logarithmic else ticks(low, high, 5):
        _, y = to_pixel(0, tick)
        label = f"{10**tick:.3g}" if logarithmic else f"{tick:.6g}"
        draw.line([(left, y), (right, y)], fill=GRID_COLOR, width=scale)
        draw.text((left - 6 * scale, y), label, fill=TEXT_COLOR, font=font, anchor="rm")
    for tick, label in x_ticks:
        x, _ = to_pixel(tick, low)
        draw.line([(x, top), (x, bottom)], fill=GRID_COLOR, width=scale)
        draw.text((x, bottom + 3 * scale), label, fill=TEXT_COLOR, font=font, anchor="mt")
    draw.rectangle(box, outline=TEXT_COLOR, width=scale)
    legend = [(label, TEXT_COLOR) for _, label in reference_lines] + [(c.label, c.color) for c in curves if c.label]
    label_x = left + 4 * scale + draw.textlength(title, font) + 16 * scale
    for label, color in legend:
        draw.text((label_x, label_y), label, fill=color, font=font, anchor="lb")
        label_x += draw.textlength(label, font) + 16 * scale
    for value, _ in reference_lines:
        draw.line([to_pixel(0, value), to_pixel(x_max, value)], fill=TEXT_COLOR, width=scale)
    for marker in markers:
        _draw_marker(draw, box, to_pixel(marker.x, low)[0], marker, font)
    for curve, height in zip(curves, heights, strict=True):
        line = [to_pixel(float(x), float(y)) for x, y in zip(curve.x, height, strict=True)]
        if len(line) > 1:
            draw.line(line, fill=curve.color, width=2 * scale, joint="curve")
        elif line:  # a line needs two points: a single one is a dot, moved into the box
            draw.circle((min(line[0][0], right - 3 * scale), line[0][1]), 3 * scale, fill=curve.color)


def _draw_marker(
    draw: ImageDraw.ImageDraw,
    box: Box,
    x: float,
    marker: Marker,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """Draw a marker at a pixel column, its label on the side where it fits."""
    _, top, right, bottom = box
    gap = 5 * SUPERSAMPLING
    draw.line([(x, top), (x, bottom)], fill=marker.color, width=2 * SUPERSAMPLING)
    fits = x + gap + draw.textlength(marker.label, font) < right
    position = x + (gap if fits else -gap), bottom - gap if marker.at_bottom else top + gap
    anchor = ("l" if fits else "r") + ("b" if marker.at_bottom else "t")
    draw.text(position, marker.label, fill=marker.color, font=font, anchor=anchor)


def ticks(low: float, high: float, target_count: int) -> list[float]:
    """Return round numbers between low and high, about `target_count` of them.

    Two to six for 5.
    """
    raw = (high - low) / target_count
    if raw <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= raw)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Decimal logarithms, between low and high, of round numbers; at least two."""
    for mantissas in ((1,), (1, 3), (1, 2, 5)):
        powers = range(math.floor(low), math.ceil(high) + 1)
        logs = [power + math.log10(mantissa) for power in powers for mantissa in mantissas]
        if len(inside := [value for value in logs if low <= value <= high]) > 2:
            return inside
    return [math.log10(value) for value in ticks(10**low, 10**high, 4)]
