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
FOCAL = (1.1, 3.0)  # of the lens, in half widths of the frame: from wide angle to a short telephoto

Array = NDArray[np.float64]


class Kind(Enum):
    HAND = "hand"
    WALK = "walk"
    PAN = "pan"
    ZOOM = "zoom"
    WANDER = "wander"
    JOLT = "jolt"
    TRIPOD = "tripod"


def camera_path(random: np.random.Generator, kind: Kind, frames: int, fps: float) -> Array:
    """(frames, 8): one path of that kind, beginning at zero. The same generator state gives the same path."""
    t = np.arange(frames) / fps
    amount = np.exp(random.uniform(np.log(0.004), np.log(0.05)))  # root mean square of the shake in half widths
    if kind is Kind.TRIPOD:
        amount *= 0.02
    yaw, pitch, roll, closer = (noise(random, frames, fps) for _ in range(4))
    moves = np.stack([yaw, pitch * random.uniform(0.6, 1.2), roll * random.uniform(0.2, 0.9), closer * 0.1], axis=-1)
    if kind is Kind.WALK:
        moves += random.uniform(0.5, 2) * steps(random, t)
    moves *= amount * loudness(random, t)[:, None]
    if kind is Kind.PAN:
        moves[:, :2] += pan(random, t) * np.array([1.0, random.uniform(-0.3, 0.3)])
    if kind is Kind.ZOOM:
        moves[:, 3] += random.uniform(-0.4, 0.4) * pan(random, t, most=0.3)[:, 0]
        moves[:, :2] += 0.3 * pan(random, t)
    if kind in (Kind.WANDER, Kind.WALK):
        moves[:, :3] += wander(random, t) * np.array([1.0, 0.5, 0.1])
    if kind is Kind.JOLT:
        moves += jolts(random, t)
    path = np.zeros((frames, 8))
    path[:, :4] = moves
    # A camera that turns aside sees the frame in perspective: by 1 / focal of what moves the picture by focal.
    path[:, 6:] = moves[:, :2] / random.uniform(*FOCAL) ** 2
    path += random.standard_normal(path.shape) * np.exp(random.uniform(np.log(1e-5), np.log(4e-4)))  # of measuring
    return path - path[0]


def camera_paths(random: np.random.Generator, count: int, frames: int, fps: float) -> Array:
    """(count, frames, 8): the kinds in turn, beginning with one that is drawn."""
    kinds, first = list(Kind), int(random.integers(len(Kind)))
    return np.stack([camera_path(random, kinds[(first + i) % len(kinds)], frames, fps) for i in range(count)])


# ---- what they are made of: each of a size about 1, or in half widths ----


def noise(random: np.random.Generator, frames: int, fps: float) -> Array:
    """(frames,): the tremor of a hand, of unit size. Amplitude falls with the frequency's power 0.5 to 1.6."""
    longer = 2 * frames  # of which a piece is taken, for the transform's noise closes in a circle
    hertz = np.fft.rfftfreq(longer, 1 / fps)
    power, begin, end = random.uniform(0.5, 1.6), random.uniform(0.3, 1.2), random.uniform(6, 12)
    shape = (hertz > 0) / np.maximum(hertz, begin) ** power / (1 + (hertz / end) ** 4)
    drawn = random.standard_normal((2, len(hertz)))
    wave = np.fft.irfft(shape * (drawn[0] + 1j * drawn[1]), longer)
    return wave[:frames] / wave.std()


def steps(random: np.random.Generator, t: Array) -> Array:
    """(n, 4): somebody who walks: up and down with each step, sideways and turning with every other."""
    hertz = random.uniform(1.4, 2.4)
    uneven = np.cumsum(random.standard_normal(len(t))) * 0.03
    phase = 2 * np.pi * hertz * t + uneven + random.uniform(0, 6.3)
    bounce = np.sin(phase) + 0.3 * np.sin(2 * phase + random.uniform(0, 6.3))
    sway = np.sin(phase / 2 + random.uniform(0, 6.3))
    return np.stack([0.7 * sway, bounce, 0.4 * sway, 0.05 * bounce], axis=-1)


def loudness(random: np.random.Generator, t: Array) -> Array:
    """(n,): how the shake swells and fades, about 1."""
    swell = noise(random, len(t), len(t) / max(t[-1], 1e-9) if len(t) > 1 else 1.0)
    slow = np.convolve(swell, np.ones(min(25, len(t))) / min(25, len(t)), mode="same")
    return np.exp(random.uniform(0, 1.0) * slow)


def pan(random: np.random.Generator, t: Array, most: float = 1.2) -> Array:
    """(n, 1) place: the camera turns on, stops, turns back; evenly in between, at up to `most` half widths a second."""
    stops = np.sort(random.uniform(0, t[-1] if len(t) else 0, int(random.integers(1, 5))))
    speeds = random.uniform(-most, most, len(stops) + 1) * (random.random(len(stops) + 1) < 0.6)
    speed = speeds[np.searchsorted(stops, t)]
    ease = max(1, round(random.uniform(0.1, 0.7) * _rate(t)))
    speed = np.convolve(np.pad(speed, (ease, ease), mode="edge"), np.ones(ease) / ease, mode="same")[ease:-ease]
    return np.cumsum(speed)[:, None] / _rate(t)


def wander(random: np.random.Generator, t: Array) -> Array:
    """(n, 3) place: looking around slowly and without a plan."""
    hertz = random.uniform(0.05, 0.35, (3, 3))
    turns = np.sin(2 * np.pi * (hertz[..., None] * t + random.random((3, 3, 1))))
    return (random.uniform(0.02, 0.3) * turns.sum(axis=1)).T


def jolts(random: np.random.Generator, t: Array) -> Array:
    """(n, 4): a knock or a few: away within two frames or so, and back with a swing."""
    moves = np.zeros((len(t), 4))
    for start in random.uniform(0, t[-1] if len(t) else 0, int(random.integers(1, 4))):
        since = np.maximum(t - start, 0)
        ring = np.sin(2 * np.pi * random.uniform(1.5, 5) * since) * np.exp(-since * random.uniform(2, 8))
        moves += ring[:, None] * random.uniform(-0.15, 0.15, 4) * [1, 1, 0.4, 0.1]
    return moves


def _rate(t: Array) -> float:
    return 1 / (t[1] - t[0]) if len(t) > 1 else 1.0
