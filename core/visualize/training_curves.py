"""Plots of a training run: losses, PSNR and a sample image."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..clip import Frames
from .captions import draw_caption
from .panel import (
    AFTER_COLOR,
    BACKGROUND_COLOR,
    BEFORE_COLOR,
    LIMIT_COLOR,
    SUPERSAMPLING,
    TEXT_COLOR,
    ZOOM_COLOR,
    Box,
    Curve,
    canvas_to_frame,
    draw_panel,
    frame_to_image,
    image_to_frame,
    new_canvas,
    ticks,
)

CURVE_COLORS = (BEFORE_COLOR, AFTER_COLOR, LIMIT_COLOR, ZOOM_COLOR, (180, 130, 230), (160, 160, 170))
POINTS_PER_CURVE = 60  # each is the mean of a range of steps
Series = tuple[NDArray[np.float64], NDArray[np.float64]]  # steps, values


def plot_run(
    log_lines: Sequence[Mapping[str, Any]],
    steps: int,
    *,
    width: int = 768,
    height: int = 384,
    bicubic: float | None = None,
    sample: Frames | None = None,
) -> Frames:
    """Plot a run as one RGB frame (1, 3, height or more, width).

    It has a panel for the losses and one for PSNR.

    log_lines: of the run's log (`read_log`). steps: end of the x axis. bicubic: PSNR of bicubic upscaling in dB, drawn
    as a reference line. sample: (1, 3, h, w), placed below at the full width; its thirds are labeled "input", "result"
    and "truth".
    """
    canvas = new_canvas(width, height)
    draw = ImageDraw.Draw(canvas)
    losses = {name.removeprefix("loss/"): _smooth_series(log_lines, name) for name in _names(log_lines, "loss/")}
    scores = {
        f"PSNR {name.removeprefix('psnr/')}": _read_series(log_lines, name) for name in _names(log_lines, "psnr/")
    }
    references = [] if bicubic is None else [(bicubic, "bicubic")]
    x_ticks = [(tick, f"{tick:g}") for tick in ticks(0, steps, 6)]
    x_max, middle = max(steps, 1), canvas.height // 2
    padding = (0.1, 0.02)
    # Losses decrease by factors: on a linear scale only the first steps would be visible.
    box = _panel_box(canvas.width, 0, middle)
    draw_panel(draw, box, "loss", _to_curves(losses), x_max, x_ticks, padding=padding, logarithmic=True)
    box = _panel_box(canvas.width, middle, canvas.height)
    draw_panel(draw, box, "dB", _to_curves(scores), x_max, x_ticks, padding=padding, reference_lines=references)
    plot = canvas_to_frame(canvas)
    return plot if sample is None else torch.cat([plot, _label_sample(sample, width)], dim=2)


def _panel_box(width: int, top: int, bottom: int) -> Box:
    return 60 * SUPERSAMPLING, top + 24 * SUPERSAMPLING, width - 16 * SUPERSAMPLING, bottom - 20 * SUPERSAMPLING


def _to_curves(series: Mapping[str, Series]) -> list[Curve]:
    return [
        Curve(steps, values, CURVE_COLORS[number % len(CURVE_COLORS)], name)
        for number, (name, (steps, values)) in enumerate(series.items())
    ]


def _names(log_lines: Sequence[Mapping[str, Any]], prefix: str) -> list[str]:
    return list(dict.fromkeys(name for line in log_lines for name in line if name.startswith(prefix)))


def _read_series(log_lines: Sequence[Mapping[str, Any]], name: str) -> Series:
    points = [(line["step"], line[name]) for line in log_lines if name in line]
    return np.array([step for step, _ in points], float), np.array([value for _, value in points], float)


def _smooth_series(log_lines: Sequence[Mapping[str, Any]], name: str) -> Series:
    """Means over ranges of steps: losses vary from batch to batch."""
    steps, values = _read_series(log_lines, name)
    starts = range(0, len(steps), max(1, len(steps) // POINTS_PER_CURVE))
    parts = [slice(start, start + starts.step) for start in starts]
    return np.array([steps[part].mean() for part in parts]), np.array([values[part].mean() for part in parts])


def append_table(image: Frames, text: str) -> Frames:
    """Append a table below an image (1, 3, H, W).

    text: lines whose cells are separated by two or more spaces.
    """
    rows = [re.split(r" {2,}", line) for line in text.splitlines()]
    font, row_height = ImageFont.load_default(14), 22
    column_count = max(map(len, rows))
    ruler = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    # The first row has no cell for the first column.
    widths = [
        max(ruler.textlength(row[n], font) if n < len(row) else 0 for row in rows) + 24 for n in range(column_count)
    ]
    width = max(image.shape[-1], round(sum(widths)))
    sheet = Image.new("RGB", (width, image.shape[-2] + row_height * len(rows) + 16), BACKGROUND_COLOR)
    sheet.paste(frame_to_image(image), (0, 0))
    draw = ImageDraw.Draw(sheet)
    for line, row in enumerate(rows):
        for number, cell in enumerate(row):
            position = 12 + sum(widths[:number]), image.shape[-2] + 8 + line * row_height
            draw.text(position, cell, fill=TEXT_COLOR, font=font)
    return image_to_frame(sheet)


def _label_sample(sample: Frames, width: int) -> Frames:
    """Scale a sample to the width of the plot, and label its thirds.

    Interpolation is nearest-neighbor.
    """
    height = max(1, round(sample.shape[-2] * width / sample.shape[-1]))
    scaled = F.interpolate(sample, (height, width), mode="nearest-exact")
    edges = [width * n // 3 for n in range(4)]
    thirds = [scaled[..., a:b] for a, b in pairwise(edges)]
    names = ("input", "result", "truth")
    return torch.cat([draw_caption(part, name, size=14) for part, name in zip(thirds, names, strict=True)], dim=-1)
