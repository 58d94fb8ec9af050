"""Measure the motion of a camera with a lens.

The middle of each frame is mapped to the frame of a lens without distortion, where a rotation is a homography. So the
estimate is that of other clips; its steps are then fitted by rotations.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from ..bars import Bars
from ..clip import Clip, ClipInfo, Frames
from ..lens import Lens
from ..path.motion import MAX_STEP_SCALE, Motion
from ..path.ray_camera import RayCamera
from ..runtime.optional_cv2 import optional_opencv
from .estimate import luma_frames, luma_range, second_pass
from .frame_times import frame_times
from .optical_flow.gray_frame import Masks, Plane

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from ..video.decode.timestamps import Timestamps

MAX_HALF_ANGLE = 52.0  # degrees, to each side: beyond, a frame without distortion is little but its edges

Coords = NDArray[np.float32]


@dataclass(frozen=True)
class LensView:
    """The middle of the frames of a clip, as a lens without distortion images it.

    info: of the clip's frames. lens, bars: of these; the center of the lens is that of the area inside the bars.
    """

    info: ClipInfo
    lens: Lens
    bars: Bars | None = None

    @cached_property
    def active(self) -> ClipInfo:
        return self.info if self.bars is None else self.bars.active_info(self.info)

    @cached_property
    def camera(self) -> RayCamera:
        """The ray camera of the area inside the bars."""
        return RayCamera(self.lens, self.active.width)

    @cached_property
    def focal(self) -> float:
        """Focal length of the view, in pixels of its frames.

        These have the size of the active area.
        """
        size = np.array([self.active.width, self.active.height], np.float64)
        angle = np.radians(min(self.lens.fov / 2, MAX_HALF_ANGLE))
        while angle > np.radians(1):
            focal = float(size[0] / 2 / np.tan(angle))
            border = geometry.corners(*size) - np.sign(geometry.corners(*size))
            if (np.abs(self._to_source(border, focal)) <= size / 2).all():
                return focal
            angle *= 0.97
        return float(size[0] / 2 / np.tan(angle))

    @property
    def height_share(self) -> float:
        """The share of the rows of the source that the view contains."""
        edge = self._to_source(np.array([[0.0, self.active.height / 2]]), self.focal)
        return float(edge[0, 1] / (self.active.height / 2))

    def _to_source(self, points: NDArray[np.float64], focal: float) -> NDArray[np.float64]:
        """Map points (P, 2) of a view to the active area; both from the center, in pixels."""
        return self.camera.project(np.concatenate([points / focal, np.ones_like(points[:, :1])], axis=1))

    def coords(self, height: int, width: int) -> tuple[Coords, Coords]:
        """Return where each pixel of a view lies in the frame, as pixel indices x, y.

        height, width: of both. Each is (height, width).
        """
        scale = np.array([self.active.width / width, self.active.height / height])
        x, y = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
        centered = np.stack([x.ravel() + (1 - width) / 2, y.ravel() + (1 - height) / 2], axis=-1)
        points = self._to_source(np.asarray(centered * scale, np.float64), self.focal)
        bars = self.bars or Bars()
        center = np.array([self.info.width + bars.left - bars.right, self.info.height + bars.top - bars.bottom]) / 2
        index = (points + center) * [width / self.info.width, height / self.info.height] - 0.5
        return (
            index[:, 0].reshape(height, width).astype(np.float32),
            index[:, 1].reshape(height, width).astype(np.float32),
        )


class ViewClip:
    """A clip whose luma frames are those of a view.

    Its frames, which are not measured, stay as they are.
    """

    def __init__(self, clip: Clip, view: LensView) -> None:
        self.info = view.active
        self._clip, self._view = clip, view

    def frames(self, batch: int = 1) -> Iterator[Frames]:
        return self._clip.frames(batch)

    def luma_frames(self, side: int) -> Generator[Plane, None, None]:
        yield from self._map(luma_frames(self._clip, side))

    def luma_range(
        self, side: int, first: int, stop: int | None, times: Timestamps | None
    ) -> Generator[Plane, None, None]:
        yield from self._map(luma_range(self._clip, side, first, stop, times))

    def frame_times(self, count: int) -> NDArray[np.float64] | None:
        return frame_times(self._clip, count)

    def second_pass(self, count: int) -> ViewClip:
        return ViewClip(second_pass(self._clip, count), self._view)

    def _map(self, planes: Generator[Plane, None, None]) -> Generator[Plane, None, None]:
        coords = None
        for plane in planes:
            coords = self._view.coords(*plane.shape[-2:]) if coords is None else coords
            yield sample_plane(np.asarray(plane[0, 0], np.float32), *coords)[None, None]


def sample_plane(plane: Plane, x: Coords, y: Coords) -> Plane:
    """Sample a plane (h, w) at pixel indices.

    The interpolation is linear; the edge is repeated.
    """
    cv2 = optional_opencv()
    if cv2 is not None:
        return cv2.remap(plane, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    height, width = plane.shape
    x, y = x.clip(0, width - 1.001), y.clip(0, height - 1.001)
    column, row = x.astype(np.intp), y.astype(np.intp)
    fraction_x, fraction_y = x - column, y - row
    upper = plane[row, column] * (1 - fraction_x) + plane[row, column + 1] * fraction_x
    lower = plane[row + 1, column] * (1 - fraction_x) + plane[row + 1, column + 1] * fraction_x
    return (upper * (1 - fraction_y) + lower * fraction_y).astype(np.float32)


def view_masks(mask: Masks | None, view: LensView) -> Masks | None:
    """Map the masks of a clip to its view."""
    if mask is None:
        return None
    if isinstance(mask, np.ndarray):
        covered = np.asarray(mask[0], np.float32)
        # These have their margin already, and the view is no larger than the frame.
        return (sample_plane(covered, *view.coords(len(covered), len(covered[0]))) > 0)[None]
    from ..runtime.typed_torch import from_numpy

    def map_one(one: Tensor) -> Tensor:
        x, y = view.coords(*one.shape[-2:])
        return from_numpy(sample_plane(one.float().cpu().numpy(), x, y))

    if callable(mask):
        return lambda number: map_one(mask(number))
    import torch

    return torch.stack([map_one(one) for one in mask])


def to_rotations(motion: Motion, view: LensView) -> Motion:
    """Convert the motion of a view to that of the camera with its lens.

    The steps of the view are homographies, those of the camera as in ray_camera.py.
    """
    x, y = np.meshgrid(np.linspace(-0.5, 0.5, 9), np.linspace(-0.5, 0.5, 7))
    points = np.stack([x.ravel() * view.active.width, y.ravel() * view.active.height], axis=-1)
    usable = geometry.is_regular(motion.steps, MAX_STEP_SCALE)
    back = geometry.inverse(np.where(usable[:, None, None], motion.steps, np.eye(3)))
    steps = motion.steps.copy()
    for part in geometry.chunks(len(steps)):
        steps[part] = geometry.inverse(_fit_views(back[part], points, view))
    confidence = np.where(usable, motion.confidence, np.minimum(motion.confidence, 1e-3))
    still = (motion.steps == np.eye(3)).all(axis=(1, 2))
    steps[still] = np.eye(3)
    return replace(motion, steps=geometry.normalize(steps), confidence=confidence, lens=view.lens, bars=view.bars)


def to_homographies(motion: Motion, view: LensView) -> Motion:
    """Convert the motion of a camera with its lens to that of the view.

    The inverse of `to_rotations`.
    """
    usable = geometry.is_regular(motion.steps, MAX_STEP_SCALE)
    rotations, scale = view.camera.rotations(geometry.inverse(np.where(usable[:, None, None], motion.steps, np.eye(3))))
    focal = np.diag([view.focal, view.focal, 1.0])
    zooms = np.tile(np.eye(3), (len(scale), 1, 1))
    zooms[:, 0, 0] = zooms[:, 1, 1] = 1 / scale
    steps = geometry.normalize(zooms @ focal @ np.swapaxes(rotations, -1, -2) @ np.linalg.inv(focal))
    still = (motion.steps == np.eye(3)).all(axis=(1, 2))
    steps[still] = np.eye(3)
    return replace(motion, steps=np.where(usable[:, None, None], steps, motion.steps), lens=None, bars=None)


def _fit_views(homographies: geometry.Matrices, points: NDArray[np.float64], view: LensView) -> geometry.Matrices:
    """Fit views, as in ray_camera.py, to homographies (n, 3, 3) of undistorted frames.

    points: (P, 2), at which they agree best. The rotation is that of Kabsch (1976).
    """
    moved = geometry.transform_points(homographies, points[None])
    source, target = (np.concatenate([p / view.focal, np.ones_like(p[..., :1])], axis=-1) for p in (points, moved))
    source, target = (rays / np.linalg.norm(rays, axis=-1, keepdims=True) for rays in (source, target))
    u, _, vt = np.linalg.svd(np.einsum("npi,pj->nij", target, source))
    sign = np.ones((len(u), 3))
    sign[:, 2] = np.linalg.det(u @ vt)
    rotations = (u * sign[:, None]) @ vt
    turned_back = target @ rotations
    flat = turned_back[..., :2] / turned_back[..., 2:] * view.focal
    scale = (flat * points).sum(axis=(1, 2)) / (points**2).sum()
    return view.camera.views(rotations, np.clip(scale, 0.5, 2.0))
