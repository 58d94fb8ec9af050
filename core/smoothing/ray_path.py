"""Make a planned path exact for a camera with a lens.

A path is planned on a plane, along which the sphere of directions rolls (ray_camera.py). Beside the measured path, at
the distance of the correction, the sphere turns a little otherwise than the plane: of the shake, a fraction of about
the square of that angle would remain. The difference between the rotations of neighboring frames and the planned steps
is known: its fast part is removed; its slow part is the curvature of the sphere.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .. import geometry
from ..path.even_time import even_grid, is_constant_rate
from ..path.ray_camera import Array, RayCamera, Rotations, rotation_vectors, rotations_from_vectors
from ..path.trajectory import Correction
from .smoothers.kalman import kalman

ITERATIONS = 2  # the second one takes back what the first adds


def exact_rotations(correction: Correction, *, seconds: float = 4.0) -> Correction:
    """Return the correction whose rotations follow the planned path.

    correction: of measured poses. Without a lens, it is not changed. seconds: the period of the smoothing.
    """
    if correction.lens is None or correction.poses is None:
        return correction
    camera, matrices = RayCamera(correction.lens, correction.info.width), correction.matrices.copy()
    period = seconds * float(correction.info.fps)
    for shot in correction.shots:
        if shot.stop - shot.start < 3:
            continue
        poses, views = correction.poses[shot], geometry.inverse(correction.matrices[shot])
        wanted = geometry.normalize(poses @ views)
        measured, _ = camera.rotations(geometry.inverse(poses[:-1]) @ poses[1:])
        planned, _ = camera.rotations(geometry.inverse(wanted[:-1]) @ wanted[1:])
        tilts, scales = camera.rotations(views)
        for _ in range(ITERATIONS):
            excess = _accumulate(measured, planned, tilts)
            fast = excess - _smooth(excess, correction.frame_times[shot], period)
            tilts = tilts @ rotations_from_vectors(fast)
        matrices[shot] = geometry.inverse(camera.views(tilts, scales))
    return replace(correction, matrices=geometry.normalize(matrices))


def _accumulate(measured: Rotations, planned: Rotations, tilts: Rotations) -> Array:
    """Accumulate what the displayed steps lack to the planned ones.

    Returns (n, 3) rotation vectors.
    measured, planned: (n - 1, 3, 3), from the axes of each frame to those of the one before. tilts: (n, 3, 3), from the
    displayed frame to the source.
    """
    displayed = np.swapaxes(tilts[:-1], -1, -2) @ measured @ tilts[1:]
    lacking = rotation_vectors(np.swapaxes(displayed, -1, -2) @ planned)
    return np.concatenate([np.zeros((1, 3)), np.cumsum(lacking, axis=0)])


def _smooth(values: Array, times: Array, period: float) -> Array:
    """Smooth the values (n, 3) of a shot."""
    if is_constant_rate(times):
        return kalman(values, period)
    grid = even_grid(times)
    even = _interpolate(values, times, grid)
    smooth = kalman(even, period / float(grid[1] - grid[0]))
    return _interpolate(smooth, grid, times)


def _interpolate(values: Array, times: Array, at: Array) -> Array:
    columns: list[Array] = [np.interp(at, times, column) for column in values.T]
    return np.stack(columns, axis=-1)
