import numpy as np
import pytest
from steadyscale.core import geometry
from steadyscale.core.motion.fit.homography import fit_homography

POINTS = np.random.default_rng(0).uniform([-240, -135], [240, 135], (1500, 2))
TURN = geometry.matrices_from_parameters(np.array([3.0, -5.0, 0.05, 0.02]))
TILT = TURN @ geometry.matrices_from_tangents(np.array([0, 0, 0, 0, 0.004, -0.003, 3e-5, -2e-5]))


def corner_error(step, truth):
    corners = geometry.corners(480, 270)
    return np.abs(geometry.transform_points(step, corners) - geometry.transform_points(truth, corners)).max()


@pytest.mark.parametrize("truth", [TURN, TILT], ids=["similarity", "homography"])
def test_fit_is_exact_with_outliers_and_returns_the_inlier_fraction(truth):
    moved = geometry.transform_points(truth, POINTS)
    moved[:600] += [30, 10]
    step, confidence = fit_homography(POINTS, moved, np.ones(1500))
    assert corner_error(step, truth) < 0.01
    assert abs(confidence - 0.6) < 0.01


@pytest.mark.parametrize("apart", [0.6, 1.2, 2.4, 5.0])
def test_motion_between_two_others_is_not_selected(apart):
    """Almost half of the points follow a subject of almost the same speed as the camera."""
    moved = geometry.transform_points(TURN, POINTS) + np.random.default_rng(3).normal(0, 0.05, POINTS.shape)
    moved[np.abs(POINTS[:, 0]) < 105] += [apart, 0.0]  # 44 %
    assert corner_error(fit_homography(POINTS, moved, np.ones(1500))[0], TURN) < 0.15


def test_noise_is_averaged():
    moved = geometry.transform_points(TILT, POINTS) + np.random.default_rng(1).normal(0, 0.3, POINTS.shape)
    assert corner_error(fit_homography(POINTS, moved, np.ones(1500))[0], TILT) < 0.1


def test_unconstrained_parameters_stay_zero():
    """All weighted points are in one corner: their noise must not cause perspective elsewhere."""
    here = POINTS[(POINTS[:, 0] > 180) & (POINTS[:, 1] > 90)]
    moved = here + np.array([4.0, 1.0]) + np.random.default_rng(2).normal(0, 0.2, here.shape)
    step, _ = fit_homography(here, moved, np.ones(len(here)))
    middle = geometry.transform_points(step, np.zeros((1, 2)))
    assert np.abs(middle - [4.0, 1.0]).max() < 1.5


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
def test_few_points(count):
    step, confidence = fit_homography(POINTS[:count], POINTS[:count] + 2.0, np.ones(count))
    assert np.isfinite(step).all()
    assert confidence in (0.0, 1.0)


def test_zero_weights_give_the_identity():
    step, confidence = fit_homography(POINTS, POINTS + 5, np.zeros(1500))
    assert confidence == 0
    assert np.array_equal(step, np.eye(3))
