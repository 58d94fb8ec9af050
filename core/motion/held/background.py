"""How the background of a scene moves, and a subject relative to it.

Without a lens, the background moves by homographies, and the subject's own motion is a translation of the frame. With a
lens, the camera turns: the background moves along rays, and so does the subject.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from ... import geometry
from ...path.motion import Motion
from ...path.ray_camera import RayCamera, Rotations, rotation_vectors, rotations_from_vectors

NO_ROLL = 100.0  # weight of a roll of the frame in a turn that follows a subject, relative to a tilt

Array = NDArray[np.float64]


class Background(ABC):
    """The motion of the background between neighboring frames.

    Points (P, 2) are in pixels of the measured frames, from their center. The place of a subject is a row of numbers:
    coordinates, or the parts of a ray. columns: the length k of that row.
    """

    columns: int

    @abstractmethod
    def move(self, number: int, points: Array) -> Array:
        """Move points of the background from frame `number` - 1 to frame `number`."""

    @abstractmethod
    def move_back(self, number: int, points: Array) -> Array:
        """Move points of the background from frame `number` to frame `number` - 1."""

    @abstractmethod
    def to_scene(self, shot: slice, positions: Array) -> Array:
        """Convert positions (n, 2) in the frames of a shot to places in the scene.

        Returns (n, k).
        """

    @abstractmethod
    def own_moves(self, shot: slice, places: Array) -> Array:
        """The moves (n, k) to each frame that the background does not make.

        places: in the scene, (n, k). The first row is zero.
        """

    @abstractmethod
    def add_moves(self, moves: Array) -> geometry.Matrices:
        """The steps (N, 3, 3) of the motion with own moves (N, k) of all frames."""


class PlaneBackground(Background):
    """A background that moves by homographies.

    steps: (N, 3, 3), in pixels of the source. to_small: the size of a measured frame relative to it, (2,).
    """

    columns = 2

    def __init__(self, steps: geometry.Matrices, to_small: Array) -> None:
        self._steps, self._to_small = steps, to_small
        self._camera = geometry.rescale(steps, *to_small)

    def move(self, number: int, points: Array) -> Array:
        return geometry.transform_points(self._camera[number], points)

    def move_back(self, number: int, points: Array) -> Array:
        return geometry.transform_points(geometry.normalize(geometry.inverse(self._camera[number])), points)

    def to_scene(self, shot: slice, positions: Array) -> Array:
        return geometry.transform_points(self._poses(shot), positions[:, None])[:, 0]

    def own_moves(self, shot: slice, places: Array) -> Array:
        moves = np.zeros_like(places)
        in_frame = geometry.transform_points(geometry.inverse(self._poses(shot)), places[:, None])
        expected = geometry.transform_points(self._camera[shot][1:], in_frame[:-1])
        moves[1:] = (in_frame[1:] - expected)[:, 0]
        return moves

    def add_moves(self, moves: Array) -> geometry.Matrices:
        shifts = np.tile(np.eye(3), (len(moves), 1, 1))
        shifts[:, :2, 2] = moves / self._to_small
        return geometry.normalize(shifts @ self._steps)

    def _poses(self, shot: slice) -> geometry.Matrices:
        camera = self._camera[shot]
        poses = np.tile(np.eye(3), (len(camera), 1, 1))
        for i in range(1, len(camera)):
            poses[i] = geometry.normalize(poses[i - 1] @ geometry.inverse(camera[i]))
        return poses


class RayBackground(Background):
    """A background that moves along rays, because the camera turns.

    motion: with a lens; `steps` replace its own. A move is the rotation vector of the turn that follows the subject:
    about the axes of the frame's plane, as a turn about its normal would roll the frame.
    """

    columns = 3

    def __init__(self, motion: Motion, steps: geometry.Matrices, to_small: Array) -> None:
        assert motion.lens is not None, "without a lens, the background is a plane"
        self._camera = RayCamera(motion.lens, motion.info.width)
        self._turns, self._scales = self._camera.rotations(geometry.inverse(steps))
        bars = motion.bars
        center = np.zeros(2) if bars is None else np.array([bars.left - bars.right, bars.top - bars.bottom]) / 2
        self._to_small, self._center = to_small, center

    def move(self, number: int, points: Array) -> Array:
        turned = self._camera.project(self._rays(points) @ self._turns[number]) / self._scales[number]
        return (turned + self._center) * self._to_small

    def move_back(self, number: int, points: Array) -> Array:
        rays = self._camera.rays((points / self._to_small - self._center) * self._scales[number])
        return (self._camera.project(rays @ self._turns[number].T) + self._center) * self._to_small

    def to_scene(self, shot: slice, positions: Array) -> Array:
        return np.einsum("nij,nj->ni", self._poses(shot), self._rays(positions))

    def own_moves(self, shot: slice, places: Array) -> Array:
        moves = np.zeros_like(places)
        rays = np.einsum("nji,nj->ni", self._poses(shot), places)
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        expected = np.einsum("nji,nj->ni", self._turns[shot][1:], rays[:-1])
        scaled = self._camera.project(rays[1:]) * self._scales[shot][1:, None]
        moves[1:] = rotation_vectors(_turns_without_roll(expected, self._camera.rays(scaled)))
        return moves

    def add_moves(self, moves: Array) -> geometry.Matrices:
        turns = self._turns @ np.swapaxes(rotations_from_vectors(moves), -1, -2)
        return geometry.normalize(geometry.inverse(self._camera.views(turns, self._scales)))

    def _rays(self, points: Array) -> Array:
        return self._camera.rays(points / self._to_small - self._center)

    def _poses(self, shot: slice) -> Rotations:
        """(n, 3, 3): from the axes of each frame to those of the first."""
        turns = self._turns[shot]
        poses = np.tile(np.eye(3), (len(turns), 1, 1))
        for i in range(1, len(turns)):
            poses[i] = poses[i - 1] @ turns[i]
        return poses


def _turns_without_roll(before: Array, after: Array) -> Rotations:
    """Rotations (n, 3, 3) that turn rays (n, 3) to others, with little roll about z.

    Such a turn is the shortest one, after a turn about the ray itself. Of a ray across the axis of the camera, a turn
    without any roll would be large, or would not exist.
    """
    cross = np.cross(before, after)
    sine, cosine = np.linalg.norm(cross, axis=-1), (before * after).sum(axis=-1)
    shortest = cross * (np.arctan2(sine, cosine) / np.maximum(sine, 1e-12))[:, None]
    across = np.square(before[:, :2]).sum(axis=-1)
    spin = -shortest[:, 2] * before[:, 2] * (NO_ROLL - 1) / (across + NO_ROLL * before[:, 2] ** 2)
    return rotations_from_vectors(shortest) @ rotations_from_vectors(spin[:, None] * before)
