"""Correction planning.

Smooths the measured path and limits the zoom to what the border allows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..crop.border import Border
from ..crop.zoom import attenuate_to_zoom, limit_zoom, trim_peaks
from ..path.trajectory import Correction, Trajectory, correction
from .crossfade import join_dissolved_shots
from .follow_moves import follow_moves
from .keyframes import Keyframe, apply_keyframes, fade_changes, has_value, largest_zoom, zoom_limits
from .smooth import Smoother, Smoothing, smooth
from .strength import Strength


def plan_correction(
    measured: Trajectory,
    method: Smoothing | Smoother = Smoothing.KALMAN,
    seconds: float = 4.0,
    *,
    border: Border = Border.CROP,
    max_zoom: float = 1.3,
    reference: int | None = None,
    strength: Strength | None = None,
    horizon: float = 0.0,
    keyframes: Sequence[Keyframe] = (),
    dissolves: Sequence[slice] = (),
) -> Correction:
    """The correction that stabilizes the clip with the path `measured`.

    method, seconds, reference, strength, horizon: see `smooth`. Moves of the camera that are larger than its shake are
    followed (`follow_moves`), unless the path is exact (LOCKED, L1 or a level horizon) or causal. border: the border of
    the warp; for a crop, no frame needs more magnification than `max_zoom` to be filled (1.2 means 20 %), and the
    correction is reduced where it would, or where an invisible reduction saves crop (`trim_peaks`; not of exact paths).
    keyframes: strength, max_zoom and center over time, in place of one max_zoom; the last two are of a crop.
    dissolves: as in `Motion`; the shots that meet in one are joined, see crossfade.py.
    Raises ClipError as `smooth` does.
    """
    largest = largest_zoom(keyframes, max_zoom)
    smoothed = smooth(
        measured, method, seconds, reference=reference, max_zoom=largest, strength=strength, horizon=horizon
    )
    planned = correction(measured, smoothed)
    del smoothed  # for a long clip, a table as large as those below
    is_exact = horizon > 0 or method in (Smoothing.LOCKED, Smoothing.L1)
    if not is_exact and method is not Smoothing.KALMAN_CAUSAL:
        planned = follow_moves(planned, seconds=seconds)
    planned = join_dissolved_shots(planned, dissolves)
    limits = zoom_limits(keyframes, max_zoom, planned)
    planned = apply_keyframes(planned, keyframes, limits)
    if Border(border) not in (Border.CROP, Border.CROP_ADAPTIVE):
        return planned
    limited = limit_zoom(planned, limits, seconds=seconds)
    if not (is_exact or isinstance(limits, np.ndarray) or has_value(keyframes, "center")):
        limited = trim_peaks(limited, seconds=seconds)
    faded = fade_changes(limited, planned, keyframes)
    return limited if faded is limited else attenuate_to_zoom(faded, limits)
