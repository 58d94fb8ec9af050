"""Views of a rotating camera with a lens: similarities that stand for rotations.

On a wide lens, a rotation of the camera is no homography of the frame. It is described by a similarity all the same, so
that paths are smoothed, limited and saved as those of other lenses: its translation is the arc, in pixels at the
center, by which the axis of the camera is tilted, its angle the roll, and its scale a zoom of the frame. Near the
center the points move as by the similarity itself; `RayCamera` moves all points along rays.

The path of such views is the path of a ball that rolls on a plane: distances and angles are those of the sphere, but
not the area between two paths.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from ..lens import Lens

Array = NDArray[np.float64]
Rotations = NDArray[np.float64]  # (..., 3, 3): of rays (x, y, z), x right, y down, z forward


@dataclass(frozen=True)
class RayCamera:
    """A camera with a lens, for frames of one size.

    lens: its projection. width: of the frames, in pixels.
    """

    lens: Lens
    width: float

    @property
    def focal(self) -> float:
        """Pixels per radian at the center."""
        return self.lens.focal(self.width)

    def rays(self, points: Array) -> Array:
        """Convert points (..., 2), in pixels from the center, to unit rays (..., 3)."""
        radius = np.linalg.norm(points, axis=-1, keepdims=True)
        angle = self.lens.angle(radius / self.focal)
        return np.concatenate([points * (np.sin(angle) / np.maximum(radius, 1e-9)), np.cos(angle)], axis=-1)

    def project(self, rays: Array) -> Array:
        """Convert rays (..., 3) to points (..., 2). The inverse of `rays`."""
        across = np.linalg.norm(rays[..., :2], axis=-1)
        radius = self.focal * self.lens.radius(np.arctan2(across, rays[..., 2]))
        return rays[..., :2] * (radius / np.maximum(across, 1e-12))[..., None]

    def transform(self, views: geometry.Matrices, points: Array) -> Array:
        """Map points (..., P, 2) by views (..., 3, 3): (..., P, 2).

        Views are similarities. The points are scaled, rolled about the center, and then tilted with the axis.
        """
        rotations, scale = self.rotations(views)
        rays = self.rays(points * scale[..., None, None])
        return self.project(rays @ np.swapaxes(rotations, -1, -2))

    def transform_back(self, views: geometry.Matrices, points: Array) -> Array:
        """Map points (..., P, 2) by the inverses of views (..., 3, 3): (..., P, 2)."""
        rotations, scale = self.rotations(views)
        return self.project(self.rays(points) @ rotations) / scale[..., None, None]

    def rotations(self, views: geometry.Matrices) -> tuple[Rotations, Array]:
        """Convert views (..., 3, 3) to rotations (..., 3, 3) of rays, and scales (...,)."""
        x, y, roll, log_scale = np.moveaxis(geometry.to_parameters(views), -1, 0)
        rolled = np.zeros((*x.shape, 3, 3))
        rolled[..., 0, 0] = rolled[..., 1, 1] = np.cos(roll)
        rolled[..., 1, 0] = np.sin(roll)
        rolled[..., 0, 1], rolled[..., 2, 2] = -rolled[..., 1, 0], 1.0
        return _tilts(x / self.focal, y / self.focal) @ rolled, np.exp(log_scale)

    def views(self, rotations: Rotations, scale: Array) -> geometry.Matrices:
        """The inverse of the method `rotations`."""
        axis = rotations[..., :, 2]
        across = np.linalg.norm(axis[..., :2], axis=-1)
        arc = np.arctan2(across, axis[..., 2]) / np.maximum(across, 1e-12)
        x, y = axis[..., 0] * arc, axis[..., 1] * arc
        rolled = np.swapaxes(_tilts(x, y), -1, -2) @ rotations
        roll = np.arctan2(rolled[..., 1, 0], rolled[..., 0, 0])
        return geometry.matrices_from_parameters(np.stack([x * self.focal, y * self.focal, roll, np.log(scale)], -1))

    def compose(self, outer: geometry.Matrices, inner: geometry.Matrices) -> geometry.Matrices:
        """Compose views: the rotation of `inner`, then that of `outer`.

        Scales are multiplied.
        """
        (second, second_scale), (first, first_scale) = self.rotations(outer), self.rotations(inner)
        return self.views(second @ first, second_scale * first_scale)


def _tilts(x: Array, y: Array) -> Rotations:
    """The shortest rotations that turn the axis by arcs (x, y), in radians."""
    angle = np.hypot(x, y)
    across = np.sinc(angle / np.pi)  # sin(angle) / angle
    bend = (1 - np.cos(angle)) / np.maximum(angle, 1e-9) ** 2
    bend = np.where(angle < 1e-6, 0.5, bend)
    tilts = np.empty((*x.shape, 3, 3))
    tilts[..., 0, 0], tilts[..., 1, 1] = 1 - bend * x * x, 1 - bend * y * y
    tilts[..., 0, 1] = tilts[..., 1, 0] = -bend * x * y
    tilts[..., 0, 2], tilts[..., 1, 2] = across * x, across * y
    tilts[..., 2, 0], tilts[..., 2, 1] = -tilts[..., 0, 2], -tilts[..., 1, 2]
    tilts[..., 2, 2] = np.cos(angle)
    return tilts


def rotation_vectors(rotations: Rotations) -> Array:
    """Convert rotations (..., 3, 3) to vectors (..., 3).

    A vector is the axis times the angle, which is below pi.
    """
    skew = np.stack(
        [
            rotations[..., 2, 1] - rotations[..., 1, 2],
            rotations[..., 0, 2] - rotations[..., 2, 0],
            rotations[..., 1, 0] - rotations[..., 0, 1],
        ],
        axis=-1,
    )
    sine = np.linalg.norm(skew, axis=-1) / 2
    cosine = (np.trace(rotations, axis1=-2, axis2=-1) - 1) / 2
    factor = np.where(sine < 1e-9, 0.5, np.arctan2(sine, cosine) / np.maximum(2 * sine, 1e-12))
    return skew * factor[..., None]


def rotations_from_vectors(vectors: Array) -> Rotations:
    """The inverse of `rotation_vectors` (Rodrigues)."""
    angle = np.linalg.norm(vectors, axis=-1)
    skew = np.zeros((*angle.shape, 3, 3))
    skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0] = np.moveaxis(vectors, -1, 0)
    skew -= np.swapaxes(skew, -1, -2)
    bend = np.where(angle < 1e-6, 0.5, (1 - np.cos(angle)) / np.maximum(angle, 1e-9) ** 2)
    sinc = np.sinc(angle / np.pi)
    return np.eye(3) + sinc[..., None, None] * skew + bend[..., None, None] * (skew @ skew)
