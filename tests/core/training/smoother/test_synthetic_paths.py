"""Synthetic camera paths: reproducible, with the amplitudes and frequencies of their kinds."""

import numpy as np
import pytest
from steadyscale.core.training.smoother.synthetic_paths import PathKind, camera_path, camera_paths


@pytest.mark.parametrize("kind", PathKind)
def test_paths_start_at_zero_and_are_reproducible(kind):
    first, again, other = (camera_path(np.random.default_rng(seed), kind, 100, 25.0) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)
    assert not first[0].any()
    assert np.isfinite(first).all()
    assert 1e-6 < np.abs(first).max() < 5, "half widths of the frame"


def rms_acceleration(path):
    return np.sqrt((np.diff(path[:, :2], 2, axis=0) ** 2).mean())


def test_a_tripod_shakes_less_than_a_hand():
    seeds = range(8)
    tripod = np.median(
        [rms_acceleration(camera_path(np.random.default_rng(s), PathKind.TRIPOD, 200, 25.0)) for s in seeds]
    )
    hand = np.median([rms_acceleration(camera_path(np.random.default_rng(s), PathKind.HAND, 200, 25.0)) for s in seeds])
    assert hand > 4 * tripod


def test_the_shake_per_second_does_not_depend_on_the_frame_rate():
    """Root mean square speed per second, not per frame."""
    speeds = [
        np.mean([np.diff(camera_path(np.random.default_rng(s), PathKind.HAND, round(8 * fps), fps)[:, 0]).std() * fps
                 for s in range(20)])
        for fps in (25.0, 50.0)
    ]  # fmt: skip
    assert 0.6 < speeds[0] / speeds[1] < 1.6


def test_walking_has_the_frequency_of_steps():
    path = camera_path(np.random.default_rng(5), PathKind.WALK, 500, 25.0)
    energy = np.abs(np.fft.rfft(np.diff(path[:, 1]))) ** 2
    hertz = np.fft.rfftfreq(499, 1 / 25)
    assert 1.2 < hertz[energy.argmax()] < 5.2


def test_a_batch_has_all_kinds():
    paths = camera_paths(np.random.default_rng(0), 7, 60, 30.0)
    assert paths.shape == (7, 60, 8)
    assert len({path.tobytes() for path in paths}) == 7
