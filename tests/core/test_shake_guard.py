"""Corrections that add shake are attenuated; others stay as they are."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from camera_simulation import make_shake_path
from steadyscale.core import geometry
from steadyscale.core.clip import ClipInfo
from steadyscale.core.path.trajectory import Trajectory, correction
from steadyscale.core.shake_guard import without_added_shake

INFO = ClipInfo(640, 360, Fraction(10), 80)
FIRST, SECOND = slice(0, 40), slice(40, 80)


def corrected_to(offsets: np.ndarray):
    """A correction of a path of 80 frames in two shots to the path plus offsets (80,) along x, of the measured path."""
    path = make_shake_path(80, seed=2, pixels=3, zoom=0)
    measured = Trajectory(geometry.matrices_from_parameters(path), [FIRST, SECOND], INFO)
    wanted = geometry.matrices_from_parameters(path + np.outer(offsets, [1, 0, 0, 0]))
    return correction(measured, Trajectory(wanted, measured.shots, INFO))


def test_a_shot_with_added_shake_is_left_alone_and_the_other_stays():
    shake = np.where(np.arange(80) % 2, 9.0, -9.0)
    added = corrected_to(np.where(np.arange(80) < 40, shake, 0.01 * shake))
    guarded = without_added_shake(added)
    assert np.array_equal(guarded.matrices[FIRST], np.tile(np.eye(3), (40, 1, 1)))
    assert np.array_equal(guarded.matrices[SECOND], added.matrices[SECOND])


def test_a_correction_that_helps_in_part_is_applied_in_part():
    """Half of the difference to the middle is best; the whole overshoots to the other side and further."""
    path = make_shake_path(80, seed=2, pixels=3, zoom=0)
    overshoot = -2.4 * (path[:, 0] - np.convolve(np.pad(path[:, 0], 10, "edge"), np.ones(21) / 21, "valid"))
    vertical = path * [1, 0, 0, 0]
    measured = Trajectory(geometry.matrices_from_parameters(vertical), [slice(0, 80)], INFO)
    wanted = geometry.matrices_from_parameters(vertical + np.outer(overshoot, [1, 0, 0, 0]))
    added = correction(measured, Trajectory(wanted, measured.shots, INFO))
    guarded = without_added_shake(added)
    assert guarded.matrices[:, 0, 2] == pytest.approx(0.75 * added.matrices[:, 0, 2], abs=1e-9)


def test_a_smooth_correction_is_not_changed():
    added = corrected_to(np.linspace(0, 30, 80))
    assert np.array_equal(without_added_shake(added).matrices, added.matrices)
