from dataclasses import replace
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from camera_simulation import make_shake_path
from steadyscale.core import geometry
from steadyscale.core.clip import ClipInfo
from steadyscale.core.crop.border import Border
from steadyscale.core.path.even_time import (
    FrameClock,
    even_grid,
    frame_durations,
    interpolate_poses,
    separate,
    smooth_evenly,
    uneven_times,
)
from steadyscale.core.path.trajectory import Trajectory
from steadyscale.core.smoothing.smooth import Smoothing, smooth
from steadyscale.core.stabilize import StabilizeSettings, correct_motion
from steadyscale.models import load_path_smoother
from uneven_timestamps import PATTERNS, judder, motion_at, pattern_times

MOVING = [method for method in Smoothing if method is not Smoothing.LOCKED]
RECORDED_SUMS = {
    "kalman": 67.683866659211,
    "kalman-causal": 36.816621933937,
    "gaussian": 58.58773369666,
    "whittaker": 66.866891162438,
}
SHAKE_HERTZ, SHAKE_PIXELS = 3.0, 5.0
# The crop of a shaken clip takes three times as long as the smoothers: it is computed for some of them.
CROPPED = (Smoothing.KALMAN, Smoothing.GAUSSIAN, Smoothing.L1)
BORDERS = {method: Border.CROP if method in CROPPED else Border.MIRROR for method in MOVING}


# L1 solves for the frames themselves, the others run on one even grid: all patterns with one smoother of either kind,
# and two patterns with each of the others.
PAIRS = [
    (method, pattern)
    for number, method in enumerate(MOVING)
    for place, pattern in enumerate(PATTERNS)
    if method in (Smoothing.KALMAN, Smoothing.L1) or (place - number) % len(PATTERNS) in (0, 3)
]
learned_smoother = cache(load_path_smoother)


def stabilized(motion, method, **settings):
    """Horizontal positions of the stabilized frames."""
    settings = StabilizeSettings(smoothing=method, seconds=1.0, **settings)
    fix = correct_motion(motion, settings, load_smoother=learned_smoother().make_smoother)
    return Trajectory.of(motion).corrected(fix).path[:, 0]


def even_pan(t):
    return 150 * t


def shaky_pan(t):
    return even_pan(t) + SHAKE_PIXELS * np.sin(2 * np.pi * SHAKE_HERTZ * t)


def ramp(t):
    """A pan whose speed goes from 20 to 180 px/s and back to 60."""
    return 20 * t + 50 * np.clip(t - 0.5, 0, None) ** 2 - 110 * np.clip(t - 2.1, 0, None) ** 2


# ---- which timestamps are even ----


@pytest.mark.parametrize("fps", [24, Fraction(24000, 1001), 25, Fraction(30000, 1001), 60])
@pytest.mark.parametrize("rounding", [np.round, np.floor, np.ceil])
def test_a_constant_rate_in_milliseconds_is_constant(fps, rounding):
    seconds = rounding(np.arange(1000) * 1000 / float(fps)) / 1000 + 12.5
    assert uneven_times(seconds, fps, 0.001) is None


@pytest.mark.parametrize("pattern", PATTERNS)
def test_uneven_timestamps_are_returned_from_the_first_on(pattern):
    times = pattern_times(pattern)
    assert np.allclose(uneven_times(times + 3.0, (len(times) - 1) / times[-1], 0.001), times)


def test_timestamps_two_ticks_off_are_uneven_and_one_tick_off_are_not():
    seconds = np.arange(100) * 0.04
    seconds[50] += 0.001
    assert uneven_times(seconds, 25, 0.001) is None
    seconds[50] += 0.0011
    assert uneven_times(seconds, 25, 0.001) is not None


def test_even_timestamps_of_another_rate_than_the_clip_are_kept():
    assert uneven_times(np.arange(50) / 25, 30, 0.001) is not None
    assert uneven_times(np.arange(50) / 25, 25, 0.001) is None


def test_few_frames_are_even():
    assert uneven_times(np.array([]), 25, 0.001) is None
    assert uneven_times(np.array([3.0]), 25, 0.001) is None


# ---- the smoothers ----


@pytest.mark.parametrize(("method", "pattern"), PAIRS)
def test_even_pan_stays_even(method, pattern):
    times = pattern_times(pattern)
    motion = motion_at(times, even_pan)
    assert motion.times is not None
    assert judder(times, stabilized(motion, method, border=Border.MIRROR)) < 0.01
    if pattern == "alternating" and method is not Smoothing.L1:
        by_number = stabilized(replace(motion, times=None), method, border=Border.MIRROR)
        assert judder(times, by_number) > 0.5, "the test must be able to fail"


@cache
def remaining_shake(method, pattern):
    """Fraction of the shake that is left; pattern: None for a constant rate."""
    times = pattern_times(pattern) if pattern else np.arange(90) / 30
    found = stabilized(motion_at(times, shaky_pan), method, border=BORDERS[method])
    left = (found - even_pan(times))[15:-15]
    return float(np.std(left)) / (SHAKE_PIXELS / np.sqrt(2))


@pytest.mark.parametrize(("method", "pattern"), PAIRS)
def test_shake_in_uneven_frames_is_removed_as_in_even_ones(method, pattern):
    assert remaining_shake(method, None) < 0.6
    # The L1 path runs exactly through some frames: how much shake is left depends on their phases, at any rate.
    tolerance = 0.15 if method is Smoothing.L1 else 0.05
    assert remaining_shake(method, pattern) < 1.5 * remaining_shake(method, None) + tolerance


@cache
def change_of_ramp(method):
    """(times, displacement by the smoother) at 60 frames per second."""
    times = np.arange(181) / 60
    return times, stabilized(motion_at(times, ramp), method, border=Border.MIRROR) - ramp(times)


@pytest.mark.parametrize(("method", "pattern"), PAIRS)
def test_pan_with_changing_speed_is_smoothed_as_in_even_frames(method, pattern):
    times = pattern_times(pattern)
    found = stabilized(motion_at(times, ramp), method, border=Border.MIRROR) - ramp(times)
    middle = (times > 0.5) & (times < 2.5)
    difference = (found - np.interp(times, *change_of_ramp(method)))[middle]
    # A causal filter cannot know what the speed was in a gap.
    limit = 0.5 if (method, pattern) == (Smoothing.KALMAN_CAUSAL, "gap") else 0.1
    assert judder(times[middle], difference) < limit


@pytest.mark.parametrize("method", MOVING)
def test_uneven_times_of_a_constant_rate_give_its_results(method):
    """The interpolation on an even grid, at the times of the frames themselves, changes nothing."""
    motion = motion_at(np.arange(120) / 25, shaky_pan)
    explicit = replace(motion, times=np.arange(120) / 25 * (1 + 1e-12))
    assert motion.times is None
    border = BORDERS[method]
    assert np.allclose(
        stabilized(explicit, method, border=border), stabilized(motion, method, border=border), atol=1e-5
    )


def test_results_of_a_constant_rate_are_those_of_version_0_1():
    """Recorded before timestamps were taken into account."""
    path = make_shake_path(frames=60, seed=3)
    info = ClipInfo(640, 360, Fraction(25), len(path))
    measured = Trajectory(geometry.matrices_from_parameters(path), [slice(0, 60)], info)
    found = {method: float(smooth(measured, Smoothing(method), 1.0).path[::7, :3].sum()) for method in RECORDED_SUMS}
    assert found == pytest.approx(RECORDED_SUMS, abs=1e-9)


# ---- the interpolation ----


def test_rotating_pan_is_interpolated_exactly():
    times = np.array([0.0, 0.4, 2.0, 2.3, 5.0, 6.1])
    at = np.array([0.0, 0.2, 1.0, 2.3, 4.9, 6.1])
    parameters = np.array([3.0, -2.0, 0.1, 0.0])
    for neighbors in (2, 4):
        found = interpolate_poses(geometry.matrices_from_parameters(np.outer(times, parameters)), times, at, neighbors)
        assert np.allclose(geometry.to_parameters(found), np.outer(at, parameters), atol=1e-12)


def test_a_gap_longer_than_the_period_separates_the_filter():
    times = np.append(np.arange(20) * 1.1, 500 + np.arange(20) * 1.1)
    sizes = []

    def keep(poses, period):
        sizes.append(len(poses))
        return poses

    smooth_evenly(np.tile(np.eye(3), (40, 1, 1)), times, 100.0, keep)
    assert sizes == [20, 20]


def test_the_grid_is_bounded_whatever_the_timestamps():
    times = np.append(np.arange(50) * 1e-4, 1e6)
    assert len(even_grid(times)) <= 4 * len(times) + 1
    assert len(even_grid(np.array([0.0, 3.0]))) == 2


def test_durations_and_separation():
    assert frame_durations(np.array([0.0, 1.0, 4.0])).tolist() == [1.0, 2.0, 3.0]
    assert frame_durations(np.arange(4.0)).tolist() == [1.0] * 4
    assert frame_durations(np.zeros(1)).tolist() == [1.0]
    assert np.allclose(separate(np.array([0.0, 1e-6, 1.0])), [0.0, 0.05, 1.049999])


# ---- streams ----


def test_clock_of_a_constant_rate_is_exactly_one():
    clock = FrameClock(Fraction(30000, 1001), 0.001)
    assert all(clock.elapsed(round(i * 1001 / 30) / 1000) == 1.0 for i in range(2000))


def test_clock_measures_gaps_and_passes_over_missing_timestamps():
    clock = FrameClock(25, 0.001)
    assert [round(clock.elapsed(t), 9) for t in (5.0, 5.04, 5.12, None, 5.16, 5.26, 1.0, 1.04)] == [
        1.0, 1.0, 2.0, 1.0, 1.0, 2.5, 1.0, 1.0
    ]  # fmt: skip
