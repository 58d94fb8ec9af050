from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from camera_simulation import make_shake_path
from steadyscale.core import geometry
from steadyscale.core.clip import ClipError, ClipInfo
from steadyscale.core.motion.camera.readout_time import estimate_readout
from steadyscale.core.path.motion import Motion
from steadyscale.core.path.trajectory import Correction, Trajectory, correction, inverse
from steadyscale.core.smoothing.smooth import smooth

INFO = ClipInfo(640, 360, Fraction(25), 40)


def motion_along(path, confidence=None):
    poses = geometry.matrices_from_parameters(path)
    steps = np.stack([np.eye(3), *(np.linalg.inv(poses[1:]) @ poses[:-1])])
    confidence = np.array([0.0] + [1.0] * (len(path) - 1)) if confidence is None else confidence
    return Motion(steps, confidence, INFO)


def test_steps_accumulate_to_the_path():
    path = make_shake_path(40)
    assert np.allclose(Trajectory.of(motion_along(path)).path, path, atol=1e-9)


def test_each_shot_starts_at_the_identity():
    confidence = np.ones(40)
    confidence[[0, 25]] = 0
    measured = Trajectory.of(motion_along(make_shake_path(40), confidence))
    assert measured.shots == [slice(0, 25), slice(25, 40)]
    assert np.array_equal(measured.poses[25], np.eye(3))


def test_correction_moves_every_frame_to_the_wanted_pose():
    measured = Trajectory.of(motion_along(make_shake_path(40)))
    wanted = smooth(measured)
    fix = correction(measured, wanted)
    point = np.array([[100.0, -50.0]])
    corrected = geometry.transform_points(fix.matrices, point)
    assert np.allclose(
        geometry.transform_points(wanted.poses, corrected), geometry.transform_points(measured.poses, point)
    )
    assert np.allclose(measured.corrected(fix).path, wanted.path)


def test_low_confidence_step_is_interpolated():
    path = np.outer(np.arange(40.0), [3.0, 1.0, 0, 0])
    motion = motion_along(path)
    motion.steps[20] = geometry.matrices_from_parameters(np.array([200.0, 0, 1, 0]))
    motion.confidence[20] = 0.05
    assert np.allclose(Trajectory.of(motion).path, path, atol=1e-9)


def test_low_confidence_step_is_interpolated_over_time():
    times = np.cumsum(np.resize([0.02, 0.06, 0.5], 40))
    path = np.outer(times, [80.0, 20.0, 0, 0])
    motion = replace(motion_along(path - path[0]), times=times)
    motion.steps[[19, 20, 31]] = np.eye(3)
    motion.confidence[[19, 20, 31]] = 0.05
    assert np.allclose(Trajectory.of(motion).path, path - path[0], atol=1e-9)


@pytest.mark.parametrize("weak", [slice(1, 40), slice(60, 100)], ids=["start", "end"])
def test_the_speed_fades_where_no_step_is_reliable_to_the_end_of_a_shot(weak):
    path = np.outer(np.arange(100.0), [3.0, 1.0, 0, 0])
    motion = motion_along(path)
    motion.confidence[weak] = 0.05
    moves = np.diff(Trajectory.of(motion).path[:, 0])
    numbers = np.arange(1, 100)
    nearest = 40 if weak.start == 1 else 59
    is_weak = (numbers >= weak.start) & (numbers < weak.stop)
    fps = float(motion.info.fps)
    expected = np.where(is_weak, 3 * np.exp(-np.abs(numbers - nearest) / (0.5 * fps)), 3)
    assert moves == pytest.approx(expected, abs=1e-6)


def test_shot_without_reliable_steps_is_static():
    motion = motion_along(make_shake_path(5), confidence=np.array([0.0, 0.01, 0.01, 0.01, 0.01]))
    assert np.allclose(Trajectory.of(motion).path, 0)


def test_correction_scales_with_the_clip():
    fix = correction(measured := Trajectory.of(motion_along(make_shake_path(40))), smooth(measured))
    large = geometry.to_parameters(fix.scaled(4).matrices)
    assert np.allclose(large, geometry.to_parameters(fix.matrices) * [4, 4, 1, 1])
    assert (fix.scaled(4).info.width, fix.scaled(4).info.height) == (2560, 1440)
    with pytest.raises(ClipError, match="another shape"):
        fix.resized(640, 640)


@pytest.mark.parametrize("size", [(1920, 804), (1920, 1036), (1998, 1080), (4096, 1716)])
def test_a_correction_is_resized_to_the_reduced_frames_of_every_size(size):
    info = ClipInfo(*size, Fraction(25), 4)
    fix = Correction(np.tile(np.eye(3), (4, 1, 1)), [slice(0, 4)], info)
    for side in (480, 333):
        small = info.fit_within(side)
        assert fix.resized(*small.size).info.size == small.size


def test_correction_contains_the_poses():
    fix = correction(measured := Trajectory.of(motion_along(make_shake_path(40))), smooth(measured))
    assert np.array_equal(fix.poses, measured.poses)
    assert np.allclose(geometry.to_parameters(fix.scaled(2).poses), geometry.to_parameters(fix.poses) * [2, 2, 1, 1])


def test_inverse_restores_the_shake():
    measured = Trajectory.of(motion_along(make_shake_path(40)))
    fix = correction(measured, wanted := smooth(measured))
    back = inverse(fix)
    assert np.allclose(back.matrices @ fix.matrices, np.eye(3), atol=1e-9)
    assert np.allclose(back.poses, wanted.poses), "its input has the smooth path"
    assert np.allclose(wanted.corrected(back).path, measured.path)
    assert np.allclose(inverse(back).matrices, fix.matrices)


@pytest.mark.parametrize("zoom", [0.0, 1e-12, 1e-3, 1e3, np.nan, [-1.0, 1.0]])
def test_a_degenerate_step_is_interpolated_despite_high_confidence(zoom):
    path = np.outer(np.arange(40.0), [3.0, 1.0, 0, 0])
    motion = motion_along(path)
    expected = [Trajectory.of(replace(motion, readout=readout)).path for readout in (0.0, 0.5)]
    motion.steps[20, :2, :2] *= zoom
    for readout, expected_path in zip((0.0, 0.5), expected, strict=True):
        measured = Trajectory.of(replace(motion, readout=readout))
        assert np.allclose(measured.path, expected_path, atol=1e-9)
        assert np.isfinite(correction(measured, smooth(measured)).matrices).all()
    assert estimate_readout(motion) == 0
