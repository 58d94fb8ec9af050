"""A training run as a picture: how the losses fall, how the score rises, and what it makes of a picture by now."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ..clip import Frames
from .plots import AFTER_COLOR, BEFORE_COLOR, GRID_COLOR, LIMIT_COLOR, TEXT_COLOR, ticks

CURVE_COLORS = (BEFORE_COLOR, AFTER_COLOR, LIMIT_COLOR, (60, 150, 70), (130, 80, 170), (120, 120, 130))
POINTS_PER_CURVE = 60  # of the run, each one point of a curve: the mean of its steps
Curve = tuple[np.ndarray, np.ndarray]  # steps, values
_SUPERSAMPLING = 2  # drawn twice as large and reduced, which is how Pillow smooths lines


def plot_run(
    log_lines: Sequence[Mapping[str, Any]],
    steps: int,
    *,
    width: int = 768,
    height: int = 384,
    bicubic: float | None = None,
    sample: Frames | None = None,
) -> Frames:
    """One RGB frame (1, 3, height or more, width): a panel for the losses and one for PSNR, over `steps` steps.

    facts: lines of the run's log (`read_log`). bicubic: dB of plain enlargement, drawn as the line to be above.
    sample: (1, 3, h, w), put below at the full width; "input, result, truth" is written on it.
    """
    sheet = Image.new("RGB", (width * _SUPERSAMPLING, height * _SUPERSAMPLING), "white")
    draw = ImageDraw.Draw(sheet)
    losses = {name.removeprefix("loss/"): _smooth_curve(log_lines, name) for name in _names(log_lines, "loss/")}
    scores = {f"PSNR {name.removeprefix('psnr/')}": _read_curve(log_lines, name) for name in _names(log_lines, "psnr/")}
    flat = () if bicubic is None else (bicubic,)
    middle = height * _SUPERSAMPLING // 2
    _draw_panel(draw, (0, 0, width * _SUPERSAMPLING, middle), "loss", losses, steps, logarithmic=True)
    _draw_panel(
        draw, (0, middle, width * _SUPERSAMPLING, height * _SUPERSAMPLING), "dB", scores, steps, horizontals=flat
    )
    pixels = np.asarray(sheet.resize((width, height), Image.Resampling.LANCZOS), dtype=np.float32) / 255
    plot = torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()
    return plot if sample is None else torch.cat([plot, _label_sample(sample, width)], dim=2)


def _names(log_lines: Sequence[Mapping[str, Any]], prefix: str) -> list[str]:
    return list(dict.fromkeys(name for line in log_lines for name in line if name.startswith(prefix)))


def _read_curve(log_lines: Sequence[Mapping[str, Any]], name: str) -> Curve:
    known = [(line["step"], line[name]) for line in log_lines if name in line]
    return np.array([step for step, _ in known], float), np.array([value for _, value in known], float)


def _smooth_curve(log_lines: Sequence[Mapping[str, Any]], name: str) -> Curve:
    """Losses jump from step to step with what they are shown; the mean over a piece of the run tells where they go."""
    steps, values = _read_curve(log_lines, name)
    pieces = range(0, len(steps), max(1, len(steps) // POINTS_PER_CURVE))
    parts = [slice(start, start + pieces.step) for start in pieces]
    return np.array([steps[part].mean() for part in parts]), np.array([values[part].mean() for part in parts])


def _draw_panel(
    draw: ImageDraw.ImageDraw,
    box: tuple[int, int, int, int],
    unit: str,
    curves: Mapping[str, Curve],
    steps: int,
    *,
    logarithmic: bool = False,
    horizontals: tuple[float, ...] = (),
) -> None:
    font = ImageFont.load_default(13 * _SUPERSAMPLING)
    left, top, right, bottom = (
        box[0] + 60 * _SUPERSAMPLING,
        box[1] + 24 * _SUPERSAMPLING,
        box[2] - 16 * _SUPERSAMPLING,
        box[3] - 20 * _SUPERSAMPLING,
    )
    draw.rectangle((left, top, right, bottom), outline=TEXT_COLOR, width=_SUPERSAMPLING)
    # Losses fall by factors, so that a straight scale would show the first steps and nothing else.
    logarithmic = logarithmic and all((values > 0).all() for _, values in curves.values())
    change = np.log10 if logarithmic else np.asarray
    heights = np.concatenate([*(change(values) for _, values in curves.values()), np.asarray(horizontals, float)])
    x, title = left, top - 4 * _SUPERSAMPLING
    draw.text((x, title), unit, fill=TEXT_COLOR, font=font, anchor="lb")
    if not heights.size:
        return
    room = max(float(np.ptp(heights)) * 0.1, 0.02)
    low, high = float(heights.min()) - room, float(heights.max()) + room

    def to_pixel(step: float, height: float) -> tuple[float, float]:
        return left + (right - left) * step / max(steps, 1), bottom - (bottom - top) * (height - low) / (high - low)

    for tick in _log_ticks(low, high) if logarithmic else ticks(low, high, 5):
        _, y = to_pixel(0, tick)
        draw.line([(left, y), (right, y)], fill=GRID_COLOR, width=_SUPERSAMPLING)
        shown = f"{10**tick:.3g}" if logarithmic else f"{tick:.4g}"
        draw.text((left - 6 * _SUPERSAMPLING, y), shown, fill=TEXT_COLOR, font=font, anchor="rm")
    for tick in ticks(0, steps, 6):
        across, _ = to_pixel(tick, low)
        draw.text((across, bottom + 3 * _SUPERSAMPLING), f"{tick:g}", fill=TEXT_COLOR, font=font, anchor="mt")
    for value in horizontals:
        draw.line([to_pixel(0, value), to_pixel(steps, value)], fill=TEXT_COLOR, width=_SUPERSAMPLING)
    x += draw.textlength(unit, font) + 16 * _SUPERSAMPLING
    if horizontals:
        draw.text((x, title), "bicubic", fill=TEXT_COLOR, font=font, anchor="lb")
        x += draw.textlength("bicubic", font) + 16 * _SUPERSAMPLING
    for number, (name, (places, values)) in enumerate(curves.items()):
        colour = CURVE_COLORS[number % len(CURVE_COLORS)]
        draw.text((x, title), name, fill=colour, font=font, anchor="lb")
        x += draw.textlength(name, font) + 16 * _SUPERSAMPLING
        line = [to_pixel(step, height) for step, height in zip(places, change(values), strict=True)]
        if len(line) > 1:
            draw.line(line, fill=colour, width=2 * _SUPERSAMPLING, joint="curve")
        elif line:  # a line of no length would not be seen
            ((across, height),) = line
            draw.circle((min(across, right - 3 * _SUPERSAMPLING), height), 3 * _SUPERSAMPLING, fill=colour)


def _log_ticks(low: float, high: float) -> list[float]:
    """Logarithms, between low and high, of numbers that are easy to read."""
    for beginnings in ((1,), (1, 3), (1, 2, 5)):
        powers = range(math.floor(low), math.ceil(high) + 1)
        logs = [power + math.log10(first) for power in powers for first in beginnings]
        if len(found := [value for value in logs if low <= value <= high]) > 2:
            return found
    return [math.log10(value) for value in ticks(10**low, 10**high, 4)]


def append_table(image: Frames, text: str) -> Frames:
    """A picture (1, 3, H, W) with a table below it: lines whose cells are two spaces or more apart."""
    rows = [re.split(r" {2,}", line) for line in text.splitlines()]
    font, height = ImageFont.load_default(14), 22
    columns = max(map(len, rows))
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    # The first row lacks the name of its first column, which is empty.
    widths = [max(measure.textlength(row[n], font) if n < len(row) else 0 for row in rows) + 24 for n in range(columns)]
    width = max(image.shape[-1], round(sum(widths)))
    sheet = Image.new("RGB", (width, image.shape[-2] + height * len(rows) + 16), "white")
    sheet.paste(to_pil(image), (0, 0))
    draw = ImageDraw.Draw(sheet)
    for line, row in enumerate(rows):
        for number, cell in enumerate(row):
            place = 12 + sum(widths[:number]), image.shape[-2] + 8 + line * height
            draw.text(place, cell, fill=TEXT_COLOR, font=font)
    return to_frame(sheet)


def _label_sample(sample: Frames, width: int) -> Frames:
    """A sample at the width of the plot, its pixels repeated where that makes it larger, with its parts named."""
    height = max(1, round(sample.shape[-2] * width / sample.shape[-1]))
    picture = to_pil(sample).resize((width, height), Image.Resampling.NEAREST)
    for number, name in enumerate(("input", "result", "truth")):
        draw_label(picture, name, (width * number // 3, 0))
    return to_frame(picture)


def draw_label(image: Image.Image, text: str, position: tuple[float, float]) -> None:
    """Write on a dark patch whose upper left corner is at (x, y)."""
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(14)
    left, top, right, bottom = draw.textbbox((position[0] + 6, position[1] + 4), text, font)
    draw.rectangle((left - 6, top - 4, right + 6, bottom + 4), fill=(30, 30, 36))
    draw.text((position[0] + 6, position[1] + 4), text, fill="white", font=font)


def to_pil(frame: Frames) -> Image.Image:
    return Image.fromarray((frame[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())


def to_frame(image: Image.Image) -> Frames:
    pixels = np.asarray(image, dtype=np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()
