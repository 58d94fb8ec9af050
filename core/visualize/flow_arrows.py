"""A flow drawn on the frame that it was measured on: arrows from where pixels are to where they go."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from ..clip import Frames
from .captions import draw_caption
from .plots import MIN_FLOW_RANGE_PIXELS, colorize_flow, draw_color_wheel

ARROWS_PER_LONG_SIDE = 24  # arrows along the longer side
STILL_PIXELS = 0.2  # pixels of a frame below which a point counts as standing still: a dot is drawn


def draw_flow_arrows(frame: Frames, flow: Tensor) -> Frames:
    """A frame (1, 3 or 4, H, W) and its flow (1, 2, h, w), in pixels of the size it was measured at -> (1, 3, H, W).

    An arrow begins where the pixel is and points to where it is in the next frame, in the colour that the wheel in the
    corner has for that way. Slow motion is drawn some times as long, as a caption says; the frame below is grey.
    """
    height, width = frame.shape[-2:]
    stretch = torch.tensor([width / flow.shape[-1], height / flow.shape[-2]]).view(1, 2, 1, 1)
    step = max(8.0, max(width, height) / ARROWS_PER_LONG_SIDE)
    points = _arrow_points(width, height, step)
    at = (points / torch.tensor([width, height]) * 2 - 1)[None, None].float()
    moves = F.grid_sample(flow.float().cpu() * stretch, at, align_corners=False, padding_mode="border")[0, :, 0].T
    longest = float(np.quantile(moves.norm(dim=1).numpy(), 0.99))
    factor = _round_scale(1.2 * step / max(longest, 1e-6))
    colours = colorize_flow((moves / max(longest, MIN_FLOW_RANGE_PIXELS)).T[None, :, :, None])[0, :, :, 0].T
    grey = frame[:, :3].cpu().float().mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    sheet = Image.fromarray((grey[0] * 0.55 * 255).byte().permute(1, 2, 0).numpy())
    draw = ImageDraw.Draw(sheet)
    for (x, y), (across, down), colour in zip(points.tolist(), moves.tolist(), colours.tolist(), strict=True):
        ink = tuple(round(255 * value) for value in colour)
        _draw_arrow(draw, (x, y), (across, down), factor, ink, step)
    picture = torch.from_numpy(np.array(sheet, dtype=np.float32) / 255).permute(2, 0, 1)[None].contiguous()
    drawn = "arrows as long as the motion" if factor == 1 else f"arrows {factor:g} times the motion"
    return draw_caption(draw_color_wheel(picture), f"{drawn}; fastest {longest:.1f} px", bottom=True)


def _arrow_points(width: int, height: int, step: float) -> Tensor:
    """(P, 2): points (x, y) in pixels, the corner of the frame at 0, evenly over the frame."""
    across, down = max(1, round(width / step)), max(1, round(height / step))
    x = (torch.arange(across) + 0.5) * width / across
    y = (torch.arange(down) + 0.5) * height / down
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)


def _round_scale(largest: float) -> float:
    """The largest round number up to `largest`, 1 at least and 50 at most."""
    return float(max((n for n in (1, 2, 5, 10, 20, 50) if n <= largest), default=1))


def _draw_arrow(
    draw: ImageDraw.ImageDraw,
    start: tuple[float, float],
    motion: tuple[float, float],
    factor: float,
    color: tuple[int, ...],
    step: float,
) -> None:
    thick = max(1, round(step / 14))
    dot = thick / 2
    x, y = start
    length = float(np.hypot(*motion))
    if length < STILL_PIXELS:
        draw.ellipse([x - dot, y - dot, x + dot, y + dot], fill=color)
        return
    along = np.array(motion) / length
    tip = np.array(start) + factor * np.array(motion)
    head = min(step / 4, 0.5 * factor * length)
    side = np.array([-along[1], along[0]]) * head * 0.6
    neck = tip - head * along
    draw.line([x, y, *(tip - head * 0.5 * along)], fill=color, width=thick)
    draw.polygon([tuple(tip), tuple(neck + side), tuple(neck - side)], fill=color)
