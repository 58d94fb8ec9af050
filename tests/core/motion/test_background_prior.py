import numpy as np
from steadyscale.core import geometry
from steadyscale.core.motion.background_prior import DOUBT, EVERYWHERE, updated, weighted
from steadyscale.core.motion.correspondences import Correspondences

HEIGHT, WIDTH = 270, 480
y, x = np.meshgrid(np.arange(-130, 131, 10.0), np.arange(-235, 236, 10.0), indexing="ij")
POINTS = np.stack([x.ravel(), y.ravel()], axis=-1)
STEP = geometry.to_matrices(np.array([3.0, -2.0, 0.01, 0.0]))
LEFT = POINTS[:, 0] < -60


def found(subject):
    moved = geometry.apply(STEP, POINTS)
    moved[subject] += [4.0, 0.0]
    return Correspondences(POINTS, moved, np.ones(len(POINTS)))


def test_what_went_its_own_way_loses_its_weight_and_wins_it_back():
    known = EVERYWHERE
    for _ in range(12):
        known = updated(known, found(LEFT), STEP, HEIGHT, WIDTH)
    weights = weighted(found(LEFT), known, HEIGHT, WIDTH).weights
    assert np.allclose(weights[~LEFT], 1 + DOUBT)
    assert weights[LEFT].max() < DOUBT + 0.05
    for _ in range(12):
        known = updated(known, found(np.zeros_like(LEFT)), STEP, HEIGHT, WIDTH)
    assert weighted(found(LEFT), known, HEIGHT, WIDTH).weights.min() > 0.98 + DOUBT


def test_parts_without_points_stay_as_they_were():
    known = np.linspace(0, 1, EVERYWHERE.size).reshape(EVERYWHERE.shape)
    right = Correspondences(*(column[~LEFT] for column in found(LEFT)))
    after = updated(known, right, STEP, HEIGHT, WIDTH)
    assert np.allclose(after[:, :6], known[:, :6], atol=1e-12)
    assert (after[:, 6:] > known[:, 6:])[:, :-1].all()
