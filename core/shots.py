"""Where one shot ends and the next begins, and which frames only repeat the one before.

Both are questions about two neighbouring frames, asked once while motion is measured; the answers travel in `Motion`,
so that flow, smoothing and zoom share them.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SAME_SCENE = 0.5  # correlation of two frames, one carried onto the other by the flow, below which they are unrelated
VISIBLE = 4 / 255  # mean difference below which even uncorrelated frames (flat, dark, noise) are taken for one scene


def is_repeat(first: Tensor, second: Tensor) -> bool:
    """Whether the second frame shows the first again. Grey frames (1, 1, H, W) in [0, 1].

    The largest difference decides, not the mean: a mean hides a moving cursor. Half an 8-bit step is rounding.
    """
    return bool(np.abs(first.cpu().numpy() - second.cpu().numpy()).max() < 0.5 / 255)


def is_cut(first: Tensor, second: Tensor, flow: Tensor) -> bool:
    """Whether a new shot begins with the second frame. Grey frames (1, 1, H, W) in [0, 1]; flow (1, 2, H, W) in pixels.

    After a cut no flow explains one frame by the other. Correlation rather than difference is compared, so that a flash
    or a change of exposure, which keep the structure, are not cuts. Both are looked at a quarter of the size: noise
    averages out there and details that flow misplaces by a pixel do not count.
    """
    first, second, flow = (_quartered(f) for f in (first, second, flow))
    explained = pulled_back(second, flow / 4)
    if float((first - explained).abs().mean()) < VISIBLE:
        return False
    a, b = (f.flatten() - f.mean() for f in (first, explained))
    correlation = float(a @ b / (a.norm() * b.norm()).clamp_min(1e-6))
    return correlation < SAME_SCENE


def _quartered(frame: Tensor) -> Tensor:
    """Means of 4 x 4 pixels: (1, C, H, W) -> (1, C, h, w), the last row and column repeated where they do not fill one.

    In numpy, as all small work between frames (motion/grey.py says why).
    """
    planes = frame[0].cpu().numpy()
    _, height, width = planes.shape
    planes = np.pad(planes, ((0, 0), (0, -height % 4), (0, -width % 4)), mode="edge")
    rows = planes[:, ::4] + planes[:, 1::4] + planes[:, 2::4] + planes[:, 3::4]
    return torch.from_numpy((rows[..., ::4] + rows[..., 1::4] + rows[..., 2::4] + rows[..., 3::4]) / 16)[None]


def pulled_back(second: Tensor, flow: Tensor) -> Tensor:
    """The second frame (B, C, H, W) looked up at p + flow(p): what the first would be if the flow were true."""
    _, _, height, width = second.shape
    y, x = torch.meshgrid(
        torch.arange(height, dtype=flow.dtype, device=flow.device) + 0.5,
        torch.arange(width, dtype=flow.dtype, device=flow.device) + 0.5,
        indexing="ij",
    )
    grid = torch.stack([(x + flow[:, 0]) * 2 / width - 1, (y + flow[:, 1]) * 2 / height - 1], dim=-1)
    return F.grid_sample(second, grid, padding_mode="border", align_corners=False)
