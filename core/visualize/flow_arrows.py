"""Flow as arrows on the frame it was measured on."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from ..clip import Frames
from ..runtime.typed_torch import norm, to_list
from .captions import draw_caption
from .panel import image_to_frame
from .plots import MIN_FLOW_RANGE_PIXELS, colorize_flow, draw_color_wheel

ARROWS_PER_LONG_SIDE = 24
STILL_PIXELS = 0.2  # shorter motion is drawn as a dot


def draw_flow_arrows(frame: Frames, flow: Tensor) -> Frames:
    """Draw a flow as arrows on a frame.

    The flow is (1, 2, h, w), in its own pixels; frame: (1, 3 or 4, H, W) -> (1, 3, H, W).

    An arrow points from a pixel to its position in the next frame, in the color of its direction on the color wheel in
    the corner. Slow motion is magnified by the factor in the caption; the frame below is gray.
    """
    height, width = frame.shape[-2:]
    scale = torch.tensor([width / flow.shape[-1], height / flow.shape[-2]]).view(1, 2, 1, 1)
    step = max(8.0, max(width, height) / ARROWS_PER_LONG_SIDE)
    points = _arrow_points(width, height, step)
    grid = (points / torch.tensor([width, height]) * 2 - 1)[None, None].float()
    motions = F.grid_sample(flow.float().cpu() * scale, grid, align_corners=False, padding_mode="border")[0, :, 0].T
    fastest = float(np.quantile(norm(motions, dim=1).numpy(), 0.99))
    factor = _round_scale(1.2 * step / max(fastest, 1e-6))
    colors = colorize_flow((motions / max(fastest, MIN_FLOW_RANGE_PIXELS)).T[None, :, :, None])[0, :, :, 0].T
    gray = frame[:, :3].cpu().float().mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    canvas = Image.fromarray((gray[0] * 0.55 * 255).byte().permute(1, 2, 0).numpy())
    draw = ImageDraw.Draw(canvas)
    for (x, y), (dx, dy), color in zip(to_list(points), to_list(motions), to_list(colors), strict=True):
        ink = tuple(round(255 * value) for value in color)
        _draw_arrow(draw, (x, y), (dx, dy), factor, ink, step)
    scale_label = "arrows as long as the motion" if factor == 1 else f"arrows {factor:g} times the motion"
    caption = f"{scale_label}; fastest {fastest:.1f} px"
    return draw_caption(draw_color_wheel(image_to_frame(canvas)), caption, bottom=True)


def _arrow_points(width: int, height: int, step: float) -> Tensor:
    """(P, 2): evenly spaced points (x, y) in pixels from the upper left corner."""
    columns, rows = max(1, round(width / step)), max(1, round(height / step))
    x = (torch.arange(columns) + 0.5) * width / columns
    y = (torch.arange(rows) + 0.5) * height / rows
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)


def _round_scale(largest: float) -> float:
    """The largest round number up to `largest`, from 1 to 50."""
    return float(max((n for n in (1, 2, 5, 10, 20, 50) if n <= largest), default=1))


def _draw_arrow(
    draw: ImageDraw.ImageDraw,
    start: tuple[float, float],
    motion: tuple[float, float],
    factor: float,
    color: tuple[int, ...],
    step: float,
) -> None:
    line_width = max(1, round(step / 14))
    dot = line_width / 2
    x, y = start
    length = float(np.hypot(*motion))
    if length < STILL_PIXELS:
        draw.ellipse([x - dot, y - dot, x + dot, y + dot], fill=color)
        return
    direction = np.array(motion) / length
    tip = np.array(start) + factor * np.array(motion)
    head = min(step / 4, 0.5 * factor * length)
    side = np.array([-direction[1], direction[0]]) * head * 0.6
    neck = tip - head * direction
    draw.line([x, y, *(tip - head * 0.5 * direction)], fill=color, width=line_width)
    draw.polygon([tuple(tip), tuple(neck + side), tuple(neck - side)], fill=color)
