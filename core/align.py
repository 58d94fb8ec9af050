"""The last hundredths of a pixel: bend a step until two frames lie on each other as well as they can.

Flow looks at small windows, each on its own; where these show little but noise it falls back to standing still, and a
fit to such a flow comes out too short. Here all pixels speak at once (Lucas and Kanade, 1981; with the mean of both
gradients, Malis, 2004, which converges quadratically), from coarse to fine. A subject that moves by itself does not lie
on itself under the camera's motion, and is not listened to.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from . import geometry

ROUNDS = 3  # at each size
ENOUGH = 0.004  # pixels at the corner: a correction smaller than this ends the search at a size
MISFIT = 0.2  # pixels by which the camera's true motion misses a homography, here and there
PRIOR = 1e-4  # weight of "no shear and no perspective", per squared pixel at the corner, against all pixels' evidence


@dataclass(frozen=True)
class _Level:
    """Two grey frames at one size, and what is asked of them again and again. All pixels are in one row (h w)."""

    first: Tensor  # (1, 1, h, w)
    second: Tensor
    gradient: Tensor  # (2, h w), of the first
    places: Tensor  # (2, h w), x and y from the centre


def align(first: Tensor, second: Tensor, step: geometry.Matrices) -> geometry.Matrices:
    """A better step (3, 3) between grey frames (1, 1, h, w) in [0, 1], near the given one, in their pixels.

    Half the size comes first and only as a similarity, for there a start that is some pixels off still finds its way.
    """
    if min(first.shape[-2:]) < 32:
        return step
    half = [F.avg_pool2d(frame, 2) for frame in (first, second)]
    for level, free in ((_level(*half), 4), (_level(first, second), 8)):
        scale = level.first.shape[-1] / first.shape[-1]
        small = geometry.rescaled(step, scale, scale)
        for spread in np.geomspace(6, 3, ROUNDS):
            small, moved = _improved(level, small, spread, free)
            if moved < ENOUGH:
                break
        step = geometry.rescaled(small, 1 / scale, 1 / scale)
    return step


def _level(first: Tensor, second: Tensor) -> _Level:
    first, second = _blurred(first), _blurred(second)
    _, _, height, width = first.shape
    y, x = torch.meshgrid(
        torch.arange(height, device=first.device) + 0.5 - height / 2,
        torch.arange(width, device=first.device) + 0.5 - width / 2,
        indexing="ij",
    )
    return _Level(first, second, _gradient(first), torch.stack([x.reshape(-1), y.reshape(-1)]))


def _improved(level: _Level, step: geometry.Matrices, spread: float, free: int) -> tuple[geometry.Matrices, float]:
    """One Gauss-Newton step: the small motion, done before `step`, that brings the frames closer; and its size, pixels.

    free: how many tangents may change (4 keeps it a similarity). Exposure, as a gain and an offset, is solved along.
    """
    height, width = level.first.shape[-2:]
    unit = float(np.hypot(width, height)) / 2
    at_corner = np.array([1, 1, *[unit] * 4, unit**2, unit**2])  # tangents -> pixels there
    warped, inside = _looked_up(level, step)
    slope = (level.gradient + _gradient(warped)) / 2
    x, y = level.places / unit
    dx, dy = slope
    turn, grow = dy * x - dx * y, dx * x + dy * y
    columns = [dx, dy, turn, grow, dx * x - dy * y, dx * y + dy * x, -grow * x, -grow * y][:free]
    columns = torch.stack([*columns, level.first.view(-1), torch.ones_like(dx)])
    error = (warped - level.first).view(-1)
    off, trust = _judged(error, slope)
    reach = spread * max(float(off[inside].median()), 0.5)
    weight = (1 - (off / reach) ** 2).clamp_min(0) ** 2 * inside * trust
    normal = ((columns * weight) @ columns.T).double().cpu().numpy()
    pull = -((columns * weight) @ error).double().cpu().numpy()
    if free == 8:
        strength = PRIOR * np.trace(normal[:2, :2])
        normal[range(4, 8), range(4, 8)] += strength
        pull[4:8] -= strength * (geometry.to_tangents(step) * at_corner)[4:]
    small = np.zeros(8)
    small[:free] = np.linalg.solve(normal + 1e-9 * (np.trace(normal) + 1) * np.eye(free + 2), pull)[:free]
    return geometry.normalized(step @ geometry.to_matrices_of(small / at_corner)), float(np.abs(small).max())


def _judged(error: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Each pixel's error in units of what noise and a slight misfit explain, and the inverse square of that unit.

    Noise is what remains where the picture is smooth, whatever step is tried. A misfit shows where it is steep; without
    it, a richly patterned subject would outweigh a plain background.
    """
    steep = (slope**2).sum(0)
    error = error - error.median()
    noise = (error[steep <= steep.median()].abs().median() * 1.5).clamp_min(1 / 1024)
    explained = noise**2 + MISFIT**2 * steep
    return error.abs() / explained.sqrt(), 1 / explained


def _looked_up(level: _Level, step: geometry.Matrices) -> tuple[Tensor, Tensor]:
    """The second frame where the step says that the first one's pixels went, and which of them it still shows."""
    _, _, height, width = level.second.shape
    x, y = level.places
    m = torch.from_numpy(step).to(x)
    depth = m[2, 0] * x + m[2, 1] * y + 1
    u = (m[0, 0] * x + m[0, 1] * y + m[0, 2]) / depth * (2 / width)
    v = (m[1, 0] * x + m[1, 1] * y + m[1, 2]) / depth * (2 / height)
    grid = torch.stack([u, v], dim=-1).view(1, height, width, 2)
    # Linear, because the frames are blurred enough for it; torch's bicubic kernel steepens slopes and so biases steps.
    warped = F.grid_sample(level.second, grid, padding_mode="border", align_corners=False)
    return warped, (u.abs() < 1 - 4 / width) & (v.abs() < 1 - 4 / height)


def _blurred(grey: Tensor) -> Tensor:
    """A little smoother, so that the picture between two pixels is near the line between them."""
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=grey.device) / 16
    padded = F.pad(grey, (2, 2, 2, 2), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 5, 1)), kernel.view(1, 1, 1, 5))


def _gradient(grey: Tensor) -> Tensor:
    """(1, 1, h, w) -> (2, h w): change per pixel across and down."""
    padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    across = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    return torch.stack([across.reshape(-1), down.reshape(-1)])
