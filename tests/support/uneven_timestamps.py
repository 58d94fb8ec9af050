"""Clips with uneven timestamps: their times, and motion along a path in time."""

from fractions import Fraction

import numpy as np
from steadyscale.core import geometry
from steadyscale.core.clip import ClipInfo
from steadyscale.core.motion.frame_times import uneven_times
from steadyscale.core.path.motion import Motion

WIDTH, HEIGHT = 640, 360


def _steps(duration):
    """Milliseconds between frames, by pattern, for about that many seconds."""
    count, rng = int(duration * 30), np.random.default_rng(1)
    dropped, gap = np.full(count, 33.0), np.full(count - 14, 33.0)
    dropped[::10], gap[count // 2] = 67, 500
    return {
        "alternating": np.resize([20.0, 60.0], int(duration * 25)),
        "telecine": np.resize([33.0, 33.0, 50.0], int(duration * 1000 / 38.67)),
        "random": np.round(rng.uniform(28, 40, int(duration * 1000 / 34))),
        "dropped frames": dropped[: int(count * 33 / 36.4)],
        "gap": gap,
        "drift": np.round(1000 / np.linspace(30, 24, int(duration * 27))),
    }


PATTERNS = tuple(_steps(1.0))


def pattern_times(name, duration=3.0):
    """Timestamps in seconds, whole milliseconds, from 0 on."""
    return np.append(0.0, np.cumsum(_steps(duration)[name])) / 1000


def motion_at(times, x_of, y_of=lambda t: 0 * t):
    """Motion of a camera at position x_of(t), y_of(t), measured without error at these times."""
    parameters = np.zeros((len(times), 4))
    parameters[:, 0], parameters[:, 1] = x_of(times), y_of(times)
    poses = geometry.matrices_from_parameters(parameters)
    steps = np.concatenate([np.eye(3)[None], geometry.inverse(poses[1:]) @ poses[:-1]])
    fps = Fraction((len(times) - 1) / float(times[-1])).limit_denominator(1001)
    info = ClipInfo(WIDTH, HEIGHT, fps, len(times))
    return Motion(steps, np.append(0.0, np.ones(len(times) - 1)), info, times=uneven_times(times, fps, 0.001))


def judder(times, positions):
    """RMS distance of the positions (n,) from a smooth curve in time."""
    curve = np.polynomial.Chebyshev.fit(times, positions, 6)
    return float(np.sqrt(np.mean((curve(times) - positions) ** 2)))
