"""How long a camera's rolling shutter takes for a frame, found in the steps that were measured of its clip.

Where the camera's acceleration slants and stretches the picture (path/rolling.py), all frames of the clip tell one
number. It is believed only where they tell it clearly: for clips of a shutter that is not rolling, for rendered ones,
noise and a still tripod it is 0, and nothing is done to them.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from ..clip import ClipError
from ..path import rolling_shutter
from ..path.motion import Motion
from ..path.trajectory import MIN_CONFIDENCE, interpolate_low_confidence

log = logging.getLogger(__name__)

MIN_SIGMAS = 10.0  # standard errors that a readout must be from 0
MIN_EXPLAINED_FRACTION = (
    0.3  # share of the slant and stretch, squared, that it must be the reason of: noise gives less, however long
)
MAX_AXIS_DISAGREEMENT = (
    0.25  # share of it by which sideways and upwards motion, if they tell it at all, may say otherwise
)
MIN_READOUT = 0.05  # a shorter readout bends no row by more than a few hundredths of a pixel
MIN_FRAMES = 12  # frames; fewer say nothing
MAX_DUPLICATE_FRACTION = (
    0.05  # share of repeated frames above which the time between frames is not even, and nothing can be told
)
ITERATIONS = 4


class RollingShutter(str, Enum):
    """What to do about it, where no number is asked for."""

    AUTO = "auto"
    OFF = "off"

    @property
    def readout(self) -> float | None:
        """As `with_rolling_shutter` wants it."""
        return None if self is RollingShutter.AUTO else 0.0


class ReadoutFit(NamedTuple):
    readout: float
    std_error: float  # standard error of it
    residual_power: float  # mean square, in pixels at the corner, of what it does not explain
    signal_power: float  # and of what a readout of 1 would do


def with_rolling_shutter(motion: Motion, readout: float | None = None) -> Motion:
    """The same motion, of a camera whose rows are exposed one after the other.

    readout: share of the frame time from the first row to the last, see `Motion`; None finds it in the motion, and 0
    stands for a camera that exposes all rows at once. Raises ClipError outside -1 to 1.
    """
    if readout is not None and not -1 <= readout <= 1:
        raise ClipError(f"the readout of a rolling shutter is a share of the frame time from -1 to 1, got {readout}")
    found = estimate_readout(motion) if readout is None else float(readout)
    if found:
        log.info("the camera's rolling shutter takes %.2f of the frame time", found)
    return replace(motion, readout=found)


def estimate_readout(motion: Motion) -> float:
    """The readout of the camera that filmed this, from -1 to 1; 0.0 where the motion does not clearly tell one."""
    trusted = motion.confidence >= MIN_CONFIDENCE
    good = trusted & np.append(trusted[1:], False) & np.append(False, trusted[:-1])
    still = (motion.steps[1:] == np.eye(3)).all(axis=(1, 2))
    if good.sum() < MIN_FRAMES or still.mean() > MAX_DUPLICATE_FRACTION:
        return 0.0
    plain = replace(motion, readout=0.0)
    steps = geometry.matrices_from_tangents(interpolate_low_confidence(plain))
    readout, before = 0.0, 0.0
    found = _fit_readout(steps, plain, good, readout)
    if abs(found[0].readout) < max(MIN_READOUT, MIN_SIGMAS * found[0].std_error) / 2:
        return 0.0
    for _ in range(ITERATIONS):
        before, readout = (
            readout,
            float(np.clip(readout + found[0].readout, -rolling_shutter.MAX_READOUT, rolling_shutter.MAX_READOUT)),
        )
        found = _fit_readout(steps, plain, good, readout)
    size, whole, ways = abs(readout), found[0], found[1:]
    clear = (
        size >= max(MIN_READOUT, MIN_SIGMAS * whole.std_error) and abs(readout - before) <= MAX_AXIS_DISAGREEMENT * size
    )
    explained = size**2 * whole.signal_power
    clear = clear and explained >= MIN_EXPLAINED_FRACTION * (explained + whole.residual_power)
    heard = [way for way in ways if way.signal_power > 0.01 * whole.signal_power]
    agreed = all(abs(way.readout) <= max(MAX_AXIS_DISAGREEMENT * size, 5 * way.std_error) for way in heard)
    return round(readout, 4) if clear and agreed else 0.0


def _fit_readout(
    steps: geometry.Matrices, motion: Motion, valid: NDArray[np.bool_], readout: float
) -> tuple[ReadoutFit, ReadoutFit, ReadoutFit]:
    """How much more the readout should be: by all, by sideways and by upwards motion alone."""
    info = motion.info
    straight, change = steps, np.zeros((len(steps), 8))
    if readout:
        straight, _ = rolling_shutter.rectify_steps(steps, motion.shots, info, readout)
    for shot in motion.shots:
        inner = slice(shot.start + 1, shot.stop)
        if shot.stop - shot.start > 2:
            change[inner] = rolling_shutter.shutter_distortion(straight[inner], readout + 0.05, info)
            change[inner] -= rolling_shutter.shutter_distortion(straight[inner], readout - 0.05, info)
    seen, change = geometry.to_tangents(straight)[valid], change[valid] / 0.1
    usual = np.stack([np.ones(len(seen)), seen[:, 0], seen[:, 1]], axis=-1)  # what lenses and depth make of speed
    usual, _ = np.linalg.qr(usual)
    unit = np.hypot(info.width, info.height) / 2
    ways = []
    for column in (5, 4):  # slant comes of sideways, stretch of upwards motion
        effect, cause = (unit * (part[:, column] - usual @ (usual.T @ part[:, column])) for part in (seen, change))
        ways.append(_robust_slope(cause, effect))
    sideways, upwards = ways
    sure = np.array([way.std_error**-2 for way in ways])
    mean = float(sure @ [way.readout for way in ways] / sure.sum())
    whole = ReadoutFit(
        mean,
        float(sure.sum() ** -0.5),
        sideways.residual_power + upwards.residual_power,
        sideways.signal_power + upwards.signal_power,
    )
    return whole, sideways, upwards


def _robust_slope(cause: NDArray[np.float64], effect: NDArray[np.float64]) -> ReadoutFit:
    """effect = slope * cause, robustly: Tukey's biweight over what is left."""
    weights, slope, power = np.ones_like(cause), 0.0, 1.0
    for _ in range(10):
        power = max(float((weights * cause**2).sum()), 1e-12)
        slope = float((weights * cause * effect).sum() / power)
        off = np.abs(effect - slope * cause)
        weights = np.maximum(0, 1 - (off / (7 * float(np.median(off)) + 1e-9)) ** 2) ** 2
    left = float((weights * (effect - slope * cause) ** 2).sum() / max(weights.sum() - 4, 1)) + 1e-12
    return ReadoutFit(slope, float(np.sqrt(left / power)), left, power / max(weights.sum(), 1.0))
