from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from camera_simulation import make_shake_path
from steadyscale.core import geometry
from steadyscale.core.clip import ClipError, ClipInfo
from steadyscale.core.path.trajectory import Trajectory, correction
from steadyscale.core.smoothing.smooth import smooth
from steadyscale.core.smoothing.strength import Strength, apply_strength, level_horizon

NAMES = ("x", "y", "roll", "zoom", "tilt")


@pytest.fixture
def measured():
    tangents = np.zeros((80, 8))
    tangents[:, :4] = make_shake_path(80)
    tangents[:, 4:] = make_shake_path(80, seed=1, pixels=0.01, angle=1e-5, zoom=1e-5)
    return Trajectory(geometry.matrices_from_tangents(tangents), [slice(0, 80)], ClipInfo(640, 360, Fraction(25), 80))


def test_strength_one_is_the_correction_and_zero_the_identity(measured):
    fix = correction(measured, smooth(measured))
    assert apply_strength(fix, Strength()) is fix
    none = apply_strength(fix, Strength(0, 0, 0, 0, 0))
    assert np.array_equal(none.matrices, np.tile(np.eye(3), (80, 1, 1)))
    assert none.poses is fix.poses


@pytest.mark.parametrize("name", NAMES)
def test_strength_applies_to_one_axis(measured, name):
    fix = correction(measured, smooth(measured))
    asked = geometry.to_tangents(fix.matrices)
    given = geometry.to_tangents(apply_strength(fix, Strength(**{name: 0.25})).matrices)
    at = NAMES.index(name)
    columns = slice(at, at + 1) if at < 4 else slice(4, 8)
    strength = np.ones(8)
    strength[columns] = 0.25
    assert np.abs(asked[:, columns]).max() > 1e-6
    assert np.allclose(given, asked * strength, atol=1e-12)


def test_axes_are_those_of_the_frame():
    """With the camera on its side, x of the frame is vertical in the scene."""
    path = make_shake_path(100, angle=0, zoom=0)
    on_its_side = geometry.matrices_from_parameters(np.array([0, 0, np.pi / 2, 0]))
    info = ClipInfo(640, 360, Fraction(25), 100)
    filmed = Trajectory(on_its_side @ geometry.matrices_from_parameters(path), [slice(0, 100)], info)
    after = smooth(filmed, seconds=10.0, strength=Strength(x=0)).path
    assert np.allclose(after[:, 1], path[:, 0], atol=1e-9), "kept"
    assert np.abs(np.diff(after[:, 0], 2)).max() < 0.05, "smoothed"


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_strength_outside_0_to_1_is_an_error(measured, strength):
    with pytest.raises(ClipError, match="roll is a share"):
        Strength(roll=strength)
    with pytest.raises(ClipError, match="horizon"):
        level_horizon(measured, measured, strength)


def rolling():
    """Two shots with a slow roll of a tenth of a radian, the second one tilted."""
    path = make_shake_path(200, angle=0.005)
    path[:, 2] += 0.1 * np.sin(np.arange(200) / 20)
    path[100:, 2] += 0.4
    path[:, 0] += np.arange(200)
    return Trajectory(
        geometry.matrices_from_parameters(path), [slice(0, 100), slice(100, 200)], ClipInfo(640, 360, Fraction(25), 200)
    )


def test_horizon_is_level_with_the_median_roll_and_nothing_else_changes():
    measured = rolling()
    free = smooth(measured, seconds=1.0)
    assert np.ptp(free.path[:100, 2]) > 0.15
    level = level_horizon(measured, free, 1.0)
    for shot in measured.shots:
        assert np.allclose(level.path[shot, 2], np.median(measured.path[shot, 2]))
    assert np.allclose(level.path[:, [0, 1, 3]], free.path[:, [0, 1, 3]])
    half = level_horizon(measured, free, 0.5).path[:, 2]
    assert np.allclose(half, (level.path[:, 2] + free.path[:, 2]) / 2)
    assert level_horizon(measured, free, 0.0) is free


def test_reference_frame_is_level_in_its_shot():
    measured = rolling()
    level = level_horizon(measured, smooth(measured), 1.0, reference=110).path[:, 2]
    assert np.allclose(level[100:], measured.path[110, 2])
    assert np.allclose(level[:100], np.median(measured.path[:100, 2]))


def test_full_rotation_of_the_camera_is_leveled_without_a_jump():
    path = np.zeros((300, 4))
    path[:, 2] = np.linspace(0, 3 * np.pi, 300)
    measured = replace(rolling(), poses=geometry.matrices_from_parameters(path), shots=[slice(0, 300)])
    level = level_horizon(measured, smooth(measured, seconds=3.0), 1.0).path[:, 2]
    assert np.allclose(level % (2 * np.pi), 1.5 * np.pi, atol=1e-6)
    half = level_horizon(measured, smooth(measured, seconds=3.0), 0.5).path[:, 2]
    assert np.abs(np.diff(half)).max() < 0.02
