"""Quality metrics: jitter of a camera path, flicker of frames along a flow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from . import geometry
from .clip import ClipInfo, Frames

if TYPE_CHECKING:
    from torch import Tensor


def jitter(poses: geometry.Matrices, info: ClipInfo, seconds: float = 1.0, *, stride: int = 1) -> float:
    """Return the root mean square distance of frames from a smooth motion.

    The mean is over points of the frame; the distance is in pixels.

    poses: (N, 3, 3), one shot; frame points -> scene points. The smooth position is the Gaussian mean of the neighbors'
    positions in the coordinates of each frame; it halves an oscillation of period `seconds` * 2.7. Frames within a
    window's length of the ends do not count; 0.0 for a shot that has no others. stride: only every so many frames are
    evaluated.
    """
    sigma = seconds * float(info.fps) / 2
    radius = round(3 * sigma)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    x, y = np.meshgrid(np.linspace(-0.5, 0.5, 9) * info.width, np.linspace(-0.5, 0.5, 7) * info.height)
    points = np.stack([x.ravel(), y.ravel()], axis=-1)
    squares: list[np.float64] = []
    for i in range(radius, len(poses) - radius, stride):
        relative = geometry.inverse(poses[i]) @ poses[i - radius : i + radius + 1]
        offsets = np.einsum("k,kpc->pc", weights, geometry.transform_points(relative, points[None]) - points)
        squares.append((offsets**2).sum(axis=-1).mean())
    return float(np.sqrt(np.mean(squares))) if squares else 0.0


def warping_error(first: Frames, second: Frames, flow: Tensor) -> NDArray[np.float64]:
    """Return the mean squared difference of frame pairs along the flow: (B,).

    Each second frame is warped back to its first by the flow (B, 2, H, W).

    Measures flicker (Lai et al., Learning Blind Video Temporal Consistency, 2018). Only pixels that are visible in the
    second frame count; pass frames without borders.
    """
    import torch

    from .motion.optical_flow.consistency import backward_warp

    _, _, height, width = first.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    u, v = x.to(flow) + flow[:, 0], y.to(flow) + flow[:, 1]
    visible = ((u >= 0) & (u <= width - 1) & (v >= 0) & (v <= height - 1)).to(first)
    squares = ((backward_warp(second, flow) - first) ** 2).mean(dim=1) * visible
    return (squares.sum(dim=(1, 2)) / visible.sum(dim=(1, 2)).clamp_min(1)).double().cpu().numpy()
