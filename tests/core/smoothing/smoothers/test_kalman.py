import numpy as np
import pytest
from steadyscale.core.smoothing.smoothers.kalman import LaggedWeights, kalman, kalman_causal, kalman_lagged


def remaining(smoother, relative_frequency, period):
    """Fraction of an oscillation that is left in the middle of a long shot."""
    t = np.arange(1201) - 600
    swing = np.stack([np.cos(2 * np.pi * relative_frequency * t / period), t * 0.5], axis=-1)
    return smoother(swing, period)[600, 0]


@pytest.mark.parametrize("period", [10, 90])
@pytest.mark.parametrize("w", [0.5, 1.0, 1.5, 2.0])
def test_frequency_response_matches_the_docstring(w, period):
    assert abs(remaining(kalman, w, period) - 1 / (1 + (w**4 + w**6) / 2)) < 1e-4
    assert abs(remaining(kalman_lagged, w, period) - 1 / (1 + w**4)) < 0.01


@pytest.mark.parametrize("smoother", [kalman, kalman_lagged, kalman_causal])
@pytest.mark.parametrize("period", [0.7, 3, 90, 36000])
def test_linear_motion_is_kept_for_any_period(smoother, period):
    line = np.outer(np.arange(300.0), [1, -2]) + np.array([5, 700])
    assert np.allclose(smoother(line, period), line, atol=1e-3)


@pytest.mark.parametrize("smoother", [kalman, kalman_lagged, kalman_causal])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_short_shots(smoother, length):
    path = np.outer(np.arange(length), [3.0, 1.0])
    assert np.allclose(smoother(path, 60), path, atol=1e-3)


def test_ends_of_a_shot_are_smooth():
    """A model with constant acceleration would follow the last oscillation there."""
    shake = np.random.default_rng(0).normal(size=(240, 40))
    ends = np.abs(kalman(shake, 60)[[0, -1]]).std()
    assert ends < 1.15 * np.abs(kalman_lagged(shake, 60)[[0, -1]]).std()


def test_response_to_a_jolt_is_symmetric():
    jolt = np.zeros((201, 1))
    jolt[100] = 1
    spread = kalman(jolt, 30)[:, 0]
    assert np.allclose(spread, spread[::-1], atol=1e-6)
    assert abs(spread.sum() - 1) < 1e-6
    assert spread.argmax() == 100


@pytest.mark.parametrize("smoother", [kalman, kalman_lagged, kalman_causal])
def test_results_are_finite_for_extreme_periods(smoother):
    path = np.random.default_rng(0).normal(size=(50, 2))
    assert np.abs(smoother(path, 1e-300) - path).max() < 1e-3, "no oscillation is as fast"
    assert np.isfinite(smoother(path, 1e300)).all()


@pytest.mark.parametrize("period", [3, 75])
def test_rows_of_lagged_weights_are_those_of_the_smoother(period):
    weights = LaggedWeights(period)
    for length, index in ((1, 0), (2, 0), (2, 1), (40, 39), (40, 33), (150, 145), (400, 380), (40, 33)):
        row = weights.row(length, index)
        assert np.allclose(row, kalman_lagged(np.eye(length), period)[index], rtol=0, atol=1e-12)
