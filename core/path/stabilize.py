"""From the path that was measured to what moves each frame: smoothed, and held to what the border can bear."""

from __future__ import annotations

from .border import Border
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
    """What takes the shake out of the clip that `measured` is the path of.

    method, seconds, reference, strength, horizon: as `smooth` says. border: what the frames will be warped with; where
    it is a crop, no frame needs more magnification than `max_zoom` to be filled (1.2 means 20 %), and less is corrected
    where it would, or where that saves picture and nobody sees it (`crop.trimmed`; not of L1, whose segments would
    bend, nor of what is locked or levelled).
    Raises ClipError as `smooth` does.
    """
    smoothed = smooth(
        measured, method, seconds, reference=reference, max_zoom=max_zoom, strength=strength, horizon=horizon
    )
    planned = correction(measured, smoothed)
    del smoothed  # of a long clip, as large a table as what is made from it below
    if Border(border) not in (Border.CROP, Border.CROP_ADAPTIVE):
        return planned
    planned = limit_zoom(planned, max_zoom, seconds=seconds)
    promised = horizon > 0 or method in (Smoothing.LOCKED, Smoothing.L1)
    return planned if promised else trim_peaks(planned, seconds=seconds)
