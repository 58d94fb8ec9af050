"""Measured paths in training: read from files in the units of synthetic ones, cut and continued."""

from fractions import Fraction

import numpy as np
import pytest
from steadyscale.core.clip import ClipInfo
from steadyscale.core.path.serialize import save_path
from steadyscale.core.path.trajectory import Trajectory
from steadyscale.core.training import PathTrainConfig, TrainingError, train_path_net
from steadyscale.core.training.smoother.measured_paths import draw_window, read_measured_paths
from steadyscale.core.training.smoother.trainer import draw_batch

COUNT = 60


def make_trajectory(shots):
    """Moves to the right by two pixels a frame and swings up and down by three."""
    poses = np.tile(np.eye(3), (COUNT, 1, 1))
    poses[:, 0, 2] = 2.0 * np.arange(COUNT)
    poses[:, 1, 2] = 3.0 * np.sin(np.arange(COUNT))
    return Trajectory(poses, shots, ClipInfo(640, 360, Fraction(25), COUNT))


def test_shots_are_read_in_half_widths(tmp_path):
    save_path(make_trajectory([slice(0, 45), slice(45, COUNT)]), tmp_path / "path.json")
    (path,) = read_measured_paths([tmp_path / "path.json"])  # the second shot is too short
    assert path.shape == (45, 8)
    moves = path[:, :2] - path[0, :2]
    expected = np.stack([2.0 * np.arange(45), 3.0 * np.sin(np.arange(45))], axis=-1) / 320
    np.testing.assert_allclose(moves, expected, atol=1e-9)
    np.testing.assert_allclose(path[:, 2:], 0, atol=1e-9)


def test_files_without_a_long_shot_are_refused(tmp_path):
    save_path(make_trajectory([slice(0, 30), slice(30, COUNT)]), tmp_path / "path.json")
    settings = PathTrainConfig(paths=[tmp_path / "path.json"])
    with pytest.raises(TrainingError, match="has no measured shot of 40 frames or more"):
        next(train_path_net(settings, tmp_path / "out.safetensors"))


def test_a_window_is_a_part_of_the_path_in_either_direction():
    path = np.arange(50.0)[:, None] ** 2 * np.ones(8)
    starts = set()
    for seed in range(20):
        window = draw_window(np.random.default_rng(seed), path, 8)
        assert (window[0] == 0).all()
        steps = np.diff(window[:, 0])
        assert (np.abs(np.diff(steps)) == 2).all()
        starts.add(steps[0])
    assert min(starts) < 0 < max(starts)


def test_a_short_path_goes_on_without_a_jump():
    path = np.sin(np.arange(10.0) / 3)[:, None] * np.ones(8)
    window = draw_window(np.random.default_rng(0), path, 40)
    assert window.shape == (40, 8)
    assert np.abs(np.diff(window, axis=0)).max() <= np.abs(np.diff(path, axis=0)).max() + 1e-12


def test_half_of_a_batch_is_measured():
    settings = PathTrainConfig(batch=4, frames=24, max_period=30.0)
    measured = np.zeros((50, 8))
    measured[:, 1] = np.sin(np.arange(50.0))
    paths = draw_batch(np.random.default_rng(0), settings, [measured]).path.numpy()
    others = np.delete(paths, 1, axis=2)
    assert [bool((others[row] == 0).all()) for row in range(4)] == [True, False, True, False]
    synthetic = draw_batch(np.random.default_rng(0), settings).path.numpy()
    assert not (synthetic[0] == 0).all()
