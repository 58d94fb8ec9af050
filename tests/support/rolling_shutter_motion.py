"""Steps of a camera with a rolling shutter and a known continuous path."""

from fractions import Fraction

import numpy as np
from steadyscale.core import geometry
from steadyscale.core.clip import ClipInfo

CLIP_INFO = ClipInfo(640, 360, Fraction(25), 40)
SHOTS = [slice(0, 24), slice(24, 40)]


def pose_at(times):
    """Poses at times in frames: slow oscillations of about 10 pixels, with rotation and zoom."""
    t = np.asarray(times)[:, None] / 25
    phase = np.array([0.1, 0.4, 0.7, 0.9])
    path = np.sin(2 * np.pi * (1.7 * t + phase)) + 0.5 * np.sin(2 * np.pi * (3.1 * t + 2 * phase))
    return geometry.matrices_from_parameters(path * [10, 8, 0.01, 0.01])


def rolling_shutter_steps(readout, times=range(40), height=CLIP_INFO.height):
    """Steps (40, 3, 3) fitted between rolling-shutter frames, and the true steps between the middle rows.

    times: of the frames, in frames. height: of the frames, which are 16/9 times as wide.
    """
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(-8 / 9, 8 / 9, 15), np.linspace(-0.5, 0.5, 15)))
    x, y = x * height, y * height
    points = np.stack([x, y], -1)
    steps, middle = np.tile(np.eye(3), (40, 1, 1)), np.tile(np.eye(3), (40, 1, 1))
    for i in [i for shot in SHOTS for i in range(shot.start + 1, shot.stop)]:
        scene = geometry.transform_points(pose_at(times[i - 1] + readout * y / height), points[:, None])[:, 0]
        moved = points
        for _ in range(8):
            to_frame = np.linalg.inv(pose_at(times[i] + readout * moved[:, 1] / height))
            moved = geometry.transform_points(to_frame, scene[:, None])[:, 0]
        rows = [[*p, 1, 0, 0, 0, *(-q[0] * p)] for p, q in zip(points, moved, strict=True)]
        rows += [[0, 0, 0, *p, 1, *(-q[1] * p)] for p, q in zip(points, moved, strict=True)]
        solution = np.linalg.lstsq(np.array(rows), moved.T.ravel(), rcond=None)[0]
        steps[i] = np.append(solution, 1).reshape(3, 3)
        middle[i] = np.linalg.inv(pose_at([times[i]])[0]) @ pose_at([times[i - 1]])[0]
    return steps, geometry.normalize(middle)
