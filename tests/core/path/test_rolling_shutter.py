import numpy as np
import pytest
from camera_simulation import make_shake_path
from rolling_shutter_motion import CLIP_INFO, SHOTS, pose_at, rolling_shutter_steps
from steadyscale.core import geometry
from steadyscale.core.path import rolling_shutter


def corner_error(matrices, truth):
    """Maximum error of the corners in pixels."""
    corners = geometry.corners(640, 360)
    return np.abs(geometry.transform_points(matrices, corners) - geometry.transform_points(truth, corners)).max()


@pytest.mark.parametrize("readout", [0.8, -0.8])
def test_rectified_steps_and_rows_match_the_true_camera(readout):
    measured, truth = rolling_shutter_steps(readout)
    steps, rows = rolling_shutter.rectify_steps(measured, SHOTS, CLIP_INFO, readout)
    assert corner_error(measured, truth) > 2, "the input has a rolling shutter"
    inner = [i for shot in SHOTS for i in range(shot.start + 5, shot.stop - 4)]
    assert corner_error(steps[inner], truth[inner]) < 0.15
    assert corner_error(steps, truth) < 1.0, "also at the ends of the shot"
    at = np.array(
        [
            [np.linalg.inv(pose_at([i])[0]) @ pose_at([i + readout * h])[0] for h in rolling_shutter.ROW_HEIGHTS]
            for i in inner
        ]
    )
    assert corner_error(rows[inner], geometry.normalize(at)) < 0.1
    assert np.allclose(steps[[0, 24]], np.eye(3)), "first frames have identity steps"


def test_rows_of_unevenly_timed_frames_match_the_true_camera():
    times = np.cumsum(np.resize([0.6, 1.4, 1.0], 40))
    measured, truth = rolling_shutter_steps(0.8, times)
    steps, rows = rolling_shutter.rectify_steps(measured, SHOTS, CLIP_INFO, 0.8, times)
    by_number, _ = rolling_shutter.rectify_steps(measured, SHOTS, CLIP_INFO, 0.8)
    inner = [i for shot in SHOTS for i in range(shot.start + 5, shot.stop - 4)]
    assert corner_error(by_number[inner], truth[inner]) > 1
    assert corner_error(steps[inner], truth[inner]) < 0.3
    heights = 0.8 * rolling_shutter.ROW_HEIGHTS
    at = [[np.linalg.inv(pose_at([times[i]])[0]) @ pose_at([times[i] + h])[0] for h in heights] for i in inner]
    assert corner_error(rows[inner], geometry.normalize(np.array(at))) < 0.2


def test_readout_zero_changes_nothing():
    steps = geometry.matrices_from_parameters(make_shake_path(40))
    same, rows = rolling_shutter.rectify_steps(steps, SHOTS, CLIP_INFO, 0.0)
    assert np.allclose(same[1:24], steps[1:24], atol=1e-9)
    assert np.allclose(rows, np.eye(3))


def test_jumps_as_large_as_the_frame_are_not_rectified():
    jumps = np.zeros((40, 4))
    jumps[1:24, 1] = 400 * (-1.0) ** np.arange(23)
    jumps[25:] = make_shake_path(15) / 5
    steps = geometry.matrices_from_parameters(jumps)
    straight, rows = rolling_shutter.rectify_steps(steps, SHOTS, CLIP_INFO, 1.0)
    assert np.array_equal(straight[:24], steps[:24])
    assert np.array_equal(rows[:24], np.tile(np.eye(3), (24, rolling_shutter.ROW_SAMPLES, 1, 1)))
    assert np.abs(rows[25:] - np.eye(3)).max() > 0.1, "the other shot is rectified"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_short_shots_have_rows_too(count):
    steps = geometry.matrices_from_parameters(np.tile([3.0, 1.0, 0, 0], (count, 1)))
    steps[0] = np.eye(3)
    _, rows = rolling_shutter.rectify_steps(steps, [slice(0, count)], CLIP_INFO, 0.5)
    slant = geometry.transform_points(rows, np.zeros((1, 1, 2)))[:, :, 0]  # the camera moves by (-3, -1) per frame
    expected = 0.5 * rolling_shutter.ROW_HEIGHTS[:, None] * [-3.0, -1.0] * (count > 1)
    assert np.allclose(slant, np.tile(expected, (count, 1, 1)), atol=0.02)


@pytest.fixture
def rows():
    return rolling_shutter.rectify_steps(rolling_shutter_steps(0.8)[0], SHOTS, CLIP_INFO, 0.8)[1]


def test_rows_are_interpolated_smoothly(rows):
    assert np.allclose(rolling_shutter.interpolate_rows(rows, rolling_shutter.ROW_HEIGHTS[None]), rows)
    assert np.allclose(rolling_shutter.interpolate_rows(rows, np.array([[0.0]]))[:, 0], np.eye(3), atol=1e-9), (
        "the middle one moves none"
    )


def test_distort_points_inverts_rectify_points(rows):
    points = np.random.default_rng(0).uniform(-1, 1, (1, 50, 2)) * [320, 180]
    assert (
        np.abs(
            rolling_shutter.rectify_points(rows, rolling_shutter.distort_points(rows, points, 360), 360) - points
        ).max()
        < 1e-3
    )


def test_inscribed_rect_is_inside_the_frame_and_nearly_maximal(rows):
    sides = rolling_shutter.inscribed_rect(rows, CLIP_INFO)
    left, top, right, bottom = sides.T
    for x, y in ((left, top), (right, top), (right, bottom), (left, bottom), (left, 0 * top), (right, 0 * top)):
        points = rolling_shutter.distort_points(rows, np.stack([x, y], -1)[:, None], 360)
        assert (np.abs(points) <= np.array([319.5, 179.5]) + 0.05).all()
    moved = rolling_shutter.max_displacement(rows, CLIP_INFO)
    assert (left + 319.5 <= moved[:, 0] + 0.05).all()
    assert (bottom - 179.5 >= -moved[:, 1] - 0.05).all()
    assert (moved < 15).all()


def test_chunks_do_not_change_the_rows(monkeypatch):
    measured, _ = rolling_shutter_steps(0.6)
    single = rolling_shutter.rectify_steps(measured, SHOTS, CLIP_INFO, 0.6)
    monkeypatch.setattr(geometry, "CHUNK_FRAMES", 7)
    for expected, chunked in zip(single, rolling_shutter.rectify_steps(measured, SHOTS, CLIP_INFO, 0.6), strict=True):
        assert np.allclose(chunked, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("zoom", [0.0, 1e-200])
@pytest.mark.parametrize("readout", [0.0, 0.5, 1.0])
def test_a_shot_with_a_singular_step_is_not_changed(monkeypatch, readout, zoom):
    """On any CPU: 0 has no inverse, and the inverse of 1e-200 overflows after a few steps."""
    monkeypatch.setattr(geometry, "CHUNK_FRAMES", 7)  # the singular step is in the last chunk of its shot
    jumps = np.zeros((60, 4))
    jumps[1:] = make_shake_path(59) / 5
    steps = geometry.matrices_from_parameters(jumps)
    shots = [slice(0, 40), slice(40, 60)]
    steps[38, :2, :2] *= zoom
    rectified, rows = rolling_shutter.rectify_steps(steps, shots, CLIP_INFO, readout)
    assert np.array_equal(rectified[:40], steps[:40])
    assert np.array_equal(rows[:40], np.tile(np.eye(3), (40, rolling_shutter.ROW_SAMPLES, 1, 1)))
    assert (np.abs(rows[40:] - np.eye(3)).max() > 0.1) == (readout > 0), "the other shot is rectified"
