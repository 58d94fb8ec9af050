"""How level the camera is held, by its accelerometer and gyroscope.

An accelerometer at rest measures the direction up; in a camera that moves, it also measures the acceleration. Turned
into the axes of the first frame by the gyroscope, gravity is constant, and the acceleration averages out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...path.even_time import smooth_in_time
from ...path.ray_camera import rotations_from_vectors

MEAN_SECONDS = 2.0  # standard deviation of the mean of the acceleration: longer, the gyroscope drifts
MIN_SHARE = 0.5  # of the accelerations' root mean square that is constant in the axes of the scene
MIN_ACROSS = 0.25  # sine of the angle between the axis of the camera and gravity; below, there is no roll

Array = NDArray[np.float64]


def gravity_rolls(turns: Array, accelerations: Array, times: Array) -> Array | str:
    """Return the roll of each frame from level, or why it is not known.

    It is (N,), in radians, positive where the camera is turned clockwise, as in a `Trajectory`.
    Upright is the way in which most frames are.
    turns: (N, 3), rotation vectors from each frame to the one before, in axes x right, y down, z forward.
    accelerations: (N, 3), in the same axes. times: (N,), of the frames, in seconds.
    """
    poses = np.empty((len(turns), 3, 3))
    pose = np.eye(3)
    for i, turn in enumerate(rotations_from_vectors(turns)):
        poses[i] = pose = pose @ turn
    in_scene = np.einsum("nij,nj->ni", poses, accelerations)
    steady = smooth_in_time(in_scene, times, MEAN_SECONDS)
    strength, total = (float(np.sqrt(np.square(each).sum(axis=1).mean())) for each in (steady, in_scene))
    if not strength > MIN_SHARE * total:
        return "the accelerometer shows no gravity"
    up = np.einsum("nji,nj->ni", poses, steady)
    up /= np.linalg.norm(up, axis=1, keepdims=True)
    if np.median(up[:, 1]) > 0:  # y is down; some files count gravity itself, not what holds against it
        up = -up
    has_roll = np.hypot(up[:, 0], up[:, 1]) > MIN_ACROSS
    if has_roll.mean() < 0.5:
        return "the camera looks down or up"
    rolls = np.unwrap(np.arctan2(-up[has_roll, 0], -up[has_roll, 1]))
    return np.asarray(np.interp(times, times[has_roll], rolls), np.float64)
