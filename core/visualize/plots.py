"""Pictures of what was measured: a flow as colours, a path before and after as curves."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..clip import Frames
from ..path.border import Border, with_border_zoom
from ..path.trajectory import Correction, Trajectory, correction
from ..path.zoom import MAX_ZOOM, zooms_to_fill

COLOR_WHEEL = ((15, (1, 0, 0), (1, 1, 0)), (6, (1, 1, 0), (0, 1, 0)), (4, (0, 1, 0), (0, 1, 1)),
         (11, (0, 1, 1), (0, 0, 1)), (13, (0, 0, 1), (1, 0, 1)), (6, (1, 0, 1), (1, 0, 0)))  # fmt: skip
"""The colour circle of Baker et al., A Database and Evaluation Methodology for Optical Flow (2011): steps, from, to.
More steps where the eye tells hues apart."""


MIN_FLOW_RANGE_PIXELS = (
    0.5  # pixels: where nothing is faster, nothing is shown in full colour, for it may be the estimator alone
)


def flow_to_image(flow: Tensor, max_motion: float | None = None) -> Frames:
    """A flow (B, 2, H, W) -> RGB frames (B, 3, H, W): the hue says where to, the saturation how fast.

    largest: motion in pixels shown in full colour; None takes the fastest of the batch (its 99th percentile, so that a
    few wild vectors do not pale the rest). White stands still. A wheel in the corner shows which colour goes where.
    """
    speed = flow.norm(dim=1)
    if max_motion is None:
        max_motion = float(np.quantile(speed.cpu().numpy(), 0.99))
    picture = colorize_flow(flow / max(max_motion, MIN_FLOW_RANGE_PIXELS))
    return draw_color_wheel(picture)


def draw_color_wheel(image: Frames) -> Frames:
    """The same frames (B, 3, H, W), written into: the colour wheel stands in the lower right corner, if they are large
    enough for it.
    """
    size = min(image.shape[-2:]) // 4
    if size >= 16:
        axis = torch.linspace(-1, 1, size)
        wheel = torch.stack(torch.meshgrid(axis, axis, indexing="xy"))[None]
        disc = (wheel.norm(dim=1, keepdim=True) <= 1).to(image)
        corner = image[..., -size:, -size:]
        corner.copy_(disc * colorize_flow(wheel).to(image) + (1 - disc) * corner)
    return image


def colorize_flow(flow: Tensor) -> Tensor:
    """Flow (B, 2, H, W) whose full speed is 1 -> RGB (B, 3, H, W)."""
    circle = torch.cat([
        torch.lerp(torch.tensor(a, dtype=torch.float32), torch.tensor(b, dtype=torch.float32),
                   torch.arange(n)[:, None] / n)
        for n, a, b in COLOR_WHEEL
    ]).to(flow.device)  # (55, 3)  # fmt: skip
    turn = torch.atan2(flow[:, 1], flow[:, 0]) / (2 * math.pi) % 1  # (B, H, W), 0 points right, 1/4 down
    place = turn * len(circle)
    index = place.long() % len(circle)
    hue = torch.lerp(circle[index], circle[(index + 1) % len(circle)], (place - place.floor())[..., None])
    speed = flow.norm(dim=1).clamp(max=1)[..., None]
    return (1 - speed * (1 - hue)).permute(0, 3, 1, 2)


PANELS = (
    ("sideways, px", 0, 1.0),
    ("up and down, px", 1, 1.0),
    ("roll, degrees", 2, 180 / math.pi),
    ("zoom, %", 3, 100.0),
)
BEFORE_COLOR, AFTER_COLOR, LIMIT_COLOR, ZOOM_COLOR = (235, 120, 40), (30, 110, 220), (200, 30, 60), (20, 140, 70)
GRID_COLOR, TEXT_COLOR = (225, 225, 230), (60, 60, 70)


def plot_trajectory(
    before: Trajectory,
    after: Trajectory | None,
    width: int = 960,
    height: int = 720,
    *,
    applied: Correction | None = None,
    max_zoom: float | None = None,
    border: Border | None = None,
) -> Frames:
    """The camera's path before and after smoothing, as one RGB frame (1, 3, height, width): a panel per parameter.

    The last panel shows the price: by how much each frame has to be enlarged so that no border shows, and the budget
    `max_zoom` (1.2 means 20 %), if there is one, as a line across. Time runs to the right in seconds, cuts are vertical
    lines, and both curves of a panel share its scale.
    after: None draws the path as it was measured, without a price. applied: what is done to the frames, for the price;
    None takes what leads from the one path to the other. border: what the frames will be warped with; where it crops,
    the price shows how far it zooms in as well, and what cannot be cropped raises ClipError as `framed` does.
    """
    fine = 2  # drawn twice as large and reduced, which is how Pillow smooths lines
    sheet = Image.new("RGB", (width * fine, height * fine), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13 * fine)
    margin, title = 64 * fine, 26 * fine
    panels, key = _build_panels(before, after, applied, max_zoom, border)
    left = margin
    for text, ink, room in key:
        draw.text((left, 5 * fine), text, fill=ink, font=font)
        left += room * fine
    panel = (height * fine - title) // len(panels)
    for row, (name, curves) in enumerate(panels):
        box = (margin, title + row * panel + 20 * fine, width * fine - 16 * fine, title + (row + 1) * panel - 20 * fine)
        _draw_panel(draw, font, box, name, before, curves, fine)
    pixels = np.asarray(sheet.resize((width, height), Image.Resampling.LANCZOS), dtype=np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()


Curves: TypeAlias = "list[tuple[NDArray[np.float64], tuple[int, int, int]]]"
"""Values frame by frame, and their ink."""


def _build_panels(
    before: Trajectory,
    after: Trajectory | None,
    applied: Correction | None,
    max_zoom: float | None,
    border: Border | None,
) -> tuple[list[tuple[str, Curves]], list[tuple[str, tuple[int, int, int], int]]]:
    """The panels, (name, curves) each, and the key above them: (text, ink, pixels of room to its right)."""
    panels = [(name, [(before.path[:, column] * unit, BEFORE_COLOR)]) for name, column, unit in PANELS]
    key = [("camera path", TEXT_COLOR, 110), ("before", BEFORE_COLOR, 55)]
    if after is None:
        return panels, key
    key.append(("after", AFTER_COLOR, 45))
    for (_, curves), (_, column, unit) in zip(panels, PANELS, strict=True):
        curves.append((after.path[:, column] * unit, AFTER_COLOR))
    fix = correction(before, after) if applied is None else applied
    price = zooms_to_fill(fix).clip(max=MAX_ZOOM)
    curves = [((price - 1) * 100, AFTER_COLOR)]
    if border is not None and Border(border) in (Border.CROP, Border.CROP_ADAPTIVE):
        key.append((f"zoom of {Border(border).value}", ZOOM_COLOR, 70 + 7 * len(Border(border).value)))
        curves.insert(0, (_border_zoom_percent(fix, Border(border)), ZOOM_COLOR))
    if max_zoom is not None:
        key.append(("most crop allowed", LIMIT_COLOR, 0))
        curves.insert(0, (np.full(len(price), (max_zoom - 1) * 100), LIMIT_COLOR))
    return [*panels, ("crop needed, %", curves)], key


def _border_zoom_percent(fix: Correction, border: Border) -> NDArray[np.float64]:
    """(N,): by how much the border enlarges each frame, in per cent."""
    across = np.linalg.norm(with_border_zoom(fix, border).matrices[:, 0], axis=1) / np.linalg.norm(
        fix.matrices[:, 0], axis=1
    )
    return (across - 1) * 100


def _draw_panel(draw, font, box, name: str, trajectory: Trajectory, curves: Curves, oversampling: int) -> None:
    left, top, right, bottom = box
    low, high = min(float(values.min()) for values, _ in curves), max(float(values.max()) for values, _ in curves)
    room = max((high - low) * 0.08, 0.5)
    low, high = low - room, high + room
    last = max(len(curves[0][0]) - 1, 1)
    rate = float(trajectory.info.fps)

    def to_pixel(i: float, value: float) -> tuple[float, float]:
        return left + (right - left) * i / last, bottom - (bottom - top) * (value - low) / (high - low)

    for tick in ticks(low, high, 5):
        _, y = to_pixel(0, tick)
        draw.line([(left, y), (right, y)], fill=GRID_COLOR, width=oversampling)
        draw.text((left - 6 * oversampling, y), f"{tick:g}", fill=TEXT_COLOR, font=font, anchor="rm")
    for tick in ticks(0, last / rate, 8):
        x, _ = to_pixel(tick * rate, low)
        draw.line([(x, top), (x, bottom)], fill=GRID_COLOR, width=oversampling)
        draw.text((x, bottom + 3 * oversampling), f"{tick:g} s", fill=TEXT_COLOR, font=font, anchor="mt")
    draw.rectangle(box, outline=TEXT_COLOR, width=oversampling)
    draw.text((left + 4 * oversampling, top - 3 * oversampling), name, fill=TEXT_COLOR, font=font, anchor="lb")
    for shot in trajectory.shots:
        if shot.start:
            x, _ = to_pixel(shot.start - 0.5, low)
            draw.line([(x, top), (x, bottom)], fill=TEXT_COLOR, width=2 * oversampling)
        for values, colour in curves:
            line = [to_pixel(i, float(values[i])) for i in range(shot.start, shot.stop)]
            draw.line(line if len(line) > 1 else [line[0], line[0]], fill=colour, width=2 * oversampling, joint="curve")


def ticks(low: float, high: float, target_count: int) -> list[float]:
    """Round numbers between low and high, roughly `about` of them; two to six for 5, and one would be no scale."""
    raw = (high - low) / target_count
    if raw <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= raw)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
