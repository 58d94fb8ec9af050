"""Bicubic resampling of a frame at given coordinates.

It uses OpenCV on the CPU or torch on any device.

Coordinates are pixel indices x, y, each (h, w) float32, see sampling_map.py.
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
from ..crop.border import Border
from ..runtime.deprecation import renamed_fields
from ..runtime.device.accelerator import accelerator_for


@renamed_fields(invented="fill_mask")
class Warped(NamedTuple):
    """Warped frames and the mask of pixels that the border filled.

    fill_mask: (B, H, W) float32, 1 where a pixel does not come from the frame itself, else 0. It may be a view of a
    single zero if no pixel was filled: copy it before writing to it.
    """

    frames: Frames
    fill_mask: Tensor


class Remapper(Protocol):
    def __call__(self, frame: Tensor, x: Tensor, y: Tensor, border: Border) -> Tensor:
        """Sample a frame (C, H, W) at x, y -> (C, h, w).

        The interpolation is bicubic; the result is clamped to [0, 1], on the frame's device.
        """
        ...


def inside_distance(x: Tensor, y: Tensor, width: int, height: int) -> Tensor:
    """Return the distance in pixels to the edge, positive inside the source.

    The edge is the rectangle of the outermost pixel centers.
    """
    distance = torch.minimum(x, (width - 1) - x)
    return torch.minimum(distance, torch.minimum(y, (height - 1) - y))


def fill_mask(to_source: geometry.Matrices | None, x: Tensor, y: Tensor, width: int, height: int) -> Tensor:
    """Return 1.0 where the coordinates are outside the source's pixels: (h, w).

    The pixels extend from -0.5 to size - 0.5.

    to_source: the matrix of the coordinates, or None if they are not those of one matrix.
    """
    tolerance = 1e-3  # for the rounding of a map that should be the identity
    if to_source is not None:
        edges = np.array([[0, 0], [x.shape[1] - 1, 0], [x.shape[1] - 1, x.shape[0] - 1], [0, x.shape[0] - 1.0]])
        centered = geometry.transform_points(to_source, edges) - [(width - 1) / 2, (height - 1) / 2]
        # The image of a convex frame is convex: if its corners are inside the source, all of it is.
        if (np.abs(centered) <= np.array([width, height]) / 2 + tolerance).all():
            return torch.zeros((), device=x.device).expand(x.shape)
    return (inside_distance(x, y, width, height) < -0.5 - tolerance).float()


def make_remapper(cv2: ModuleType | None) -> Remapper:
    """A remapper with OpenCV, for frames on the CPU; or, if `cv2` is None, with torch."""
    return _remap_torch if cv2 is None else partial(_remap_opencv, cv2)


def _remap_opencv(cv2: ModuleType, frame: Tensor, x: Tensor, y: Tensor, border: Border) -> Tensor:
    mode = getattr(cv2, border.opencv_mode)
    moved = torch.empty(len(frame), *x.shape)
    # Plane by plane into the output: OpenCV's axis order (H, W, C) would cost two copies.
    for source, target in zip(frame.numpy(), moved.numpy(), strict=True):
        cv2.remap(source, x.numpy(), y.numpy(), cv2.INTER_CUBIC, dst=target, borderMode=mode, borderValue=0)
    return moved.clamp_(0, 1)


def _remap_torch(frame: Tensor, x: Tensor, y: Tensor, border: Border) -> Tensor:
    if not accelerator_for(frame.device).has_bicubic_grid_sample:
        return _remap_torch(frame.cpu(), x.cpu(), y.cpu(), border).to(frame.device)
    frames = frame[None]
    height, width = frame.shape[-2:]
    if border is Border.WRAP:  # grid_sample cannot wrap: sample a copy padded with 2 pixels of the opposite edge
        frames = F.pad(frames, (2, 2, 2, 2), mode="circular")
        x, y = torch.remainder(x + 0.5, width) + 1.5, torch.remainder(y + 0.5, height) + 1.5
        height, width = frames.shape[-2:]
    grid = torch.stack([(x + 0.5) * 2 / width - 1, (y + 0.5) * 2 / height - 1], dim=-1)[None]
    moved = F.grid_sample(frames, grid, mode="bicubic", padding_mode=border.torch_mode, align_corners=False)
    return moved[0].clamp_(0, 1)
