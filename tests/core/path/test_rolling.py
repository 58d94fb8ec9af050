import numpy as np
import pytest
from footage import shake
from rolled import INFO, SHOTS, seen_steps, way
from steadyscale.core import geometry
from steadyscale.core.path import rolling


def off(matrices, truth):
    """Pixels, at most, by which corners are missed."""
    corners = geometry.corners(640, 360)
    return np.abs(geometry.apply(matrices, corners) - geometry.apply(truth, corners)).max()


@pytest.mark.parametrize("readout", [0.8, -0.8])
def test_steps_and_rows_are_those_of_the_camera(readout):
    seen, truth = seen_steps(readout)
    steps, rows = rolling.unrolled(seen, SHOTS, INFO, readout)
    assert off(seen, truth) > 2, "the test itself bends"
    inner = [i for shot in SHOTS for i in range(shot.start + 5, shot.stop - 4)]
    assert off(steps[inner], truth[inner]) < 0.15
    assert off(steps, truth) < 1.0, "also where the camera's way beyond the shot is a guess"
    at = np.array([[np.linalg.inv(way([i])[0]) @ way([i + readout * h])[0] for h in rolling.HEIGHTS] for i in inner])
    assert off(rows[inner], geometry.normalized(at)) < 0.1
    assert np.allclose(steps[[0, 24]], np.eye(3)), "no step leads over a cut"


def test_no_readout_bends_nothing():
    steps = geometry.to_matrices(shake(40))
    same, rows = rolling.unrolled(steps, SHOTS, INFO, 0.0)
    assert np.allclose(same[1:24], steps[1:24], atol=1e-9)
    assert np.allclose(rows, np.eye(3))


def test_jumps_as_large_as_the_frame_tear_nothing():
    jumps = np.zeros((40, 4))
    jumps[1:24, 1] = 400 * (-1.0) ** np.arange(23)
    jumps[25:] = shake(15) / 5
    steps = geometry.to_matrices(jumps)
    straight, rows = rolling.unrolled(steps, SHOTS, INFO, 1.0)
    assert np.array_equal(straight[:24], steps[:24])
    assert np.array_equal(rows[:24], np.tile(np.eye(3), (24, rolling.ROWS, 1, 1)))
    assert np.abs(rows[25:] - np.eye(3)).max() > 0.1, "the other shot is straightened"


@pytest.mark.parametrize("zoom", [0.0, 1e-200])
@pytest.mark.parametrize("readout", [0.0, 0.5, 1.0])
def test_a_singular_step_leaves_its_shot_as_it_is(monkeypatch, readout, zoom):
    """Whatever the CPU: 0 has no inverse, and that of 1e-200 is no finite map after a few steps."""
    monkeypatch.setattr(geometry, "PIECE", 7)  # the fault is in the last piece of its shot
    jumps = np.zeros((60, 4))
    jumps[1:] = shake(59) / 5
    steps = geometry.to_matrices(jumps)
    shots = [slice(0, 40), slice(40, 60)]
    steps[38, :2, :2] *= zoom
    straight, rows = rolling.unrolled(steps, shots, INFO, readout)
    assert np.array_equal(straight[:40], steps[:40])
    assert np.array_equal(rows[:40], np.tile(np.eye(3), (40, rolling.ROWS, 1, 1)))
    assert (np.abs(rows[40:] - np.eye(3)).max() > 0.1) == (readout > 0), "the other shot is straightened"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_short_shots_have_rows_too(count):
    steps = geometry.to_matrices(np.tile([3.0, 1.0, 0, 0], (count, 1)))
    steps[0] = np.eye(3)
    _, rows = rolling.unrolled(steps, [slice(0, count)], INFO, 0.5)
    slant = geometry.apply(rows, np.zeros((1, 1, 2)))[:, :, 0]  # the camera goes by (-3, -1) a frame
    expected = 0.5 * rolling.HEIGHTS[:, None] * [-3.0, -1.0] * (count > 1)
    assert np.allclose(slant, np.tile(expected, (count, 1, 1)), atol=0.02)


@pytest.fixture
def rows():
    return rolling.unrolled(seen_steps(0.8)[0], SHOTS, INFO, 0.8)[1]


def test_rows_between_the_kept_ones_lie_on_a_curve_through_them(rows):
    assert np.allclose(rolling.row_at(rows, rolling.HEIGHTS[None]), rows)
    assert np.allclose(rolling.row_at(rows, np.array([[0.0]]))[:, 0], np.eye(3), atol=1e-9), "the middle one moves none"


def test_bent_is_the_way_back(rows):
    points = np.random.default_rng(0).uniform(-1, 1, (1, 50, 2)) * [320, 180]
    assert np.abs(rolling.straightened(rows, rolling.bent(rows, points, 360), 360) - points).max() < 1e-3


def test_what_is_shown_has_a_source_and_nothing_much_is_given_away(rows):
    sides = rolling.shown(rows, INFO)
    left, top, right, bottom = sides.T
    for x, y in ((left, top), (right, top), (right, bottom), (left, bottom), (left, 0 * top), (right, 0 * top)):
        points = rolling.bent(rows, np.stack([x, y], -1)[:, None], 360)
        assert (np.abs(points) <= np.array([319.5, 179.5]) + 0.05).all()
    moved = rolling.reach(rows, INFO)
    assert (left + 319.5 <= moved[:, 0] + 0.05).all()
    assert (bottom - 179.5 >= -moved[:, 1] - 0.05).all()
    assert (moved < 15).all()


def test_frames_are_worked_on_in_runs_that_know_their_neighbours(monkeypatch):
    seen, _ = seen_steps(0.6)
    at_once = rolling.unrolled(seen, SHOTS, INFO, 0.6)
    monkeypatch.setattr(geometry, "PIECE", 7)
    for whole, in_runs in zip(at_once, rolling.unrolled(seen, SHOTS, INFO, 0.6), strict=True):
        assert np.allclose(in_runs, whole, rtol=0, atol=1e-10)
