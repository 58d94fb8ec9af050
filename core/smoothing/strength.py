"""Strength of the correction per axis, and leveling of the horizon."""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from ..clip import ClipError, ClipInfo
from ..path.even_time import smooth_in_time
from ..path.trajectory import Correction, Trajectory

LEVEL_SECONDS = 0.5  # standard deviation of the mean of the level that gravity shows

Array = NDArray[np.float64]

# Labels of the axes for user interfaces.
AXIS_LABELS = {"x": "sideways", "y": "up and down", "roll": "turning", "zoom": "in and out", "tilt": "tilting"}


@dataclass(frozen=True)
class Strength:
    """Fraction of the correction that is applied, per axis, from 0 to 1.

    x, y: translation along the frame's axes. roll: rotation. zoom: scale. tilt: shear and perspective, the effect of
    pan and tilt on the corners.
    Raises ClipError for a value outside 0 to 1.
    """

    x: float = 1.0
    y: float = 1.0
    roll: float = 1.0
    zoom: float = 1.0
    tilt: float = 1.0

    def __post_init__(self) -> None:
        for name, share in vars(self).items():
            if not 0 <= share <= 1:
                raise ClipError(f"the strength of {name} is a share from 0 (keep the shake) to 1, got {share}")


def apply_strength(correction: Correction, strength: Strength) -> Correction:
    """Scale each correction per axis.

    Strength(x=0) keeps the horizontal shake and removes the rest. All 1 is the correction, all 0 the identity; the
    correction of a rolling shutter stays. A lower
    strength can need more zoom: limit it afterwards (zoom.py).
    """
    if strength == Strength():
        return correction
    x, y, roll, zoom, tilt = astuple(strength)
    factors = np.array([x, y, roll, zoom, tilt, tilt, tilt, tilt])
    return replace(
        correction, matrices=geometry.matrices_from_tangents(geometry.to_tangents(correction.matrices) * factors)
    )


def level_horizon(
    measured: Trajectory, wanted: Trajectory, fraction: float, reference: int | None = None
) -> Trajectory:
    """Remove a fraction of the slow roll from the wanted path.

    fraction: 0 none, 1 all. Position and zoom stay.

    Level is that of gravity where the telemetry of the camera shows it (`Motion.level`). The pixels do not contain its
    direction, so it is else the median of the shot's measured roll, and a shot that is tilted throughout stays so. In
    the shot of the frame `reference`, level is the roll of that frame.
    Raises ClipError for a fraction outside 0 to 1.
    """
    if not 0 <= fraction <= 1:
        raise ClipError(f"the horizon is a share from 0 (as the smoother leaves it) to 1 (level), got {fraction}")
    if fraction == 0:
        return wanted
    roll = measured.path[:, 2]
    smooth = roll + geometry.to_parameters(geometry.inverse(measured.poses) @ wanted.poses)[:, 2]  # no jumps of 2 pi
    rotation = np.zeros((len(roll), 4))
    for shot in measured.shots:
        has_reference = reference is not None and shot.start <= reference < shot.stop
        if measured.level is not None and not has_reference:
            level = _level_of_path(roll[shot], measured.level[shot], measured.frame_times[shot], measured.info)
        else:
            level = roll[reference] if has_reference else np.median(roll[shot])
        rotation[shot, 2] = fraction * (level - smooth[shot])
    return replace(wanted, poses=geometry.normalize(wanted.poses @ geometry.matrices_from_parameters(rotation)))


def _level_of_path(roll: Array, rolls_from_level: Array, times: Array, info: ClipInfo) -> Array:
    """The roll (n,) that the path of a shot would have if each frame were level.

    It changes slowly: the fast part of gravity's roll is an error of time or of the gyroscope, while that of the path
    is exact.
    """
    level = np.unwrap(roll - rolls_from_level)
    level -= 2 * np.pi * np.round((np.median(level - roll)) / (2 * np.pi))
    return smooth_in_time(level[:, None], times / float(info.fps), LEVEL_SECONDS)[:, 0]
