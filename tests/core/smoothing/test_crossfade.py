"""Shots with constant corrections and speeds, and dissolves between them."""

from fractions import Fraction

import numpy as np
import pytest
from steadyscale.core import geometry
from steadyscale.core.clip import ClipInfo
from steadyscale.core.path.trajectory import Correction
from steadyscale.core.smoothing.crossfade import join_dissolved_shots

INFO = ClipInfo(64, 36, Fraction(20))


def shift(x: np.ndarray) -> geometry.Matrices:
    return geometry.matrices_from_parameters(np.outer(x, [1.0, 0, 0, 0]))


@pytest.fixture
def original():
    """Frames 0 to 30 move at 2 px per frame and are corrected by 5 px, the others at 1 px and by -3 px."""
    poses = np.concatenate([2.0 * np.arange(30), np.arange(30), np.arange(20)])
    fixes = np.repeat([5.0, -3.0, 4.0], [30, 30, 20])
    return Correction(shift(fixes), [slice(0, 30), slice(30, 60), slice(60, 80)], INFO, shift(poses))


def test_a_correction_goes_over_without_a_jump(original):
    joined = join_dissolved_shots(original, [slice(28, 33)])
    x = joined.matrices[:, 0, 2]
    assert np.allclose(x[:20], 5)  # a second around the middle is changed
    assert np.allclose(x[40:60], -3)
    assert x[29] == pytest.approx(5 - 8 * 0.47, abs=0.1)
    assert np.abs(np.diff(x[:60])).max() < 0.6  # of 8 in 20 frames, by a smooth curve
    assert x[60] == 4
    assert joined.shots == [slice(0, 60), slice(60, 80)]


def test_the_poses_go_on(original):
    joined = join_dissolved_shots(original, [slice(28, 33)])
    assert np.allclose(np.diff(joined.poses[:60, 0, 2]), [2.0] * 29 + [1.5] + [1.0] * 29)
    assert np.array_equal(joined.poses[60:], original.poses[60:])
    assert np.array_equal(original.poses[30], np.eye(3)), "the input is not changed"


def test_a_longer_dissolve_takes_its_length(original):
    x = join_dissolved_shots(original, [slice(10, 50)]).matrices[:, 0, 2]
    assert np.flatnonzero(np.abs(np.diff(x[:60])) > 1e-9).tolist() == list(range(9, 50))


def test_three_shots_become_one(original):
    joined = join_dissolved_shots(original, [slice(28, 33), slice(57, 63)])
    assert joined.shots == [slice(0, 80)]
    assert np.abs(np.diff(joined.matrices[:, 0, 2])).max() < 0.6
    assert np.allclose(np.diff(joined.poses[:, 0, 2])[31:], 1.0)


def test_frames_without_the_start_of_a_shot_change_nothing(original):
    assert join_dissolved_shots(original, []) is original
    assert join_dissolved_shots(original, [slice(2, 9)]) is original
