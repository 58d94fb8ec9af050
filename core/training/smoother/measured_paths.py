"""Measured camera paths, to train and evaluate the smoother."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...path.motion import Motion
from ...path.serialize import load_path
from ...path.trajectory import Trajectory
from ...smoothing.smooth import smooth
from ..errors import TrainingError

MIN_SHOT_FRAMES = 40  # shorter shots are skipped

Array = NDArray[np.float64]


def read_measured_paths(files: Sequence[Path]) -> list[Array]:
    """Read the shots of files that `save_path` wrote, as `shot_paths` returns them.

    They hold motions or trajectories.
    Raises ClipError for other files, and TrainingError where one has no shot that is long enough.
    """
    paths: list[Array] = []
    for file in files:
        value = load_path(file)
        trajectory = Trajectory.of(value) if isinstance(value, Motion) else value
        found = shot_paths(trajectory) if isinstance(trajectory, Trajectory) else []
        if not found:
            raise TrainingError(
                f"{file} has no measured shot of {MIN_SHOT_FRAMES} frames or more; save the motion of a longer one"
            )
        paths += found
    return paths


def shot_paths(trajectory: Trajectory) -> list[Array]:
    """The path (n, 8) of each long enough shot, as a smoother gets it.

    In half frame widths and radians, as in synthetic_paths.py.
    """
    half = trajectory.info.width / 2
    paths: list[Array] = []
    for shot in trajectory.shots:
        length = shot.stop - shot.start
        if length < MIN_SHOT_FRAMES:
            continue
        recorded: list[Array] = []

        def record(values: Array, _: float, recorded: list[Array] = recorded) -> Array:
            recorded.append(values.copy())
            return values

        times = None if trajectory.times is None else trajectory.times[shot]
        alone = replace(trajectory, poses=trajectory.poses[shot], shots=[slice(0, length)], rows=None, times=times)
        smooth(alone, record)
        paths.append(recorded[0] * [1 / half, 1 / half, 1, 1, 1, 1, half, half])
    return paths


def draw_window(rng: np.random.Generator, path: Array, frames: int) -> Array:
    """Return `frames` consecutive frames of a path (n, 8), starting at zero.

    In either direction.
    A path that is too short continues as its own reflection through its last pose, without a jump of its speed.
    """
    if rng.random() < 0.5:
        path = path[::-1]
    while len(path) < frames:
        path = np.concatenate([path, 2 * path[-1] - path[-2::-1]])
    start = int(rng.integers(len(path) - frames + 1))
    return path[start : start + frames] - path[start]
