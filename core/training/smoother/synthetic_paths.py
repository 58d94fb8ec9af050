"""Paths of shaking cameras, made from numbers alone: what the smoother learns from, and what it is judged by.

A path is (n, 8), the tangents (geometry.py) of every frame's pose for a frame that is two wide and 2 / ASPECT high:
places are in half widths of the frame. A `Kind` of path is what somebody does with a camera; how strongly, how fast
and for how long is drawn. Hand shake has the spectrum that measurements of held cameras show: it falls with some power
of the frequency from about one hertz on, and walking adds the steps, twice as fast up and down as sideways.
"""

from __future__ import annotations

from enum import Enum

import numpy as np
from numpy.typing import NDArray

ASPECT = 16 / 9
FOCAL_RANGE = (1.1, 3.0)  # of the lens, in half widths of the frame: from wide angle to a short telephoto

Array = NDArray[np.float64]


class PathKind(Enum):
    HAND = "hand"
    WALK = "walk"
    PAN = "pan"
    ZOOM = "zoom"
    WANDER = "wander"
    JOLT = "jolt"
    TRIPOD = "tripod"


def camera_path(rng: np.random.Generator, kind: PathKind, frames: int, fps: float) -> Array:
    """(frames, 8): one path of that kind, beginning at zero. The same generator state gives the same path."""
    t = np.arange(frames) / fps
    amount = np.exp(rng.uniform(np.log(0.004), np.log(0.05)))  # root mean square of the shake in half widths
    if kind is PathKind.TRIPOD:
        amount *= 0.02
    yaw, pitch, roll, closer = (hand_tremor(rng, frames, fps) for _ in range(4))
    moves = np.stack([yaw, pitch * rng.uniform(0.6, 1.2), roll * rng.uniform(0.2, 0.9), closer * 0.1], axis=-1)
    if kind is PathKind.WALK:
        moves += rng.uniform(0.5, 2) * walking_bounce(rng, t)
    moves *= amount * shake_envelope(rng, t)[:, None]
    if kind is PathKind.PAN:
        moves[:, :2] += pan(rng, t) * np.array([1.0, rng.uniform(-0.3, 0.3)])
    if kind is PathKind.ZOOM:
        moves[:, 3] += rng.uniform(-0.4, 0.4) * pan(rng, t, max_speed=0.3)[:, 0]
        moves[:, :2] += 0.3 * pan(rng, t)
    if kind in (PathKind.WANDER, PathKind.WALK):
        moves[:, :3] += wander(rng, t) * np.array([1.0, 0.5, 0.1])
    if kind is PathKind.JOLT:
        moves += jolts(rng, t)
    path = np.zeros((frames, 8))
    path[:, :4] = moves
    # A camera that turns aside sees the frame in perspective: by 1 / focal of what moves the picture by focal.
    path[:, 6:] = moves[:, :2] / rng.uniform(*FOCAL_RANGE) ** 2
    path += rng.standard_normal(path.shape) * np.exp(rng.uniform(np.log(1e-5), np.log(4e-4)))  # of measuring
    return path - path[0]


def camera_paths(rng: np.random.Generator, count: int, frames: int, fps: float) -> Array:
    """(count, frames, 8): the kinds in turn, beginning with one that is drawn."""
    kinds, first = list(PathKind), int(rng.integers(len(PathKind)))
    return np.stack([camera_path(rng, kinds[(first + i) % len(kinds)], frames, fps) for i in range(count)])


# ---- what they are made of: each of a size about 1, or in half widths ----


def hand_tremor(rng: np.random.Generator, frames: int, fps: float) -> Array:
    """(frames,): the tremor of a hand, of unit size. Amplitude falls with the frequency's power 0.5 to 1.6."""
    longer = 2 * frames  # of which a piece is taken, for the transform's noise closes in a circle
    hertz = np.fft.rfftfreq(longer, 1 / fps)
    power, begin, end = rng.uniform(0.5, 1.6), rng.uniform(0.3, 1.2), rng.uniform(6, 12)
    shape = (hertz > 0) / np.maximum(hertz, begin) ** power / (1 + (hertz / end) ** 4)
    drawn = rng.standard_normal((2, len(hertz)))
    wave = np.fft.irfft(shape * (drawn[0] + 1j * drawn[1]), longer)
    return wave[:frames] / wave.std()


def walking_bounce(rng: np.random.Generator, t: Array) -> Array:
    """(n, 4): somebody who walks: up and down with each step, sideways and turning with every other."""
    hertz = rng.uniform(1.4, 2.4)
    uneven = np.cumsum(rng.standard_normal(len(t))) * 0.03
    phase = 2 * np.pi * hertz * t + uneven + rng.uniform(0, 6.3)
    bounce = np.sin(phase) + 0.3 * np.sin(2 * phase + rng.uniform(0, 6.3))
    sway = np.sin(phase / 2 + rng.uniform(0, 6.3))
    return np.stack([0.7 * sway, bounce, 0.4 * sway, 0.05 * bounce], axis=-1)


def shake_envelope(rng: np.random.Generator, t: Array) -> Array:
    """(n,): how the shake swells and fades, about 1."""
    swell = hand_tremor(rng, len(t), len(t) / max(t[-1], 1e-9) if len(t) > 1 else 1.0)
    slow = np.convolve(swell, np.ones(min(25, len(t))) / min(25, len(t)), mode="same")
    return np.exp(rng.uniform(0, 1.0) * slow)


def pan(rng: np.random.Generator, t: Array, max_speed: float = 1.2) -> Array:
    """(n, 1) place: the camera turns on, stops, turns back; evenly in between, at up to `most` half widths a second."""
    stops = np.sort(rng.uniform(0, t[-1] if len(t) else 0, int(rng.integers(1, 5))))
    speeds = rng.uniform(-max_speed, max_speed, len(stops) + 1) * (rng.random(len(stops) + 1) < 0.6)
    speed = speeds[np.searchsorted(stops, t)]
    ease = max(1, round(rng.uniform(0.1, 0.7) * _sample_rate(t)))
    speed = np.convolve(np.pad(speed, (ease, ease), mode="edge"), np.ones(ease) / ease, mode="same")[ease:-ease]
    return np.cumsum(speed)[:, None] / _sample_rate(t)


def wander(rng: np.random.Generator, t: Array) -> Array:
    """(n, 3) place: looking around slowly and without a plan."""
    hertz = rng.uniform(0.05, 0.35, (3, 3))
    turns = np.sin(2 * np.pi * (hertz[..., None] * t + rng.random((3, 3, 1))))
    return (rng.uniform(0.02, 0.3) * turns.sum(axis=1)).T


def jolts(rng: np.random.Generator, t: Array) -> Array:
    """(n, 4): a knock or a few: away within two frames or so, and back with a swing."""
    moves = np.zeros((len(t), 4))
    for start in rng.uniform(0, t[-1] if len(t) else 0, int(rng.integers(1, 4))):
        since = np.maximum(t - start, 0)
        ring = np.sin(2 * np.pi * rng.uniform(1.5, 5) * since) * np.exp(-since * rng.uniform(2, 8))
        moves += ring[:, None] * rng.uniform(-0.15, 0.15, 4) * [1, 1, 0.4, 0.1]
    return moves


def _sample_rate(t: Array) -> float:
    return 1 / (t[1] - t[0]) if len(t) > 1 else 1.0
