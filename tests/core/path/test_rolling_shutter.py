import numpy as np
import pytest
from camera_simulation import make_shake_path
from rolling_shutter_motion import CLIP_INFO, SHOTS, pose_at, rolling_shutter_steps
from steadyscale.core import geometry
from steadyscale.core.path import rolling_shutter


def off(matrices, truth):
    """Pixels, at most, by which corners are missed."""
    corners = geometry.corners(640, 360)
    return np.abs(geometry.transform_points(matrices, corners) - geometry.transform_points(truth, corners)).max()


@pytest.mark.parametrize("readout", [0.8, -0.8])
def test_steps_and_rows_are_those_of_the_camera(readout):
    seen, truth = rolling_shutter_steps(readout)
    steps, rows = rolling_shutter.rectify_steps(seen, SHOTS, CLIP_INFO, readout)
    assert off(seen, truth) > 2, "the test itself bends"
    inner = [i for shot in SHOTS for i in range(shot.start + 5, shot.stop - 4)]
    assert off(steps[inner], truth[inner]) < 0.15
    assert off(steps, truth) < 1.0, "also where the camera's way beyond the shot is a guess"
    at = np.array(
        [
            [np.linalg.inv(pose_at([i])[0]) @ pose_at([i + readout * h])[0] for h in rolling_shutter.ROW_HEIGHTS]
            for i in inner
        ]
    )
    assert off(rows[inner], geometry.normalize(at)) < 0.1
    assert np.allclose(steps[[0, 24]], np.eye(3)), "no step leads over a cut"


def test_no_readout_bends_nothing():
    steps = geometry.matrices_from_parameters(make_shake_path(40))
    same, rows = rolling_shutter.rectify_steps(steps, SHOTS, CLIP_INFO, 0.0)
    assert np.allclose(same[1:24], steps[1:24], atol=1e-9)
    assert np.allclose(rows, np.eye(3))


def test_jumps_as_large_as_the_frame_tear_nothing():
    jumps = np.zeros((40, 4))
    jumps[1:24, 1] = 400 * (-1.0) ** np.arange(23)
    jumps[25:] = make_shake_path(15) / 5
    steps = geometry.matrices_from_parameters(jumps)
    straight, rows = rolling_shutter.rectify_steps(steps, SHOTS, CLIP_INFO, 1.0)
    assert np.array_equal(straight[:24], steps[:24])
    assert np.array_equal(rows[:24], np.tile(np.eye(3), (24, rolling_shutter.ROW_SAMPLES, 1, 1)))
    assert np.abs(rows[25:] - np.eye(3)).max() > 0.1, "the other shot is straightened"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_short_shots_have_rows_too(count):
    steps = geometry.matrices_from_parameters(np.tile([3.0, 1.0, 0, 0], (count, 1)))
    steps[0] = np.eye(3)
    _, rows = rolling_shutter.rectify_steps(steps, [slice(0, count)], CLIP_INFO, 0.5)
    slant = geometry.transform_points(rows, np.zeros((1, 1, 2)))[:, :, 0]  # the camera goes by (-3, -1) a frame
    expected = 0.5 * rolling_shutter.ROW_HEIGHTS[:, None] * [-3.0, -1.0] * (count > 1)
    assert np.allclose(slant, np.tile(expected, (count, 1, 1)), atol=0.02)


@pytest.fixture
def rows():
    return rolling_shutter.rectify_steps(rolling_shutter_steps(0.8)[0], SHOTS, CLIP_INFO, 0.8)[1]


def test_rows_between_the_kept_ones_lie_on_a_curve_through_them(rows):
    assert np.allclose(rolling_shutter.interpolate_rows(rows, rolling_shutter.ROW_HEIGHTS[None]), rows)
    assert np.allclose(rolling_shutter.interpolate_rows(rows, np.array([[0.0]]))[:, 0], np.eye(3), atol=1e-9), (
        "the middle one moves none"
    )


def test_bent_is_the_way_back(rows):
    points = np.random.default_rng(0).uniform(-1, 1, (1, 50, 2)) * [320, 180]
    assert (
        np.abs(
            rolling_shutter.rectify_points(rows, rolling_shutter.distort_points(rows, points, 360), 360) - points
        ).max()
        < 1e-3
    )


def test_what_is_shown_has_a_source_and_nothing_much_is_given_away(rows):
    sides = rolling_shutter.inscribed_rect(rows, CLIP_INFO)
    left, top, right, bottom = sides.T
    for x, y in ((left, top), (right, top), (right, bottom), (left, bottom), (left, 0 * top), (right, 0 * top)):
        points = rolling_shutter.distort_points(rows, np.stack([x, y], -1)[:, None], 360)
        assert (np.abs(points) <= np.array([319.5, 179.5]) + 0.05).all()
    moved = rolling_shutter.max_displacement(rows, CLIP_INFO)
    assert (left + 319.5 <= moved[:, 0] + 0.05).all()
    assert (bottom - 179.5 >= -moved[:, 1] - 0.05).all()
    assert (moved < 15).all()


def test_frames_are_worked_on_in_runs_that_know_their_neighbours(monkeypatch):
    seen, _ = rolling_shutter_steps(0.6)
    at_once = rolling_shutter.rectify_steps(seen, SHOTS, CLIP_INFO, 0.6)
    monkeypatch.setattr(geometry, "CHUNK_FRAMES", 7)
    for whole, in_runs in zip(at_once, rolling_shutter.rectify_steps(seen, SHOTS, CLIP_INFO, 0.6), strict=True):
        assert np.allclose(in_runs, whole, rtol=0, atol=1e-10)
