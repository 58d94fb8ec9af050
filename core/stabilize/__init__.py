"""Stabilization: its settings, and the operation that they make of a clip.

    settings = StabilizeSettings(seconds=2.0, border=Border.MIRROR)
    pipeline = Pipeline(clip).then(plan_stabilization(clip, settings))

`plan_stabilization` reads the clip once to measure its motion, and then works with a few numbers per frame: readout
time, smoothing, crop. Its parts can be called one by one: `measure_motion` (pixels to motion), `correct_motion` (motion
to correction).

In reading order: settings; known_bars, motion_estimator and measure read pixels; correct does not; plan combines them.
"""

from .correct import SmootherLoader, correct_motion
from .known_bars import with_known_bars
from .measure import measure_motion, measure_motion_share
from .plan import plan_stabilization
from .settings import StabilizeSettings

__all__ = [
    "SmootherLoader",
    "StabilizeSettings",
    "correct_motion",
    "measure_motion",
    "measure_motion_share",
    "plan_stabilization",
    "with_known_bars",
]
