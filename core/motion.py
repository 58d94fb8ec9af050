"""Pass 1: pixels become a few numbers per frame, how the camera moved from each to the next and how sure that is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from . import geometry
from .align import align
from .clip import Clip, ClipError, ClipInfo
from .fit import fit
from .flow import FlowModel, luma
from .shots import is_cut, is_repeat

WORKING_SIDE = 480  # longer side of the frames that are measured: finer costs much and gains hundredths of a pixel
GRID = 6  # distance in the flow's pixels of the points at which it is read; nearer neighbours say the same
VISIBLE = 0.003  # texture, in grey levels of 1 per pixel, at which flow begins to see more than noise


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
    steps, trust = [], []
    previous: Tensor | None = None
    for current in greys(clip, side):
        step, sure = (np.eye(3), 0.0) if previous is None else step_between(previous, current, flow)
        steps.append(geometry.rescaled(step, info.width / current.shape[-1], info.height / current.shape[-2]))
        trust.append(sure)
        previous = current
    if not steps:
        raise ClipError("the clip has no frames, so there is no motion to measure")
    return Motion(np.stack(steps), np.array(trust), info)


def greys(clip: Clip, side: int) -> Iterator[Tensor]:
    """The clip's frames as brightness (1, 1, h, w) in [0, 1], of the size `clip.info.within(side)`."""
    own = getattr(clip, "greys", None)
    if own is not None:
        yield from own(side)
        return
    small = clip.info.within(side)
    for frames in clip.frames():
        grey = luma(frames)
        if grey.shape[-2:] != (small.height, small.width):
            size = (small.height, small.width)
            grey = F.interpolate(grey, size, mode="bilinear", antialias=True, align_corners=False)
        yield grey


def step_between(first: Tensor, second: Tensor, flow: FlowModel) -> tuple[geometry.Matrices, float]:
    """Step (3, 3) and trust between two grey frames (1, 1, h, w) in [0, 1], in their own pixels."""
    if is_repeat(first, second):
        return np.eye(3), 1.0
    a, b = (F.avg_pool2d(f, 2) if min(f.shape[-2:]) >= 64 else f for f in (first, second))  # alignment does the rest
    field = flow(a, b)
    if is_cut(a, b, field):
        return np.eye(3), 0.0
    points, moved, weights = sample(field, believable(texture(a)))
    grown = first.shape[-1] // field.shape[-1]
    step, sure = fit(points * grown, moved * grown, weights)
    if sure > 0:
        step = align(first, second, step)
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


def believable(texture: Tensor) -> Tensor:
    """(rows, columns) of texture -> how far the flow there is to be believed as the camera's, in [0, 2).

    Once there is enough texture to see motion at all, more of it does not count for more: a richly patterned subject
    must not outvote a plain background. The edge of the picture counts for more than its middle, where subjects are.
    """
    rows, columns = (torch.linspace(-1, 1, n).abs() if n > 1 else torch.zeros(1) for n in texture.shape)
    towards_edge = torch.maximum(rows[:, None], columns[None, :]).to(texture)
    return texture / (texture + VISIBLE) * (0.6 + towards_edge)


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
