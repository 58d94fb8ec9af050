"""Synthetic paths of shaky cameras, to train and evaluate the smoother.

A path is (n, 8), the tangents (geometry.py) of the pose of every frame, for a frame of width 2 and height 2 / ASPECT:
positions are in half frame widths. A `PathKind` is a camera motion; amplitude, speed and duration are random. Hand
shake has the spectrum measured on hand-held cameras, a power law above about 1 Hz; walking adds the steps, with twice
the frequency vertically as horizontally.
"""

from __future__ import annotations

from enum import Enum

import numpy as np
from numpy.typing import NDArray

ASPECT = 16 / 9
FOCAL_RANGE = (1.1, 3.0)  # focal length in half frame widths: wide angle to short telephoto

Array = NDArray[np.float64]


class PathKind(Enum):
    """Kind of camera motion."""

    HAND = "hand"
    WALK = "walk"
    PAN = "pan"
    ZOOM = "zoom"
    WANDER = "wander"
    JOLT = "jolt"
    TRIPOD = "tripod"


def camera_path(rng: np.random.Generator, kind: PathKind, frames: int, fps: float) -> Array:
    """Return one path (frames, 8) that starts at zero.

    The same generator state gives the same path.
    """
    t = np.arange(frames) / fps
    amount = log_uniform(rng, 0.004, 0.05)  # RMS of the shake in half frame widths
    if kind is PathKind.TRIPOD:
        amount *= 0.02
    yaw, pitch, roll, zoom = (hand_tremor(rng, frames, fps) for _ in range(4))
    moves = np.stack([yaw, pitch * rng.uniform(0.6, 1.2), roll * rng.uniform(0.2, 0.9), zoom * 0.1], axis=-1)
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
    # Yaw and pitch by an angle a move the frame by focal * a and tilt it by a / focal: perspective = shift / focal^2.
    path[:, 6:] = moves[:, :2] / rng.uniform(*FOCAL_RANGE) ** 2
    path += rng.standard_normal(path.shape) * log_uniform(rng, 1e-5, 4e-4)  # measurement noise
    return path - path[0]


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number from [low, high) whose logarithm is uniform."""
    return float(np.exp(rng.uniform(float(np.log(low)), float(np.log(high)))))


def camera_paths(rng: np.random.Generator, count: int, frames: int, fps: float) -> Array:
    """Return paths (count, frames, 8) of all kinds in turn.

    The first kind is random.
    """
    kinds, first = list(PathKind), int(rng.integers(len(PathKind)))
    return np.stack([camera_path(rng, kinds[(first + i) % len(kinds)], frames, fps) for i in range(count)])


# ---- components: of unit RMS, or in half frame widths ----


def hand_tremor(rng: np.random.Generator, frames: int, fps: float) -> Array:
    """Return the tremor of a hand (frames,), of unit RMS.

    Its amplitude spectrum is a power law, f^-0.5 to f^-1.6.
    """
    padded = 2 * frames  # cut in half below, because the noise of the inverse transform is periodic
    hertz = np.fft.rfftfreq(padded, 1 / fps)
    power, low, high = rng.uniform(0.5, 1.6), rng.uniform(0.3, 1.2), rng.uniform(6, 12)
    spectrum = (hertz > 0) / np.maximum(hertz, low) ** power / (1 + (hertz / high) ** 4)
    noise = rng.standard_normal((2, len(hertz)))
    wave = np.fft.irfft(spectrum * (noise[0] + 1j * noise[1]), padded)
    return wave[:frames] / wave.std()


def walking_bounce(rng: np.random.Generator, t: Array) -> Array:
    """Return the motion of a walk (n, 4).

    Vertical with each step, sideways and roll with every other.
    """
    hertz = rng.uniform(1.4, 2.4)
    drift = np.cumsum(rng.standard_normal(len(t))) * 0.03
    phase = 2 * np.pi * hertz * t + drift + rng.uniform(0, 6.3)
    bounce = np.sin(phase) + 0.3 * np.sin(2 * phase + rng.uniform(0, 6.3))
    sway = np.sin(phase / 2 + rng.uniform(0, 6.3))
    return np.stack([0.7 * sway, bounce, 0.4 * sway, 0.05 * bounce], axis=-1)


def shake_envelope(rng: np.random.Generator, t: Array) -> Array:
    """Return a slowly varying factor (n,), around 1, for the shake."""
    noise = hand_tremor(rng, len(t), len(t) / max(t[-1], 1e-9) if len(t) > 1 else 1.0)
    slow = np.convolve(noise, np.ones(min(25, len(t))) / min(25, len(t)), mode="same")
    return np.exp(rng.uniform(0, 1.0) * slow)


def pan(rng: np.random.Generator, t: Array, max_speed: float = 1.2) -> Array:
    """Return positions (n, 1) of pans at constant speeds, with pauses.

    max_speed: in half frame widths per second.
    """
    stops = np.sort(rng.uniform(0, t[-1] if len(t) else 0, int(rng.integers(1, 5))))
    speeds = rng.uniform(-max_speed, max_speed, len(stops) + 1) * (rng.random(len(stops) + 1) < 0.6)
    speed = speeds[np.searchsorted(stops, t)]
    ease = max(1, round(rng.uniform(0.1, 0.7) * _sample_rate(t)))
    speed = np.convolve(np.pad(speed, (ease, ease), mode="edge"), np.ones(ease) / ease, mode="same")[ease:-ease]
    return np.cumsum(speed)[:, None] / _sample_rate(t)


def wander(rng: np.random.Generator, t: Array) -> Array:
    """Return positions (n, 3) of slow, aimless motion."""
    hertz = rng.uniform(0.05, 0.35, (3, 3))
    waves = np.sin(2 * np.pi * (hertz[..., None] * t + rng.random((3, 3, 1))))
    return (rng.uniform(0.02, 0.3) * waves.sum(axis=1)).T


def jolts(rng: np.random.Generator, t: Array) -> Array:
    """Return one to three jolts (n, 4), which decay as damped oscillations."""
    moves = np.zeros((len(t), 4))
    for start in rng.uniform(0, t[-1] if len(t) else 0, int(rng.integers(1, 4))):
        elapsed = np.maximum(t - start, 0)
        oscillation = np.sin(2 * np.pi * rng.uniform(1.5, 5) * elapsed) * np.exp(-elapsed * rng.uniform(2, 8))
        moves += oscillation[:, None] * rng.uniform(-0.15, 0.15, 4) * [1, 1, 0.4, 0.1]
    return moves


def _sample_rate(t: Array) -> float:
    return 1 / (t[1] - t[0]) if len(t) > 1 else 1.0
