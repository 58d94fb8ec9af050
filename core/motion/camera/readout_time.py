"""Readout time estimation of a rolling shutter from the motion of a clip.

The camera's acceleration shears and stretches frames in proportion to the readout (path/rolling_shutter.py), which is
one number for the whole clip. It is accepted only if it is significant: for a global shutter, rendered clips, noise and
a static tripod the result is 0 and nothing is changed.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ... import geometry
from ...clip import ClipError
from ...path import rolling_shutter
from ...path.motion import Motion
from ...path.trajectory import interpolate_low_confidence, is_reliable
from .robust_slope import fit_slope

log = logging.getLogger(__name__)

MIN_SIGMAS = 10.0  # minimum readout in standard errors
MIN_EXPLAINED_FRACTION = 0.3  # of the shear and stretch power; noise explains less, for any clip length
MAX_AXIS_DISAGREEMENT = 0.25  # relative difference allowed between horizontal and vertical motion
MIN_READOUT = 0.05  # a shorter readout moves no row by more than a few hundredths of a pixel
MIN_FRAMES = 12  # fewer are not significant
MAX_DUPLICATE_FRACTION = 0.05  # with more duplicate frames, the time between frames is not that of the timestamps
MIN_REST_FRAMES = 8  # more steps in a row without motion are a camera at rest, and no duplicate frames
ITERATIONS = 4


class RollingShutter(str, Enum):
    """Presets of the readout, where no number is given."""

    AUTO = "auto"
    OFF = "off"

    @property
    def readout(self) -> float | None:
        """The `readout` argument of `with_rolling_shutter`."""
        return None if self is RollingShutter.AUTO else 0.0


class ReadoutFit(NamedTuple):
    """Result of a linear fit.

    readout: the estimate; std_error: its standard error. residual_power: mean square, in pixels at the corner, of the
    unexplained part; signal_power: of the effect of a readout of 1.
    """

    readout: float
    std_error: float
    residual_power: float
    signal_power: float


def with_rolling_shutter(motion: Motion, readout: float | None = None) -> Motion:
    """The same motion with the readout of the camera's rolling shutter.

    readout: fraction of the frame time from the first row to the last, see `Motion`; None estimates it from the motion,
    0 is a global shutter. Raises ClipError outside -1 to 1.
    """
    if readout is not None and not -1 <= readout <= 1:
        raise ClipError(f"the readout of a rolling shutter is a share of the frame time from -1 to 1, got {readout}")
    value = estimate_readout(motion) if readout is None else float(readout)
    if value:
        log.info("the camera's rolling shutter takes %.2f of the frame time", value)
    return replace(motion, readout=value)


def estimate_readout(motion: Motion) -> float:
    """Estimate the readout of the camera, from -1 to 1; 0.0 if it is not significant."""
    reliable = is_reliable(motion.confidence, motion.steps)
    unmoved = (motion.steps == np.eye(3)).all(axis=(1, 2))
    rests = _long_runs(unmoved, MIN_REST_FRAMES)
    reliable &= ~rests
    valid = reliable & np.append(reliable[1:], False) & np.append(False, reliable[:-1])
    duplicates = (unmoved & ~rests)[1:].sum() / max((~rests)[1:].sum(), 1)
    if valid.sum() < MIN_FRAMES or duplicates > MAX_DUPLICATE_FRACTION:
        return 0.0
    plain = replace(motion, readout=0.0)
    steps = geometry.matrices_from_tangents(interpolate_low_confidence(plain))
    readout, previous = 0.0, 0.0
    fits = _fit_readout(steps, plain, valid, readout)
    if not abs(fits[0].readout) >= max(MIN_READOUT, MIN_SIGMAS * fits[0].std_error) / 2:  # also for NaN
        return 0.0
    limit = rolling_shutter.MAX_READOUT
    for _ in range(ITERATIONS):
        previous, readout = readout, float(np.clip(readout + fits[0].readout, -limit, limit))
        fits = _fit_readout(steps, plain, valid, readout)
    size, combined, per_axis = abs(readout), fits[0], fits[1:]
    converged = abs(readout - previous) <= MAX_AXIS_DISAGREEMENT * size
    significant = converged and size >= max(MIN_READOUT, MIN_SIGMAS * combined.std_error)
    explained = size**2 * combined.signal_power
    significant = significant and explained >= MIN_EXPLAINED_FRACTION * (explained + combined.residual_power)
    axes = [fit for fit in per_axis if fit.signal_power > 0.01 * combined.signal_power]
    consistent = all(abs(fit.readout) <= max(MAX_AXIS_DISAGREEMENT * size, 5 * fit.std_error) for fit in axes)
    return round(readout, 4) if significant and consistent else 0.0


def _long_runs(flags: NDArray[np.bool_], least: int) -> NDArray[np.bool_]:
    """Return the flags (N,) in runs of `least` and more."""
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False)).reshape(-1, 2)
    kept = np.zeros_like(flags)
    for start, stop in edges[edges[:, 1] - edges[:, 0] >= least]:
        kept[start:stop] = True
    return kept


def _fit_readout(
    steps: geometry.Matrices, motion: Motion, valid: NDArray[np.bool_], readout: float
) -> tuple[ReadoutFit, ReadoutFit, ReadoutFit]:
    """Fit the change of the readout to horizontal and vertical motion.

    Returns (combined, from horizontal motion, from vertical motion).
    """
    info = motion.info
    rectified, derivative = steps, np.zeros((len(steps), 8))
    if readout:
        rectified, _ = rolling_shutter.rectify_steps(steps, motion.shots, info, readout, motion.frame_times)
    for shot in motion.shots:
        inner = slice(shot.start + 1, shot.stop)
        if shot.stop - shot.start > 2:
            shot_times = motion.frame_times[shot]
            derivative[inner] = rolling_shutter.shutter_distortion(rectified[inner], readout + 0.05, info, shot_times)
            derivative[inner] -= rolling_shutter.shutter_distortion(rectified[inner], readout - 0.05, info, shot_times)
    tangents, derivative = geometry.to_tangents(rectified)[valid], derivative[valid] / 0.1
    # Lens distortion and scene depth cause shear in proportion to the speed: project it out.
    speed = np.stack([np.ones(len(tangents)), tangents[:, 0], tangents[:, 1]], axis=-1)
    speed, _ = np.linalg.qr(speed)
    corner_radius = np.hypot(info.width, info.height) / 2
    fits: list[ReadoutFit] = []
    for column in (5, 4):  # shear is caused by horizontal, stretch by vertical motion
        effect, cause = (
            corner_radius * (part[:, column] - speed @ (speed.T @ part[:, column])) for part in (tangents, derivative)
        )
        fits.append(ReadoutFit(*fit_slope(cause, effect, fitted=4, floor=1e-12)))
    horizontal, vertical = fits
    precision = np.array([fit.std_error**-2 for fit in fits])
    mean = float(precision @ [fit.readout for fit in fits] / precision.sum())
    residual_power = horizontal.residual_power + vertical.residual_power
    signal_power = horizontal.signal_power + vertical.signal_power
    combined = ReadoutFit(mean, float(precision.sum() ** -0.5), residual_power, signal_power)
    return combined, horizontal, vertical
