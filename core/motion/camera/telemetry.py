"""Read gyroscope and accelerometer in a video file, and fuse them with the motion.

Cameras that record it (GoPro, Sony, Insta360, DJI and others, and files with a CAMM track) are read by the package
telemetry-parser. When its samples were taken relative to the frames, how its axes lie in the camera, and how many
pixels an angle is, follow from the correlation with the motion of the frames. Where that is too low, the gyroscope is
not used.
"""

from __future__ import annotations

import importlib
import logging
from dataclasses import replace
from enum import Enum
from itertools import permutations, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ... import geometry
from ...clip import Clip
from ...path.motion import Motion
from ...path.ray_camera import RayCamera, rotation_vectors, rotations_from_vectors
from ...path.rolling_shutter import shutter_distortion
from ...path.trajectory import is_reliable
from ...video.decode.video_clip import VideoClip
from .gravity import gravity_rolls
from .robust_slope import fit_slope

log = logging.getLogger(__name__)

Array = NDArray[np.float64]

MAX_OFFSET = 1.0  # seconds between the clocks of gyroscope and frames
MIN_STEPS = 30  # fewer do not tell which axis is which
MIN_CORRELATION = 0.5  # over all axes, weighted by their motion; noise alone correlates by 0.2
MIN_OVERLAP = 0.5  # of the steps, between the first and the last sample
NO_OVERLAP = -1.0  # in place of a correlation
MIN_LEVEL_COVERAGE = 0.98  # of the frames; with less, gravity would be held for long at the ends
MAX_SCALE_ERROR = 0.25  # of the roll, and with a lens of the other axes: they need no focal length
EXACT_PIXELS = 0.3  # deviation of the frames from the gyroscope: below, their motion is the more exact of the two
MAX_SIGMAS = 5.0  # of that deviation; a step beyond is taken from the gyroscope


class Telemetry(str, Enum):
    """Whether the gyroscope in a file is used."""

    OFF = "off"
    AUTO = "auto"


class Gyro(NamedTuple):
    """Samples of a gyroscope, and of the accelerometer beside it.

    times: (M,), in seconds from the first frame, about. rates: (M, 3), in radians per second, about any three axes.
    accelerations: (M, 3), along the same axes, in meters per square second; None without an accelerometer.
    """

    times: Array
    rates: Array
    accelerations: Array | None = None


def read_gyro(path: str | Path) -> Gyro | str:
    """Read the gyroscope of a file, or return why there is none."""
    try:
        parser: Any = importlib.import_module("telemetry_parser")
    except ImportError:
        return "telemetry needs the package telemetry-parser: pip install 'steadyscale[telemetry]'"
    try:
        samples: list[dict[str, Any]] = parser.Parser(str(path)).normalized_imu()
    except Exception as error:  # the package raises no class of its own
        return f"no telemetry was read ({error})"
    samples = [sample for sample in samples if sample.get("gyro")]
    if len(samples) < 2:
        return "the file holds no gyroscope"
    times = np.array([sample["timestamp_ms"] for sample in samples], np.float64) / 1000
    rates = np.radians(np.array([sample["gyro"] for sample in samples], np.float64))
    order = np.argsort(times, kind="stable")
    return Gyro(times[order], rates[order], _read_accelerations(samples, order))


def _read_accelerations(samples: list[dict[str, Any]], order: NDArray[np.intp]) -> Array | None:
    """The accelerations of the samples in their order, missing ones interpolated.

    None where most are missing.
    """
    table = np.array([sample.get("accl") or [np.nan] * 3 for sample in samples], np.float64)[order]
    known = np.isfinite(table).all(axis=1)
    if known.mean() < 0.5:
        return None
    numbers = np.arange(len(table), dtype=np.float64)
    columns: list[Array] = [np.interp(numbers, numbers[known], column[known]) for column in table.T]
    return np.stack(columns, axis=-1)


def gyro_of(clip: Clip) -> Gyro | str:
    """The gyroscope of a clip, or why there is none."""
    if not isinstance(clip, VideoClip):
        return "only a video file holds telemetry"
    if clip.window is not None:
        return "telemetry is not read of a part of a file"
    return read_gyro(clip.path)


class _Match(NamedTuple):
    """How a gyroscope fits the motion of frames.

    offset: in seconds, what is added to the time of a frame. axes: (3, 3), from its axes to the camera's. by_axis:
    (3,), the correlation about each axis of the camera.
    """

    correlation: float
    offset: float
    axes: Array
    by_axis: Array


def fuse_gyro(motion: Motion, gyro: Gyro | str) -> Motion:
    """Return the motion with steps of the gyroscope where they are better.

    gyro: its samples, or the reason why there are none, in words. `telemetry` of the result says what was done. Cuts
    are those of the frames. Where their motion agrees closely with the gyroscope, only its outliers are replaced; else
    all steps are. Steps outside of the samples stay. `level` of the result is that of gravity, where an accelerometer
    shows it.
    """
    if isinstance(gyro, str):
        return replace(motion, telemetry=f"off: {gyro}")
    camera = None if motion.lens is None else RayCamera(motion.lens, motion.info.width)
    reliable = is_reliable(motion.confidence, motion.steps)
    if reliable.sum() < MIN_STEPS:
        return replace(motion, telemetry=f"off: {int(reliable.sum())} steps are too few to compare")
    views = geometry.inverse(np.where(reliable[:, None, None], motion.steps, np.eye(3)))
    times = motion.frame_times / float(motion.info.fps)
    seen, weights = _turns_of_views(views, camera, motion)
    match = _match(seen, weights, reliable, times, gyro)
    if match.correlation == NO_OVERLAP:
        return replace(motion, telemetry=f"off: its samples cover less than {MIN_OVERLAP:.0%} of the frames")
    if match.correlation < MIN_CORRELATION:
        return replace(motion, telemetry=f"off: it correlates with the frames by {match.correlation:.2f}")
    turns = _integrate(gyro, times + match.offset) @ match.axes.T
    covered = _covers(gyro, times + match.offset)
    known = reliable & covered
    tilt = fit_slope(turns[known, :2].ravel(), seen[known, :2].ravel()).value
    roll = fit_slope(turns[known, 2], seen[known, 2]).value
    focal = camera.focal if camera is not None else tilt
    moves_roll = np.square(turns[known, 2]).mean() > 0.1 * np.square(turns[known]).sum(axis=1).mean()
    errors = [abs(roll - 1)] * bool(moves_roll) + [abs(tilt - 1)] * (camera is not None)
    if focal <= 0 or max(errors, default=0) > MAX_SCALE_ERROR:
        return replace(motion, telemetry=f"off: its turns are {roll:.2f} times those of the frames")
    predicted = _views_of_turns(turns, camera, focal)
    pixels = np.array([focal if camera is not None else 1.0] * 2 + [weights[2] ** 0.5])
    expected = turns * (np.ones(3) if camera is not None else np.array([tilt, tilt, 1.0]))
    deviation = np.linalg.norm((seen - expected) * pixels, axis=1)
    typical = 1.48 * float(np.median(deviation[known]))
    is_better = ~reliable | (deviation > MAX_SIGMAS * max(typical, EXACT_PIXELS / 3))
    if typical > EXACT_PIXELS * motion.info.width / 480:
        is_better[:] = True
    is_better &= covered
    is_better[[shot.start for shot in motion.shots]] = False
    of_gyro = _with_shutter(geometry.normalize(geometry.inverse(predicted)), motion)
    steps = np.where(is_better[:, None, None], of_gyro, motion.steps)
    confidence = np.where(is_better, 1.0, motion.confidence)
    residuals = motion.residuals
    if residuals is not None:  # those of replaced steps do not belong to the new ones
        residuals = np.where(is_better[:, None, None, None], np.float32(0), residuals)
    text = f"gyroscope at {1000 * match.offset:+.0f} ms for {is_better.sum() / max(1, len(steps) - 1):.0%} of the steps"
    level = _find_level(gyro, match, turns, times, covered)
    text += f" (no level: {level})" if isinstance(level, str) else ", level by gravity"
    log.info("%s, correlation %.2f, focal length %.0f px", text, match.correlation, focal)
    level = None if isinstance(level, str) else level
    return replace(motion, steps=steps, confidence=confidence, residuals=residuals, telemetry=text, level=level)


def _find_level(gyro: Gyro, match: _Match, turns: Array, times: Array, covered: NDArray[np.bool_]) -> Array | str:
    """The roll of each frame from level, see `gravity_rolls`, or why it is not known."""
    if gyro.accelerations is None:
        return "the file holds no accelerometer"
    if covered.mean() < MIN_LEVEL_COVERAGE:
        return f"the samples cover {covered.mean():.0%} of the frames"
    if (match.by_axis > MIN_CORRELATION).sum() < 2:  # two axes give the third
        return "the camera turned about one axis only, which does not show how its sensor lies"
    at_frames: list[Array] = [np.interp(times + match.offset, gyro.times, column) for column in _per_frame(gyro, times)]
    return gravity_rolls(turns, np.stack(at_frames, axis=-1) @ match.axes.T, times)


def _per_frame(gyro: Gyro, times: Array) -> Array:
    """The accelerations (3, M), as means over the time of a frame."""
    assert gyro.accelerations is not None
    interval = float(np.median(np.diff(times)) / max(float(np.median(np.diff(gyro.times))), 1e-6))
    kernel = np.ones(max(1, min(round(interval), len(gyro.times))))
    weights = np.convolve(np.ones(len(gyro.times)), kernel, mode="same")
    return np.stack([np.convolve(column, kernel, mode="same") / weights for column in gyro.accelerations.T])


def _turns_of_views(views: geometry.Matrices, camera: RayCamera | None, motion: Motion) -> tuple[Array, Array]:
    """Return turns about x, y and z, (N, 3), and the weight of each axis.

    The weight is the squared motion in pixels of a turn by one unit. Without a camera the first two are in pixels.
    """
    corner = np.hypot(motion.info.width, motion.info.height) / 4
    if camera is not None:
        turns = rotation_vectors(camera.rotations(views)[0])
        return turns, np.array([camera.focal, camera.focal, corner]) ** 2
    x, y, roll, _ = geometry.to_parameters(views).T
    return np.stack([-y, x, roll], axis=-1), np.array([1.0, 1.0, corner**2])


def _views_of_turns(turns: Array, camera: RayCamera | None, focal: float) -> geometry.Matrices:
    rotations = rotations_from_vectors(turns)
    if camera is not None:
        return camera.views(rotations, np.ones(len(turns)))
    scale = np.diag([focal, focal, 1.0])
    return geometry.normalize(scale @ rotations @ np.diag([1 / focal, 1 / focal, 1.0]))


def _with_shutter(steps: geometry.Matrices, motion: Motion) -> geometry.Matrices:
    """Add the effect of the rolling shutter, which measured steps have."""
    if not motion.readout:
        return steps
    distorted = steps.copy()
    for shot in motion.shots:
        inner = slice(shot.start + 1, shot.stop)
        if shot.stop - shot.start > 1:
            tangents = shutter_distortion(steps[inner], motion.readout, motion.info, motion.frame_times[shot])
            if motion.lens is not None:
                tangents[:, 4:] = 0
            distorted[inner] = steps[inner] @ geometry.matrices_from_tangents(tangents)
    return geometry.normalize(distorted)


def _integrate(gyro: Gyro, times: Array) -> Array:
    """Integrate the rates from each frame to the next: (N, 3).

    In the axes of the gyroscope; the first is zero.
    """
    gaps = np.diff(gyro.times)[:, None]
    angles = np.concatenate([np.zeros((1, 3)), np.cumsum((gyro.rates[1:] + gyro.rates[:-1]) / 2 * gaps, axis=0)])
    columns: list[Array] = [np.interp(times, gyro.times, column) for column in angles.T]
    return np.diff(np.stack(columns, axis=-1), axis=0, prepend=[[column[0] for column in columns]])


def _covers(gyro: Gyro, times: Array) -> NDArray[np.bool_]:
    """(N,): whether there are samples from the frame before to each frame."""
    return (np.concatenate([times[:1], times[:-1]]) >= gyro.times[0]) & (times <= gyro.times[-1])


def _match(seen: Array, weights: Array, reliable: NDArray[np.bool_], times: Array, gyro: Gyro) -> _Match:
    """Find the offset and the axes with the highest correlation, from coarse to fine."""
    step = float(np.median(np.diff(times))) / 2
    power = weights * seen[reliable].var(axis=0)
    share = power / max(float(power.sum()), 1e-12)
    best = _Match(NO_OVERLAP, 0.0, np.eye(3), np.zeros(3))
    for offset in np.arange(-MAX_OFFSET, MAX_OFFSET + step, step):
        best = max(best, _correlate(seen, share, reliable, times, gyro, float(offset)), key=lambda m: m.correlation)
    for fine in (step / 4, step / 16):
        for k in range(-4, 5):
            offset = best.offset + k * fine
            best = max(best, _correlate(seen, share, reliable, times, gyro, offset), key=lambda m: m.correlation)
    return best


def _correlate(
    seen: Array, share: Array, reliable: NDArray[np.bool_], times: Array, gyro: Gyro, offset: float
) -> _Match:
    known = reliable & _covers(gyro, times + offset)
    if known.sum() < max(MIN_STEPS, MIN_OVERLAP * reliable.sum()):
        return _Match(NO_OVERLAP, offset, np.eye(3), np.zeros(3))
    a, b = (values[known] - values[known].mean(axis=0) for values in (seen, _integrate(gyro, times + offset)))
    norms = np.linalg.norm(a, axis=0)[:, None] * np.linalg.norm(b, axis=0)
    correlations = (a.T @ b) / np.maximum(norms, 1e-12)
    table = correlations * share[:, None]
    best = max(ORIENTATIONS, key=lambda axes: float((table * axes).sum()))
    return _Match(float((table * best).sum()), offset, best, (correlations * best).sum(axis=1))


def _orientations() -> list[Array]:
    """The 24 rotations that exchange axes."""
    found: list[Array] = []
    for order in permutations(range(3)):
        for signs in product((1.0, -1.0), repeat=3):
            axes = np.eye(3)[list(order)] * np.array(signs)[:, None]
            if np.linalg.det(axes) > 0:
                found.append(axes)
    return found


ORIENTATIONS = _orientations()
