"""Which of the camera's movements are corrected: how much of each kind, and whether the picture is kept level."""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace

import numpy as np

from .. import geometry
from ..clip import ClipError
from .trajectory import Correction, Trajectory

# The ways in which a picture can move, in words for people.
AXES = {"x": "sideways", "y": "up and down", "roll": "turning", "zoom": "in and out", "tilt": "tilting"}


@dataclass(frozen=True)
class Strength:
    """How much of the correction is applied, in each way that a picture can move: 0 nothing, 1 all of it.

    x, y: sideways, up and down, in the picture's own axes. roll: turning. zoom: growing and shrinking. tilt: shear
    and perspective, which is what a camera that turns does to the corners.
    Raises ClipError for a share outside 0 to 1.
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


def partly(correction: Correction, strength: Strength) -> Correction:
    """That share of each correction, axis by axis: Strength(x=0) keeps the sideways shake and takes away the rest.

    All 1 is the correction itself, all 0 the identity. Less can need more zoom: limit it afterwards (crop.py).
    """
    if strength == Strength():
        return correction
    x, y, roll, zoom, tilt = astuple(strength)
    share = np.array([x, y, roll, zoom, tilt, tilt, tilt, tilt])
    return replace(correction, matrices=geometry.to_matrices_of(geometry.to_tangents(correction.matrices) * share))


def levelled(measured: Trajectory, wanted: Trajectory, share: float, reference: int | None = None) -> Trajectory:
    """The wanted way with its slow roll taken away too: `share` of it, 0 none, 1 all. Place and zoom stay.

    Nothing in the pixels says where down is, so level is how the shot is mostly held: the median of its measured roll;
    in the shot of the frame `reference`, the roll of that frame. A shot that was filmed askew throughout stays so.
    Raises ClipError for a share outside 0 to 1.
    """
    if not 0 <= share <= 1:
        raise ClipError(f"the horizon is a share from 0 (as the smoother leaves it) to 1 (level), got {share}")
    if share == 0:
        return wanted
    roll = measured.path[:, 2]
    smooth = roll + geometry.to_parameters(geometry.inverse(measured.poses) @ wanted.poses)[:, 2]  # no jumps of 2 pi
    turn = np.zeros((len(roll), 4))
    for shot in measured.shots:
        held = reference is not None and shot.start <= reference < shot.stop
        level = roll[reference] if held else np.median(roll[shot])
        turn[shot, 2] = share * (level - smooth[shot])
    return replace(wanted, poses=geometry.normalized(wanted.poses @ geometry.to_matrices(turn)))
