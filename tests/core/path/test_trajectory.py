from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from footage import shake
from steadyscale.core import geometry
from steadyscale.core.clip import ClipError, ClipInfo
from steadyscale.core.motion.estimate import Motion
from steadyscale.core.motion.readout import readout_of
from steadyscale.core.path.smooth import smooth
from steadyscale.core.path.trajectory import Trajectory, correction, inverse

INFO = ClipInfo(640, 360, Fraction(25), 40)


def motion_along(path, trust=None):
    poses = geometry.to_matrices(path)
    steps = np.stack([np.eye(3), *(np.linalg.inv(poses[1:]) @ poses[:-1])])
    trust = np.array([0.0] + [1.0] * (len(path) - 1)) if trust is None else trust
    return Motion(steps, trust, INFO)


def test_steps_accumulate_to_the_path():
    path = shake(40)
    assert np.allclose(Trajectory.of(motion_along(path)).path, path, atol=1e-9)


def test_each_shot_starts_where_its_first_frame_is():
    trust = np.ones(40)
    trust[[0, 25]] = 0
    measured = Trajectory.of(motion_along(shake(40), trust))
    assert measured.shots == [slice(0, 25), slice(25, 40)]
    assert np.array_equal(measured.poses[25], np.eye(3))


def test_the_correction_puts_every_frame_where_it_was_wanted():
    measured = Trajectory.of(motion_along(shake(40)))
    wanted = smooth(measured)
    fix = correction(measured, wanted)
    point = np.array([[100.0, -50.0]])
    corrected = geometry.apply(fix.matrices, point)
    assert np.allclose(geometry.apply(wanted.poses, corrected), geometry.apply(measured.poses, point))
    assert np.allclose(measured.corrected(fix).path, wanted.path)


def test_a_weak_step_is_guessed_from_its_neighbours():
    path = np.outer(np.arange(40.0), [3.0, 1.0, 0, 0])
    motion = motion_along(path)
    motion.steps[20] = geometry.to_matrices(np.array([200.0, 0, 1, 0]))
    motion.trust[20] = 0.05
    assert np.allclose(Trajectory.of(motion).path, path, atol=1e-9)


def test_a_shot_without_any_good_step_stands_still():
    motion = motion_along(shake(5), trust=np.array([0.0, 0.01, 0.01, 0.01, 0.01]))
    assert np.allclose(Trajectory.of(motion).path, 0)


def test_a_correction_grows_with_the_clip():
    fix = correction(measured := Trajectory.of(motion_along(shake(40))), smooth(measured))
    large = geometry.to_parameters(fix.scaled(4).matrices)
    assert np.allclose(large, geometry.to_parameters(fix.matrices) * [4, 4, 1, 1])
    assert (fix.scaled(4).info.width, fix.scaled(4).info.height) == (2560, 1440)
    with pytest.raises(ClipError, match="another shape"):
        fix.resized(640, 640)


def test_corrections_know_how_the_frames_lie_on_each_other():
    fix = correction(measured := Trajectory.of(motion_along(shake(40))), smooth(measured))
    assert np.array_equal(fix.poses, measured.poses)
    assert np.allclose(geometry.to_parameters(fix.scaled(2).poses), geometry.to_parameters(fix.poses) * [2, 2, 1, 1])


def test_the_inverse_puts_the_shake_back():
    measured = Trajectory.of(motion_along(shake(40)))
    fix = correction(measured, wanted := smooth(measured))
    back = inverse(fix)
    assert np.allclose(back.matrices @ fix.matrices, np.eye(3), atol=1e-9)
    assert np.allclose(back.poses, wanted.poses), "what it is applied to has the smooth path"
    assert np.allclose(wanted.corrected(back).path, measured.path)
    assert np.allclose(inverse(back).matrices, fix.matrices)


@pytest.mark.parametrize("zoom", [0.0, 1e-12, 1e-3, 1e3, np.nan, [-1.0, 1.0]])
def test_a_degenerate_step_is_guessed_from_its_neighbours_however_well_it_is_trusted(zoom):
    path = np.outer(np.arange(40.0), [3.0, 1.0, 0, 0])
    motion = motion_along(path)
    expected = [Trajectory.of(replace(motion, readout=readout)).path for readout in (0.0, 0.5)]
    motion.steps[20, :2, :2] *= zoom
    for readout, way in zip((0.0, 0.5), expected, strict=True):
        measured = Trajectory.of(replace(motion, readout=readout))
        assert np.allclose(measured.path, way, atol=1e-9)
        assert np.isfinite(correction(measured, smooth(measured)).matrices).all()
    assert readout_of(motion) == 0
