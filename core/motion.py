"""Pass 1: pixels become a few numbers per frame. How the camera moved from each frame to the next, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from . import geometry
from .clip import Clip, ClipError, ClipInfo
from .flow import FlowModel, luma
from .shots import is_cut, is_repeat

WORKING_SIDE = (
    480  # longer side of the frames that flow is measured on: finer costs much and gains hundredths of a pixel
)
GRID = (
    6  # distance of the points, in working pixels, at which the flow is read; neighbours closer than this say the same
)
HYPOTHESES = 96  # random pairs tried: with half of the points on a moving subject, all fail once in 10^12 frames
INLIER = 0.7  # working pixels between a point and the camera's motion up to which it is taken to follow the camera


@dataclass(frozen=True)
class Motion:
    """The camera's motion between neighbouring frames, as measured.

    steps: (N, 3, 3); steps[i] carries points of frame i - 1 to where they are seen in frame i, in full-size pixels
    (geometry.py has the convention). steps[0] is the identity.
    trust: (N,) in [0, 1]; how much of the picture agrees with the step. 0 means that frame i does not continue
    frame i - 1: it is the first of a shot.
    """

    steps: geometry.Matrices
    trust: NDArray[np.float64]
    info: ClipInfo

    @property
    def shots(self) -> list[slice]:
        """The runs of frames between cuts."""
        starts = np.flatnonzero(self.trust == 0).tolist()
        return [slice(a, b) for a, b in zip(starts, [*starts[1:], len(self.trust)], strict=True)]


def estimate_motion(clip: Clip, flow: FlowModel, *, side: int = WORKING_SIDE) -> Motion:
    """Read the clip once and measure the step from each frame to the next.

    flow: measures on frames reduced to `side` pixels on the longer side. Holds two frames at a time.
    Raises ClipError for a clip without frames.
    """
    info = clip.info
    scale = min(1.0, side / max(info.width, info.height))
    steps, trust = [], []
    previous: Tensor | None = None
    for frames in clip.frames():
        current = reduced(luma(frames), scale)
        step, sure = (np.eye(3), 0.0) if previous is None else _step(previous, current, flow)
        steps.append(geometry.rescaled(step, info.width / current.shape[-1], info.height / current.shape[-2]))
        trust.append(sure)
        previous = current
    if not steps:
        raise ClipError("the clip has no frames, so there is no motion to measure")
    return Motion(np.stack(steps), np.array(trust), info)


def reduced(frames: Tensor, scale: float) -> Tensor:
    """Frames (B, C, H, W) with both sides times `scale` <= 1, rounded; each pixel the mean of those it stands for."""
    if scale == 1.0:
        return frames
    height, width = (max(1, round(s * scale)) for s in frames.shape[-2:])
    return F.interpolate(frames, (height, width), mode="bilinear", antialias=True, align_corners=False)


def _step(first: Tensor, second: Tensor, flow: FlowModel) -> tuple[geometry.Matrices, float]:
    """Step and trust between two grey frames (1, 1, h, w), in their own pixels."""
    if is_repeat(first, second):
        return np.eye(3), 1.0
    field = flow(first, second)
    if is_cut(first, second, field):
        return np.eye(3), 0.0
    points, moved, weights = sample(field, texture(first))
    step, sure = fit_similarity(points, moved, weights)
    return step, max(sure, 1e-3)  # weak is not a cut


def texture(grey: Tensor) -> Tensor:
    """How well the motion of each grid point is determined in both directions: (1, 1, h, w) -> (rows, columns), >= 0.

    The smaller eigenvalue of the structure tensor (Shi and Tomasi, Good Features to Track, 1994), square-rooted: in
    grey levels per pixel. Flat areas and straight edges have almost none, and what flow says there is a guess.
    """
    padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    dx = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    dy = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    # Windows of 9 x 9 pixels, their centres on the grid.
    products = F.pad(torch.cat([dx * dx, dx * dy, dy * dy], dim=1), (1, 7, 1, 7), mode="constant")
    xx, xy, yy = F.avg_pool2d(products, 9, stride=GRID)[0]
    smaller = (xx + yy) / 2 - (((xx - yy) / 2) ** 2 + xy**2).sqrt()
    return smaller.clamp_min(0).sqrt()


def sample(field: Tensor, weight: Tensor) -> tuple[NDArray, NDArray, NDArray]:
    """Read a flow (1, 2, h, w) on the grid of `texture`: points (P, 2), where they went (P, 2), their weights (P,)."""
    height, width = field.shape[-2:]
    rows, columns = (
        np.minimum(np.arange(n) * GRID + GRID // 2, last - 1)
        for n, last in zip(weight.shape, (height, width), strict=True)
    )
    y, x = (g.ravel() for g in np.meshgrid(rows, columns, indexing="ij"))
    points = np.stack([x + 0.5 - width / 2, y + 0.5 - height / 2], axis=-1)
    moved = points + field[0].double().cpu().numpy()[:, y, x].T
    return points, moved, weight.double().cpu().numpy().ravel()


def fit_similarity(points: NDArray, moved: NDArray, weights: NDArray) -> tuple[geometry.Matrices, float]:
    """The similarity that most of the picture follows: (P, 2) -> (P, 2), and the weighted share of it that does.

    A vote among pairs of points (RANSAC, Fischler and Bolles 1981) finds the camera among moving subjects; least squares
    over its followers, reweighted a few times (Tukey's biweight), makes it exact. The vote draws from a fixed seed:
    the same clip gives the same motion.
    """
    total = weights.sum()
    if len(points) < 2 or total <= 1e-9:
        return np.eye(3), 0.0
    chance = weights / total
    draw = np.random.default_rng(0).choice(len(points), size=(HYPOTHESES, 2), p=chance)
    candidates = _through_pairs(points[draw], moved[draw])
    errors = np.hypot(*np.moveaxis(geometry.apply(candidates, points[None]) - moved, -1, 0))
    votes = (np.maximum(0, 1 - (errors / (3 * INLIER)) ** 2) * chance).sum(axis=1)
    step = candidates[votes.argmax()]
    for reach in (3 * INLIER, 2 * INLIER, INLIER, INLIER):
        error = np.hypot(*(geometry.apply(step, points) - moved).T)
        follow = chance * np.maximum(0, 1 - (error / (3 * reach)) ** 2) ** 2
        if follow.sum() < 1e-6:
            return np.eye(3), 0.0
        step = _least_squares(points, moved, follow)
    error = np.hypot(*(geometry.apply(step, points) - moved).T)
    return step, float(chance[error < 2 * INLIER].sum())


def _through_pairs(points: NDArray, moved: NDArray) -> geometry.Matrices:
    """Similarities through pairs of points: (K, 2, 2) -> (K, 2, 2) gives (K, 3, 3)."""
    p, q = (a[..., 0] + 1j * a[..., 1] for a in (points, moved))  # a similarity of the plane is q = turn * p + shift
    span = p[:, 1] - p[:, 0]
    turn = np.where(span == 0, 1, (q[:, 1] - q[:, 0]) / np.where(span == 0, 1, span))
    return _from_complex(turn, q[:, 0] - turn * p[:, 0])


def _least_squares(points: NDArray, moved: NDArray, weights: NDArray) -> geometry.Matrices:
    """The similarity of least weighted squared error (Umeyama 1991; in the plane, a division of complex numbers)."""
    w = weights / weights.sum()
    p, q = (a[:, 0] + 1j * a[:, 1] for a in (points, moved))
    p0, q0 = (w * p).sum(), (w * q).sum()
    spread = (w * np.abs(p - p0) ** 2).sum()
    turn = (w * np.conj(p - p0) * (q - q0)).sum() / spread if spread > 1e-9 else 1 + 0j
    return _from_complex(np.array([turn]), np.array([q0 - turn * p0]))[0]


def _from_complex(turn: NDArray, shift: NDArray) -> geometry.Matrices:
    turn = np.where(np.abs(turn) < 1e-6, 1, turn)  # both points on one spot: no similarity, and its vote will be poor
    return geometry.to_matrices(np.stack([shift.real, shift.imag, np.angle(turn), np.log(np.abs(turn))], axis=-1))
