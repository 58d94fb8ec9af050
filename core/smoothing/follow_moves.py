"""Follow pans, zooms and rolls, so that they do not consume the crop.

To a smoother, a pan is part of a slow oscillation: its path starts before the pan and stops after it, and deviates from
the source by a tenth of the frame or more, which costs crop in the whole clip. `follow_moves` finds these frames: the
smooth path deviates there from one of a quarter of the period, by more than the shake of the clip explains. Near them,
and only there, the path becomes the smoothest one that needs no more zoom than the other frames do, and that rests
where the source rests: a Whittaker smoother (whittaker.py) with the crop as a constraint (crop_qp.py).

Gyroflow shortens the period of its smoother at high speeds for the same purpose. At equal crop and equal drift before
a pan, a shorter period leaves about four times as much of the acceleration at its start.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from ..crop.crop_qp import PathTarget, project_to_crop, to_basis_coordinates
from ..crop.zoom import attenuate_to_zoom, slice_correction, upper_envelope, visible_rect, zooms_to_fill
from ..path.trajectory import Correction, Trajectory
from .smooth import Smoothing, smooth

MOVE_ZOOM = 1.05  # magnification that a move may need, even if the other frames need less
FOLLOWED_PERIODS = 0.25  # of the period: what is slower is a move, if it is also large
SHAKE_PEAK = 3.5  # the largest displacement by fast shake, relative to its median
SWAY_PEAK = 1.3  # the same of slow sway, relative to its upper quartile: that of a sine is 1 / 1.08
MOVE_PERIOD = 0.8  # period of the smoothing near a move, relative to that of the other frames
REST_SPEEDS = 0.02, 0.05  # frame widths per second: a slower source rests, a faster one does not
REST_WEIGHT = 3.0  # weight of the speed at rest; the unit of time is a radian of the period

Array = NDArray[np.float64]


def follow_moves(correction: Correction, *, seconds: float = 4.0) -> Correction:
    """Follow moves of the camera that are larger than its shake.

    Shots without such moves are not changed. correction: of measured poses. seconds: the period of the smoothing.
    """
    if correction.poses is None:
        return correction
    measured = Trajectory(correction.poses, correction.shots, correction.info, times=correction.times)
    followed = smooth(measured, Smoothing.KALMAN, FOLLOWED_PERIODS * seconds).poses
    matrices = correction.matrices.copy()
    for shot in correction.shots:
        original = slice_correction(correction, shot)
        matrices[shot] = _follow_shot(original, correction.poses[shot], followed[shot], seconds).matrices
    return replace(correction, matrices=matrices)


def _follow_shot(
    original: Correction, measured: geometry.Matrices, followed: geometry.Matrices, seconds: float
) -> Correction:
    """As `follow_moves`, for one shot of 3 or more frames."""
    if len(measured) < 3:
        return original
    wanted = geometry.normalize(measured @ geometry.inverse(original.matrices))
    times, period = original.frame_times, MOVE_PERIOD * seconds * float(original.info.fps)
    excess, shake = (
        _corner_distances(wanted, followed, original),
        _shake_peak(original, wanted, measured, followed, period),
    )
    limit = max((1 - 1 / MOVE_ZOOM) / 2, shake)
    moves = _ramp(excess, limit, 2 * limit)
    if not moves.any():
        return original
    moves = upper_envelope(moves, times, period / 4, hold=2, means=1)
    required = zooms_to_fill(original)
    max_zoom = max(MOVE_ZOOM, 1 / max(0.5, 1 - 2 * shake), required[moves == 0].max(initial=1.0))

    tangents = geometry.to_tangents(original.matrices)
    shear = replace(original, matrices=geometry.matrices_from_tangents(tangents * [0, 0, 0, 0, 1, 1, 1, 1]))
    shear = attenuate_to_zoom(shear, max_zoom**0.5).matrices
    views = geometry.inverse(geometry.matrices_from_parameters(tangents[:, :4]))
    wanted = measured @ geometry.inverse(shear) @ views
    is_rest = 1 - _ramp(_speeds(followed, original), *REST_SPEEDS)
    steps = to_basis_coordinates(geometry.to_tangents(geometry.inverse(wanted[:-1]) @ wanted[1:]), original.info)
    target = PathTarget(
        position=moves[:, None] * to_basis_coordinates(geometry.to_tangents(geometry.inverse(views)), original.info),
        steps=steps,
        bend=moves,
        rest=REST_WEIGHT * is_rest * np.minimum(moves[:-1], moves[1:]),
    )
    views = project_to_crop(
        views,
        geometry.inverse(shear),
        original.info,
        max_zoom,
        period,
        visible_rect(original),
        times,
        target=target,
    )
    result = replace(original, matrices=geometry.normalize(geometry.inverse(views) @ shear))
    return result if zooms_to_fill(result).max() < max(required.max(), max_zoom * (1 + 1e-6)) else original


def _shake_peak(
    original: Correction,
    wanted: geometry.Matrices,
    measured: geometry.Matrices,
    followed: geometry.Matrices,
    period: float,
) -> float:
    """Return the largest displacement that is shake, in frame widths.

    That is fast shake, and slow sway around a path that hardly moves for a period (in frame times) and more.
    """
    fast = float(np.median(_corner_distances(followed, measured, original)))
    speeds, times = _speeds(wanted, original), original.frame_times
    is_fast = (np.append(speeds, speeds[-1:]) > REST_SPEEDS[1]).astype(np.float64)
    is_slow = upper_envelope(is_fast, times, period / 2, hold=1, means=0) == 0
    sway = float(np.quantile(is_slow * _corner_distances(wanted, followed, original), 0.75))
    return max(SHAKE_PEAK * fast, SWAY_PEAK * sway)


def _speeds(poses: geometry.Matrices, correction: Correction) -> Array:
    """Return the speed of the fastest corner between the poses (n, 3, 3).

    (n - 1,), in frame widths per second.
    """
    seconds = np.diff(correction.frame_times) / float(correction.info.fps)
    return _corner_distances(poses[:-1], poses[1:], correction) / seconds


def _corner_distances(first: geometry.Matrices, second: geometry.Matrices, correction: Correction) -> Array:
    """Return the largest displacement of a corner between poses.

    From each first to each second one: (n,), in frame widths.
    """
    corners = geometry.corners(correction.info.width, correction.info.height)
    moved = geometry.transform_points(geometry.normalize(geometry.inverse(first) @ second), corners[None])
    return np.linalg.norm(moved - corners, axis=-1).max(axis=-1) / max(correction.info.width, 1)


def _ramp(values: Array, low: float, high: float) -> Array:
    """0 up to `low`, 1 from `high` on, smooth between."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
