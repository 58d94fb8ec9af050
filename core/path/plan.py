"""From the path that was measured to what moves each frame: smoothed, and held to what the border can bear."""

from __future__ import annotations

from ..warping.border import Border
from .axes import Strength
from .crop import limit_zoom
from .smooth import Smoother, Smoothing, smooth
from .trajectory import Correction, Trajectory, correction


def plan_correction(
    measured: Trajectory,
    method: Smoothing | Smoother = Smoothing.KALMAN,
    seconds: float = 3.0,
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
    where it would.
    Raises ClipError as `smooth` does.
    """
    wanted = smooth(
        measured, method, seconds, reference=reference, max_zoom=max_zoom, strength=strength, horizon=horizon
    )
    planned = correction(measured, wanted)
    cropped = Border(border) in (Border.CROP, Border.CROP_ADAPTIVE)
    return limit_zoom(planned, max_zoom, seconds=seconds) if cropped else planned
