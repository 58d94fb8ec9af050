from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from steadyscale.core import geometry
from steadyscale.core.clip import ClipError, ClipInfo
from steadyscale.core.smooth import Smoothing, smooth
from steadyscale.core.trajectory import Trajectory, correction

LOOKING_BACK_AND_AHEAD = [Smoothing.KALMAN, Smoothing.GAUSSIAN]
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


@pytest.mark.parametrize("method", list(Smoothing))
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


@pytest.mark.parametrize("method", list(Smoothing))
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
    assert np.allclose(smooth(trajectory(turn)).path[:, 2], turn[:, 2], atol=0.01)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ClipError, match="above 0"):
        smooth(trajectory(swing(1)), seconds=0)
    with pytest.raises(ClipError, match="0 to 499"):
        smooth(trajectory(swing(1)), Smoothing.LOCKED, reference=500)
