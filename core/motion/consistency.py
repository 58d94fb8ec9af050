"""Where a frame that was carried along a flow is to be believed, and where it shows what is hidden, new or elsewhere.

Two questions with soft answers, 1 = believed and 0 = not: does the flow find its way back, and does what it brings
look like what is there. The first fails where a subject covers or uncovers its background; the second catches what
flow invents there, and subjects that changed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..clip import Frames

# How far a way back may miss, squared: in shares of the squared lengths of both ways, and in square pixels. Both from
# Sundaram, Brox and Keutzer, Dense Point Trajectories by GPU-accelerated Large Displacement Optical Flow (2010).
FB_RELATIVE_TOLERANCE, FB_TOLERANCE_SQUARE_PIXELS = 0.01, 0.5
# How much what is brought may differ from what is there: on flat ground, and more for each step of contrast around.
COLOR_TOLERANCE, CONTRAST_TOLERANCE = 0.01, 0.1
# What flickers everywhere may differ by this many times the usual difference more, up to a limit.
FLICKER_FACTOR, MAX_FLICKER = 2.0, 0.05
EROSION_RADIUS_PIXELS = (
    3  # pixels around a difference that are doubted with it: the outlines of subjects are blurred in flow
)


def backward_warp(second: Tensor, flow: Tensor) -> Tensor:
    """The second frame (B, C, H, W) looked up at p + flow(p): what the first would be if the flow were true."""
    _, _, height, width = second.shape
    y, x = torch.meshgrid(
        torch.arange(height, dtype=flow.dtype, device=flow.device) + 0.5,
        torch.arange(width, dtype=flow.dtype, device=flow.device) + 0.5,
        indexing="ij",
    )
    grid = torch.stack([(x + flow[:, 0]) * 2 / width - 1, (y + flow[:, 1]) * 2 / height - 1], dim=-1)
    return F.grid_sample(second, grid, padding_mode="border", align_corners=False)


def forward_backward_confidence(forward: Tensor, backward: Tensor) -> Tensor:
    """How far the flow `back` undoes the flow `there`, (B, 2, H, W) each, in pixels -> (B, 1, H, W) in [0, 1].

    there: from each pixel of the frame that asks; back: from each pixel of the other frame. 1 where the way back misses
    by no more than Sundaram et al. allow, 0 from twice as much (squared) on, and 0 where the way leaves the frame.
    """
    _, _, height, width = forward.shape
    way_back = backward_warp(backward, forward)
    miss, length = (
        (f**2).sum(dim=1, keepdim=True) for f in (forward + way_back, torch.cat([forward, way_back], dim=1))
    )
    x = torch.arange(width).to(forward) + forward[:, :1]
    y = torch.arange(height).to(forward)[:, None] + forward[:, 1:]
    inside = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    return (2 - miss / (FB_RELATIVE_TOLERANCE * length + FB_TOLERANCE_SQUARE_PIXELS)).clamp(0, 1) * inside


def photometric_confidence(warped: Frames, frame: Frames) -> Tensor:
    """How far what was brought along a flow looks like the frame that is there: (1, C, H, W) twice -> (1, 1, H, W).

    The channel that differs most decides. Differences are averaged over 3 x 3 pixels, where noise cancels and what
    belongs to something else does not. More is allowed where there is contrast, of which a flow that is a little off
    makes differences, and where most of the picture differs: that is the flicker which is to be taken away. A pixel is
    believed as far as the worst of its neighbourhood.
    """
    difference = F.avg_pool2d(warped - frame, 3, 1, 1, count_include_pad=False).abs().amax(dim=1, keepdim=True)
    contrast = (F.max_pool2d(frame, 3, 1, 1) + F.max_pool2d(-frame, 3, 1, 1)).amax(dim=1, keepdim=True)
    usual = (FLICKER_FACTOR * difference.median()).clamp(max=MAX_FLICKER)
    believed = (2 - difference / (COLOR_TOLERANCE + usual + CONTRAST_TOLERANCE * contrast)).clamp(0, 1)
    return -F.max_pool2d(-believed, 2 * EROSION_RADIUS_PIXELS + 1, 1, EROSION_RADIUS_PIXELS)
