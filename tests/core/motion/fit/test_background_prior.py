import numpy as np
from steadyscale.core import geometry
from steadyscale.core.motion.fit.background_prior import ALL_INLIERS, MIN_WEIGHT, apply_inlier_map, update_inlier_map
from steadyscale.core.motion.optical_flow.correspondences import Correspondences

HEIGHT, WIDTH = 270, 480
y, x = np.meshgrid(np.arange(-130, 131, 10.0), np.arange(-235, 236, 10.0), indexing="ij")
POINTS = np.stack([x.ravel(), y.ravel()], axis=-1)
STEP = geometry.matrices_from_parameters(np.array([3.0, -2.0, 0.01, 0.0]))
LEFT = POINTS[:, 0] < -60


def found(subject):
    moved = geometry.transform_points(STEP, POINTS)
    moved[subject] += [4.0, 0.0]
    return Correspondences(POINTS, moved, np.ones(len(POINTS)))


def test_outlier_cells_lose_weight_and_recover():
    known = ALL_INLIERS
    for _ in range(12):
        known = update_inlier_map(known, found(LEFT), STEP, HEIGHT, WIDTH)
    weights = apply_inlier_map(found(LEFT), known, HEIGHT, WIDTH).weights
    assert np.allclose(weights[~LEFT], 1 + MIN_WEIGHT)
    assert weights[LEFT].max() < MIN_WEIGHT + 0.05
    for _ in range(12):
        known = update_inlier_map(known, found(np.zeros_like(LEFT)), STEP, HEIGHT, WIDTH)
    assert apply_inlier_map(found(LEFT), known, HEIGHT, WIDTH).weights.min() > 0.98 + MIN_WEIGHT


def test_cells_without_points_do_not_change():
    known = np.linspace(0, 1, ALL_INLIERS.size).reshape(ALL_INLIERS.shape)
    right = Correspondences(*(column[~LEFT] for column in found(LEFT)))
    after = update_inlier_map(known, right, STEP, HEIGHT, WIDTH)
    assert np.allclose(after[:, :6], known[:, :6], atol=1e-12)
    assert (after[:, 6:] > known[:, 6:])[:, :-1].all()
