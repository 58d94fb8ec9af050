"""How steady, how whole and how true a stabilised clip is: the literature's three scores, and the error against truth.

Stability, cropping ratio and distortion are those of Liu, Yuan, Tan and Sun, Bundled Camera Paths for Video
Stabilization (2013). Stability alone is easily won by blur or by zooming in; `jitter` is the honest figure where the
true path is known.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import geometry
from .clip import ClipInfo, Frames
from .motion.occlusion import pulled_back
from .path.trajectory import Correction


def jitter(poses: geometry.Matrices, info: ClipInfo, seconds: float = 1.0) -> float:
    """How far frames stand from where an even motion would put them: root mean square over the frame, in pixels.

    poses: (N, 3, 3), one shot; they carry points of each frame to the scene. Even is the Gaussian mean of the
    neighbours' places, as seen from each frame, with half of a swing of period `seconds` * 2.7 left. Frames within a
    window's length of the ends are not counted; 0.0 for a shot that has no others.
    """
    sigma = seconds * float(info.fps) / 2
    reach = round(3 * sigma)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    x, y = np.meshgrid(np.linspace(-0.5, 0.5, 9) * info.width, np.linspace(-0.5, 0.5, 7) * info.height)
    points = np.stack([x.ravel(), y.ravel()], axis=-1)
    squares = []
    for i in range(reach, len(poses) - reach):
        around = geometry.inverse(poses[i]) @ poses[i - reach : i + reach + 1]
        off = np.einsum("k,kpc->pc", weights, geometry.apply(around, points[None]) - points)
        squares.append((off**2).sum(axis=-1).mean())
    return float(np.sqrt(np.mean(squares))) if squares else 0.0


def stability(path: geometry.Parameters) -> float:
    """The share, in [0, 1], of the path's energy that is slow: the 2nd to 6th frequency against all but the mean.

    path: (N, 4), one shot. The least of the scores of x, y and angle, as in the paper.
    """
    scores = []
    for column in path[:, :3].T:
        energy = np.abs(np.fft.rfft(np.diff(column))) ** 2
        whole = energy[1:].sum()
        scores.append(float(energy[1:6].sum() / whole) if whole > 1e-12 else 1.0)
    return min(scores)


def cropping_ratio(correction: Correction) -> float:
    """The mean share, in (0, 1], of each side that is left: 1 / magnification, for corrections that hold their crop."""
    return float(np.exp(-geometry.to_parameters(correction.matrices)[:, 3]).clip(max=1).mean())


def distortion(correction: Correction) -> float:
    """The least ratio, over all frames, of how much the correction stretches one way to how much it does another.

    1 for similarities. The ratio of the eigenvalues of the affine part, at the centre of the frame.
    """
    shape = geometry.normalized(correction.matrices)
    near = shape[:, :2, :2] - shape[:, :2, 2, None] * shape[:, 2, None, :2]
    stretch = np.linalg.svd(near, compute_uv=False)
    return float((stretch[:, 1] / stretch[:, 0]).min())


def warping_error(first: Frames, second: Frames, flow: Tensor) -> NDArray[np.float64]:
    """(B,): mean squared difference of each first frame to its second, pulled back by the flow (B, 2, H, W).

    Flicker, in other words (Lai et al., Learning Blind Video Temporal Consistency, 2018). Only pixels that the second
    frame shows count; pass frames without borders.
    """
    _, _, height, width = first.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    u, v = x.to(flow) + flow[:, 0], y.to(flow) + flow[:, 1]
    seen = ((u >= 0) & (u <= width - 1) & (v >= 0) & (v <= height - 1)).to(first)
    squares = ((pulled_back(second, flow) - first) ** 2).mean(dim=1) * seen
    return (squares.sum(dim=(1, 2)) / seen.sum(dim=(1, 2)).clamp_min(1)).double().cpu().numpy()
