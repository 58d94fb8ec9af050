import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from camera_simulation import make_shake_path
from steadyscale.core import geometry
from steadyscale.core.clip import ClipError, ClipInfo
from steadyscale.core.path.trajectory import Trajectory, correction
from steadyscale.core.smoothing.smooth import Smoothing, smooth
from steadyscale.core.smoothing.smoothers.gaussian import gaussian
from steadyscale.core.smoothing.smoothers.kalman import kalman
from steadyscale.core.smoothing.smoothers.whittaker import whittaker
from steadyscale.core.smoothing.strength import Strength
from steadyscale.models import PathSmoother

OURS = [method for method in Smoothing if method is not Smoothing.LEARNED]
AVERAGING = [method for method in Smoothing if method.smoother]  # a new smoother is tested without another line here
NON_CAUSAL = [method for method in AVERAGING if method is not Smoothing.KALMAN_CAUSAL]


def trajectory(path, fps=25, shots=None):
    path = np.asarray(path, dtype=float)
    info = ClipInfo(640, 360, Fraction(fps), len(path))
    return Trajectory(geometry.matrices_from_parameters(path), shots or [slice(0, len(path))], info)


def oscillation(hertz, fps=25, seconds=20, amplitude=10.0):
    t = np.arange(int(seconds * fps)) / fps
    path = np.zeros((len(t), 4))
    path[:, 0] = amplitude * np.sin(2 * np.pi * hertz * t)
    return path


def remaining(path, fps=25, **settings):
    """Fraction of an oscillation that is left in the middle of the clip."""
    smoothed = smooth(trajectory(path, fps), **settings).path
    middle = slice(len(path) // 3, 2 * len(path) // 3)
    return np.abs(smoothed[middle, 0]).max() / np.abs(path[middle, 0]).max()


@pytest.mark.parametrize("method", NON_CAUSAL)
@pytest.mark.parametrize("fps", [12, 30])
def test_oscillation_of_the_period_is_halved_at_any_frame_rate(method, fps):
    assert abs(remaining(oscillation(0.5, fps), fps, method=method, seconds=2.0) - 0.5) < 0.03
    assert remaining(oscillation(3.0, fps), fps, method=method, seconds=2.0) < 0.01
    assert remaining(oscillation(0.1, fps), fps, method=method, seconds=2.0) > 0.95


def test_causal_filter_removes_shake_and_ignores_the_future():
    path = oscillation(3.0)
    assert remaining(path, method=Smoothing.KALMAN_CAUSAL, seconds=2.0) < 0.3
    changed = path.copy()
    changed[300:, :2] += 50
    before = smooth(trajectory(path), Smoothing.KALMAN_CAUSAL).path[:300]
    assert np.array_equal(before, smooth(trajectory(changed), Smoothing.KALMAN_CAUSAL).path[:300])


@pytest.mark.parametrize("method", NON_CAUSAL)
def test_uniform_pan_is_kept_to_the_ends(method):
    pan = np.outer(np.arange(80), [2.0, -1.0, 0.01, 0.002])
    assert np.allclose(smooth(trajectory(pan), method).path, pan, atol=0.05)


@pytest.mark.parametrize("method", OURS)
def test_shots_are_independent(method):
    path = oscillation(1.0, seconds=4)
    far = path.copy()
    far[50:, :2] += 1000
    shots = [slice(0, 50), slice(50, 100)]
    a = smooth(trajectory(path, shots=shots), method).path
    b = smooth(trajectory(far, shots=shots), method).path
    assert np.allclose(a[:50], b[:50])
    assert np.allclose(a[50:] + np.array([1000, 1000, 0, 0]), b[50:])


def test_locked_keeps_the_reference_or_the_median_frame():
    path = oscillation(1.0, seconds=4)
    shots = [slice(0, 60), slice(60, 100)]
    held = smooth(trajectory(path, shots=shots), Smoothing.LOCKED, reference=10).path
    assert np.allclose(held[:60], path[10])
    assert np.abs(held[60:] - np.median(path[60:], axis=0)).max() < 1
    assert (held[60:] == held[60]).all()


def test_reference_applies_to_its_shot_and_to_locked_only():
    path = oscillation(1.0, seconds=4)
    shots = [slice(0, 60), slice(60, 100)]
    held = smooth(trajectory(path, shots=shots), Smoothing.LOCKED, reference=75).path
    assert np.allclose(held[60:], path[75])
    assert np.allclose(held[:60], smooth(trajectory(path, shots=shots), Smoothing.LOCKED).path[:60])
    free = smooth(trajectory(path, shots=shots))
    assert np.array_equal(smooth(trajectory(path, shots=shots), reference=75).poses, free.poses)


@pytest.mark.parametrize("length", [3, 4, 7, 60])
def test_whittaker_minimizes_its_cost(length):
    path = np.random.default_rng(length).normal(size=(length, 2))
    second = np.diff(np.eye(length), 2, axis=0)
    stiffness = (2 * np.sin(np.pi / 20)) ** -4
    best = np.linalg.solve(np.eye(length) + stiffness * second.T @ second, path)
    assert np.allclose(whittaker(path, 20), best, atol=1e-9)


def test_whittaker_is_precise_for_hours():
    line = np.outer(np.arange(5000.0), [1, -2])
    assert np.allclose(whittaker(line, 36000), line, atol=1e-6)


@pytest.mark.parametrize("method", AVERAGING)
def test_smoothing_does_not_depend_on_the_coordinate_system(method):
    """The same shake is corrected in the same way from any pose, upside down included."""
    path = oscillation(1.0, seconds=4)
    path[:, 1:] = oscillation(1.7, seconds=4)[:, :1] * [1, 0.01, 0.005]
    here = trajectory(path)
    elsewhere = geometry.matrices_from_parameters(np.array([3000.0, -200, 2.5, 0.3]))
    there = replace(here, poses=elsewhere @ here.poses)
    fixes = [correction(t, smooth(t, method)).matrices for t in (here, there)]
    assert np.allclose(*fixes, atol=1e-6)


def test_perspective_is_smoothed_too():
    tangents = np.zeros((200, 8))
    tangents[:, 6] = 1e-4 * np.sin(np.arange(200))
    shaky = replace(trajectory(np.zeros((200, 4))), poses=geometry.matrices_from_tangents(tangents))
    assert np.abs(geometry.to_tangents(smooth(shaky).poses)[60:-60, 6]).max() < 2e-6


@pytest.mark.parametrize("method", OURS)
@pytest.mark.parametrize("length", [1, 2, 3])
def test_short_shots(method, length):
    path = oscillation(2.0)[:length]
    smoothed = smooth(trajectory(path), method).path
    assert smoothed.shape == (length, 4)
    assert np.isfinite(smoothed).all()


def test_rotation_beyond_pi_is_continuous():
    turn = np.zeros((500, 4))
    turn[:, 2] = np.linspace(0, 4 * np.pi, 500)
    path = trajectory(turn).path
    assert np.allclose(path[:, 2], turn[:, 2])
    assert np.allclose(smooth(trajectory(turn), seconds=3.0).path[:, 2], turn[:, 2], atol=0.01)


def corner_accelerations(poses):
    """(n - 2,): the largest acceleration of a corner of the frame in the scene, in pixels per frame squared."""
    places = geometry.transform_points(poses, geometry.corners(640, 360)[None])
    return np.linalg.norm(np.diff(places, 2, axis=0), axis=-1).max(axis=-1)


ROLLS = [(method, degrees) for method in [*AVERAGING, kalman] for degrees in (180, 360, 720)]


@pytest.mark.parametrize(("method", "degrees"), ROLLS)
def test_rolls_have_any_number_of_turns(method, degrees):
    """At rest, a roll within 2 s, at rest: no smoother adds acceleration to it."""
    turn = np.zeros((110, 4))
    turn[:, 2] = np.radians(degrees) * np.clip((np.arange(110) / 25 - 1.2) / 2, 0, 1)
    measured = trajectory(turn)
    smoothed = smooth(measured, method, seconds=2.0)
    assert corner_accelerations(smoothed.poses).max() < corner_accelerations(measured.poses).max()
    assert np.abs(smoothed.path[[0, -1], 2] - turn[[0, -1], 2]).max() < 0.7


def test_invalid_settings_are_errors():
    with pytest.raises(ClipError, match="above 0"):
        smooth(trajectory(oscillation(1)), seconds=0)
    with pytest.raises(ClipError, match="0 to 499"):
        smooth(trajectory(oscillation(1)), Smoothing.LOCKED, reference=500)


@pytest.mark.parametrize("function", [kalman, gaussian])
def test_function_smooths_like_the_method_of_its_name(function):
    path = make_shake_path(150, pixels=10) + np.outer(np.arange(150), [3.0, 1, 0, 0])
    elsewhere = geometry.matrices_from_parameters(np.array([3000.0, -200, 2.5, 0.3]))
    measured = replace(trajectory(path), poses=elsewhere @ geometry.matrices_from_parameters(path))
    by_name, by_function = smooth(measured, Smoothing(function.__name__)), smooth(measured, function)
    apart = geometry.to_parameters(np.linalg.inv(by_name.poses) @ by_function.poses)
    assert np.abs(apart[:, :2]).max() < 0.2
    assert np.abs(apart[:, 2:]).max() < 2e-4


def test_function_may_be_nonlinear_and_gets_the_path_of_each_shot():
    path = np.zeros((90, 4))
    path[:, 0] = 4.0 * np.arange(90)
    path[20, 1] = 30
    calls = []

    def median_of_five(values, period):
        calls.append(values)
        assert period == 4.0 * 25
        around = np.lib.stride_tricks.sliding_window_view(np.pad(values, ((2, 2), (0, 0)), mode="edge"), 5, axis=0)
        return np.median(around, axis=-1)

    shots = [slice(0, 40), slice(40, 90)]
    after = smooth(trajectory(path, shots=shots), median_of_five).path
    assert [len(values) for values in calls] == [40, 40, 50, 50]
    assert np.allclose(np.diff(calls[0][:, 0]), 4, atol=0.01), "the unmodified pan"
    assert np.abs(after[:, 1]).max() < 1e-6, "an average would keep a part of the jump"
    assert np.allclose(after[2:38, 0], path[2:38, 0])


def test_function_may_be_constant_or_the_identity():
    path = make_shake_path(120, pixels=10) + np.outer(np.arange(120), [2.0, 0, 0.003, 0])
    held = smooth(trajectory(path), lambda values, period: np.tile(values[30], (len(values), 1)))
    assert np.abs(held.path - path[30]).max() < 0.01
    same = smooth(trajectory(path), lambda values, period: values)
    assert np.allclose(same.path, path, atol=1e-9)


@pytest.mark.parametrize("zoom", [400.0, 1e5])
def test_a_function_with_degenerate_results_is_an_error(zoom):
    with pytest.raises(ClipError, match="no frame would be visible"):
        smooth(trajectory(make_shake_path(50)), lambda values, period: values + zoom * np.eye(8)[3])


def test_function_with_invalid_results_is_an_error():
    with pytest.raises(ClipError, match=r"\(50, 8\).*\(50, 4\)"):
        smooth(trajectory(make_shake_path(50)), lambda values, period: values[:, :4])
    with pytest.raises(ClipError, match="not finite"):
        smooth(trajectory(make_shake_path(50)), lambda values, period: values * np.nan)


def test_learned_without_its_network_is_a_clear_error():
    with pytest.raises(ClipError, match=r"models\.load_path_smoother\(\)\.(\w+)\(width, height, max_zoom\)") as error:
        smooth(trajectory(make_shake_path(50)), Smoothing.LEARNED)
    advice = re.search(r"\(\)\.(\w+)", str(error.value))
    assert advice
    assert callable(getattr(PathSmoother, advice[1]))


def test_strength_and_horizon_change_the_path():
    measured = trajectory(make_shake_path(100))
    assert np.array_equal(smooth(measured, strength=Strength(), horizon=0).poses, smooth(measured).poses)
    assert np.array_equal(smooth(measured, strength=Strength(0, 0, 0, 0, 0)).poses, measured.poses)
    level = smooth(measured, horizon=1.0).path
    assert np.allclose(level[:, 2], np.median(measured.path[:, 2]))
    by_frame = smooth(measured, horizon=1.0, reference=7).path
    assert np.allclose(by_frame[:, 2], measured.path[7, 2])
