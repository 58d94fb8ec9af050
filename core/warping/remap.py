"""One look-up: the pixels of a frame at places between its pixels, by OpenCV on the CPU or by torch on any device.

Places are pixel indices (x, y), each (h, w) float32, as places.py makes them.
"""

from __future__ import annotations

from functools import partial
from types import ModuleType
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .. import geometry
from ..clip import Frames
from ..path.border import Border, opencv_border


class Warped(NamedTuple):
    """frames: as `Frames` says. invented: (B, H, W) float32, 1 where a pixel was made up by the border, else 0.

    `invented` may be a view of a single zero where a whole frame is genuine: copy it before writing into it.
    """

    frames: Frames
    fill_mask: Tensor


class Remapper(Protocol):
    def __call__(self, frame: Tensor, x: Tensor, y: Tensor, border: Border) -> Tensor:
        """A frame (C, H, W) at places x, y -> (C, h, w), bicubic, clamped to [0, 1], on the frame's device."""
        ...


def inside_distance(x: Tensor, y: Tensor, width: int, height: int) -> Tensor:
    """How far places lie inside a source of that size: pixels to the nearest centre of an outermost pixel, or < 0."""
    depth = torch.minimum(x, (width - 1) - x)
    return torch.minimum(depth, torch.minimum(y, (height - 1) - y))


def fill_mask(to_source: geometry.Matrices | None, x: Tensor, y: Tensor, width: int, height: int) -> Tensor:
    """(h, w): 1.0 where a place is outside the source's pixels, which reach from -0.5 to size - 0.5.

    back: the matrix that the places come from, or None where there is more to them.
    """
    slack = 1e-3  # rounding of a map that should be the identity invents nothing
    if to_source is not None:
        edges = np.array([[0, 0], [x.shape[1] - 1, 0], [x.shape[1] - 1, x.shape[0] - 1], [0, x.shape[0] - 1.0]])
        centred = geometry.transform_points(to_source, edges) - [(width - 1) / 2, (height - 1) / 2]
        # A frame is convex and stays so: when its corners come from inside the source, all of it does.
        if (np.abs(centred) <= np.array([width, height]) / 2 + slack).all():
            return torch.zeros((), device=x.device).expand(x.shape)
    return (inside_distance(x, y, width, height) < -0.5 - slack).float()


def make_remapper(cv2: ModuleType | None) -> Remapper:
    """The look-up on OpenCV's threads, for frames on the CPU; or, given None, in torch."""
    return _remap_torch if cv2 is None else partial(_remap_opencv, cv2)


def _remap_opencv(cv2: ModuleType, frame: Tensor, x: Tensor, y: Tensor, border: Border) -> Tensor:
    mode = opencv_border(cv2, border)
    moved = torch.empty(len(frame), *x.shape)
    # Plane by plane, from where they are to where they belong: OpenCV's own order of axes would cost two copies.
    for source, target in zip(frame.numpy(), moved.numpy(), strict=True):
        cv2.remap(source, x.numpy(), y.numpy(), cv2.INTER_CUBIC, dst=target, borderMode=mode, borderValue=0)
    return moved.clamp_(0, 1)


def _remap_torch(frame: Tensor, x: Tensor, y: Tensor, border: Border) -> Tensor:
    frames = frame[None]
    height, width = frame.shape[-2:]
    mode = {Border.FILL: "reflection", Border.MIRROR: "reflection", Border.BLACK: "zeros"}.get(border, "border")
    if border is Border.WRAP:  # grid_sample cannot wrap: look up in a copy that shows the opposite edge, 2 pixels wide
        frames = F.pad(frames, (2, 2, 2, 2), mode="circular")
        x, y = torch.remainder(x + 0.5, width) + 1.5, torch.remainder(y + 0.5, height) + 1.5
        height, width = frames.shape[-2:]
    grid = torch.stack([(x + 0.5) * 2 / width - 1, (y + 0.5) * 2 / height - 1], dim=-1)[None]
    moved = F.grid_sample(frames, grid, mode="bicubic", padding_mode=mode, align_corners=False)
    return moved[0].clamp_(0, 1)
