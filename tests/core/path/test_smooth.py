from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from footage import shake
from steadyscale.core import geometry
from steadyscale.core.clip import ClipError, ClipInfo
from steadyscale.core.path.axes import Strength
from steadyscale.core.path.smooth import Smoothing, gaussian, kalman, smooth, whittaker
from steadyscale.core.path.trajectory import Trajectory, correction

LOOKING_BACK_AND_AHEAD = [Smoothing.KALMAN, Smoothing.GAUSSIAN, Smoothing.WHITTAKER]
OURS = [method for method in Smoothing if method is not Smoothing.LEARNED]
MOVING = [*LOOKING_BACK_AND_AHEAD, Smoothing.KALMAN_CAUSAL]


def trajectory(path, fps=25, shots=None):
    path = np.asarray(path, dtype=float)
    info = ClipInfo(640, 360, Fraction(fps), len(path))
    return Trajectory(geometry.to_matrices(path), shots or [slice(0, len(path))], info)


def swing(hertz, fps=25, seconds=20, amplitude=10.0):
    t = np.arange(int(seconds * fps)) / fps
    path = np.zeros((len(t), 4))
    path[:, 0] = amplitude * np.sin(2 * np.pi * hertz * t)
    return path


def left_over(path, fps=25, **settings):
    """The share of a swing that is left in the middle of the clip."""
    smoothed = smooth(trajectory(path, fps), **settings).path
    middle = slice(len(path) // 3, 2 * len(path) // 3)
    return np.abs(smoothed[middle, 0]).max() / np.abs(path[middle, 0]).max()


@pytest.mark.parametrize("method", LOOKING_BACK_AND_AHEAD)
@pytest.mark.parametrize("fps", [24, 60])
def test_half_of_a_swing_of_the_given_period_is_left_at_any_frame_rate(method, fps):
    assert abs(left_over(swing(0.5, fps), fps, method=method, seconds=2.0) - 0.5) < 0.03
    assert left_over(swing(3.0, fps), fps, method=method, seconds=2.0) < 0.01
    assert left_over(swing(0.1, fps), fps, method=method, seconds=2.0) > 0.95


def test_the_causal_filter_removes_shake_too_and_ignores_the_future():
    path = swing(3.0)
    assert left_over(path, method=Smoothing.KALMAN_CAUSAL, seconds=2.0) < 0.3
    changed = path.copy()
    changed[300:, :2] += 50
    before = smooth(trajectory(path), Smoothing.KALMAN_CAUSAL).path[:300]
    assert np.array_equal(before, smooth(trajectory(changed), Smoothing.KALMAN_CAUSAL).path[:300])


@pytest.mark.parametrize("method", LOOKING_BACK_AND_AHEAD)
def test_a_steady_pan_is_kept_to_its_very_ends(method):
    pan = np.outer(np.arange(80), [2.0, -1.0, 0.01, 0.002])
    assert np.allclose(smooth(trajectory(pan), method).path, pan, atol=0.05)


@pytest.mark.parametrize("method", OURS)
def test_shots_do_not_know_of_each_other(method):
    path = swing(1.0, seconds=4)
    far = path.copy()
    far[50:, :2] += 1000
    shots = [slice(0, 50), slice(50, 100)]
    a = smooth(trajectory(path, shots=shots), method).path
    b = smooth(trajectory(far, shots=shots), method).path
    assert np.allclose(a[:50], b[:50])
    assert np.allclose(a[50:] + np.array([1000, 1000, 0, 0]), b[50:])


def test_locked_holds_the_reference_or_the_middle_of_its_shot():
    path = swing(1.0, seconds=4)
    shots = [slice(0, 60), slice(60, 100)]
    held = smooth(trajectory(path, shots=shots), Smoothing.LOCKED, reference=10).path
    assert np.allclose(held[:60], path[10])
    assert np.abs(held[60:] - np.median(path[60:], axis=0)).max() < 1
    assert (held[60:] == held[60]).all()


def test_the_reference_counts_in_the_shot_that_it_is_in_and_for_locking_only():
    path = swing(1.0, seconds=4)
    shots = [slice(0, 60), slice(60, 100)]
    held = smooth(trajectory(path, shots=shots), Smoothing.LOCKED, reference=75).path
    assert np.allclose(held[60:], path[75])
    assert np.allclose(held[:60], smooth(trajectory(path, shots=shots), Smoothing.LOCKED).path[:60])
    free = smooth(trajectory(path, shots=shots))
    assert np.array_equal(smooth(trajectory(path, shots=shots), reference=75).poses, free.poses)


@pytest.mark.parametrize("length", [3, 4, 7, 60])
def test_whittaker_is_the_least_of_its_cost(length):
    path = np.random.default_rng(length).normal(size=(length, 2))
    second = np.diff(np.eye(length), 2, axis=0)
    stiffness = (2 * np.sin(np.pi / 20)) ** -4
    best = np.linalg.solve(np.eye(length) + stiffness * second.T @ second, path)
    assert np.allclose(whittaker(path, 20), best, atol=1e-9)


def test_whittaker_keeps_its_digits_over_hours():
    line = np.outer(np.arange(5000.0), [1, -2])
    assert np.allclose(whittaker(line, 36000), line, atol=1e-6)


@pytest.mark.parametrize("method", MOVING)
def test_poses_are_smoothed_as_they_are_and_not_number_by_number(method):
    """Filmed upside down and from anywhere, the same shake is corrected in the same way."""
    path = swing(1.0, seconds=4)
    path[:, 1:] = swing(1.7, seconds=4)[:, :1] * [1, 0.01, 0.005]
    here = trajectory(path)
    elsewhere = geometry.to_matrices(np.array([3000.0, -200, 2.5, 0.3]))
    there = replace(here, poses=elsewhere @ here.poses)
    fixes = [correction(t, smooth(t, method)).matrices for t in (here, there)]
    assert np.allclose(*fixes, atol=1e-6)


def test_perspective_is_smoothed_too():
    tangents = np.zeros((200, 8))
    tangents[:, 6] = 1e-4 * np.sin(np.arange(200))
    shaky = replace(trajectory(np.zeros((200, 4))), poses=geometry.to_matrices_of(tangents))
    assert np.abs(geometry.to_tangents(smooth(shaky).poses)[60:-60, 6]).max() < 2e-6


@pytest.mark.parametrize("method", OURS)
@pytest.mark.parametrize("length", [1, 2, 3])
def test_short_shots(method, length):
    path = swing(2.0)[:length]
    smoothed = smooth(trajectory(path), method).path
    assert smoothed.shape == (length, 4)
    assert np.isfinite(smoothed).all()


def test_a_turn_of_the_camera_is_continuous():
    turn = np.zeros((500, 4))
    turn[:, 2] = np.linspace(0, 4 * np.pi, 500)
    path = trajectory(turn).path
    assert np.allclose(path[:, 2], turn[:, 2])
    assert np.allclose(smooth(trajectory(turn), seconds=3.0).path[:, 2], turn[:, 2], atol=0.01)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ClipError, match="above 0"):
        smooth(trajectory(swing(1)), seconds=0)
    with pytest.raises(ClipError, match="0 to 499"):
        smooth(trajectory(swing(1)), Smoothing.LOCKED, reference=500)


@pytest.mark.parametrize("function", [kalman, gaussian])
def test_a_function_smooths_as_the_method_of_its_name_does(function):
    path = shake(150, pixels=10) + np.outer(np.arange(150), [3.0, 1, 0, 0])
    elsewhere = geometry.to_matrices(np.array([3000.0, -200, 2.5, 0.3]))
    measured = replace(trajectory(path), poses=elsewhere @ geometry.to_matrices(path))
    by_name, by_function = smooth(measured, Smoothing(function.__name__)), smooth(measured, function)
    apart = geometry.to_parameters(np.linalg.inv(by_name.poses) @ by_function.poses)
    assert np.abs(apart[:, :2]).max() < 0.2
    assert np.abs(apart[:, 2:]).max() < 2e-4


def test_a_function_need_not_be_linear_and_sees_the_path_of_each_shot():
    path = np.zeros((90, 4))
    path[:, 0] = 4.0 * np.arange(90)
    path[20, 1] = 30
    seen = []

    def median_of_five(values, period):
        seen.append(values)
        assert period == 4.0 * 25
        around = np.lib.stride_tricks.sliding_window_view(np.pad(values, ((2, 2), (0, 0)), mode="edge"), 5, axis=0)
        return np.median(around, axis=-1)

    shots = [slice(0, 40), slice(40, 90)]
    after = smooth(trajectory(path, shots=shots), median_of_five).path
    assert [len(values) for values in seen] == [40, 40, 50, 50]
    assert np.allclose(np.diff(seen[0][:, 0]), 4, atol=0.01), "the pan, as it is"
    assert np.abs(after[:, 1]).max() < 1e-6, "a mean would have left some of the jump"
    assert np.allclose(after[2:38, 0], path[2:38, 0])


def test_a_function_may_hold_one_view_or_do_nothing():
    path = shake(120, pixels=10) + np.outer(np.arange(120), [2.0, 0, 0.003, 0])
    held = smooth(trajectory(path), lambda values, period: np.tile(values[30], (len(values), 1)))
    assert np.abs(held.path - path[30]).max() < 0.01
    same = smooth(trajectory(path), lambda values, period: values)
    assert np.allclose(same.path, path, atol=1e-9)


@pytest.mark.parametrize("zoom", [400.0, 1e5])
def test_a_function_that_leaves_nothing_of_the_picture_is_refused(zoom):
    with pytest.raises(ClipError, match="no picture is left"):
        smooth(trajectory(shake(50)), lambda values, period: values + zoom * np.eye(8)[3])


def test_a_function_that_returns_something_else_is_refused():
    with pytest.raises(ClipError, match=r"\(50, 8\).*\(50, 4\)"):
        smooth(trajectory(shake(50)), lambda values, period: values[:, :4])
    with pytest.raises(ClipError, match="not finite"):
        smooth(trajectory(shake(50)), lambda values, period: values * np.nan)


def test_the_learned_smoother_without_its_network_says_what_to_pass():
    with pytest.raises(ClipError, match=r"load_path_smoother\(\)\.smoother"):
        smooth(trajectory(shake(50)), Smoothing.LEARNED)


def test_strength_and_horizon_reach_the_path():
    measured = trajectory(shake(100))
    assert np.array_equal(smooth(measured, strength=Strength(), horizon=0).poses, smooth(measured).poses)
    assert np.array_equal(smooth(measured, strength=Strength(0, 0, 0, 0, 0)).poses, measured.poses)
    level = smooth(measured, horizon=1.0).path
    assert np.allclose(level[:, 2], np.median(measured.path[:, 2]))
    by_frame = smooth(measured, horizon=1.0, reference=7).path
    assert np.allclose(by_frame[:, 2], measured.path[7, 2])
