"""Correction planning.

Smooths the measured path and limits the zoom to what the border allows.
"""

from __future__ import annotations

from .border import Border
from .follow_moves import follow_moves
from .smooth import Smoother, Smoothing, smooth
from .strength import Strength
from .trajectory import Correction, Trajectory, correction
from .zoom import limit_zoom, trim_peaks


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
) -> Correction:
    """The correction that stabilizes the clip with the path `measured`.

    method, seconds, reference, strength, horizon: see `smooth`. Moves of the camera that are larger than its shake are
    followed (`follow_moves`), unless the path is exact (LOCKED, L1 or a level horizon) or causal. border: the border of
    the warp; for a crop, no frame needs more magnification than `max_zoom` to be filled (1.2 means 20 %), and the
    correction is reduced where it would, or where an invisible reduction saves crop (`trim_peaks`; not of exact paths).
    Raises ClipError as `smooth` does.
    """
    smoothed = smooth(
        measured, method, seconds, reference=reference, max_zoom=max_zoom, strength=strength, horizon=horizon
    )
    planned = correction(measured, smoothed)
    del smoothed  # for a long clip, a table as large as those below
    is_exact = horizon > 0 or method in (Smoothing.LOCKED, Smoothing.L1)
    if not is_exact and method is not Smoothing.KALMAN_CAUSAL:
        planned = follow_moves(planned, seconds=seconds)
    if Border(border) not in (Border.CROP, Border.CROP_ADAPTIVE):
        return planned
    planned = limit_zoom(planned, max_zoom, seconds=seconds)
    return planned if is_exact else trim_peaks(planned, seconds=seconds)
