import itertools
from fractions import Fraction

import fisheye_camera
import numpy as np
import pytest
from steadyscale.core import geometry
from steadyscale.core.bars import Bars
from steadyscale.core.clip import ClipInfo
from steadyscale.core.motion.camera.lens_estimate import estimate_lens, fit_bow
from steadyscale.core.motion.optical_flow.correspondences import Correspondences
from steadyscale.core.path.motion import Motion

WIDTH, HEIGHT = 480, 270
POINTS = fisheye_camera.frame_points(WIDTH, HEIGHT, 24, 14)


def motion_with_bows(move, noise=0.05, radians=0.01):
    """Motion of 40 frames whose points move by `move(points, rotation)`, with noise in pixels."""
    random, rotations = np.random.default_rng(0), fisheye_camera.shake(40, radians)
    bows = [np.zeros(6)]
    for before, after in itertools.pairwise(rotations):
        moved = move(POINTS, after.T @ before) + random.normal(0, noise, POINTS.shape)
        bows.append(fit_bow(Correspondences(POINTS, moved, np.ones(len(POINTS))), np.eye(3), HEIGHT, WIDTH))
    steps = np.tile(np.eye(3), (40, 1, 1))
    return Motion(steps, np.array([0.0, *[0.9] * 39]), ClipInfo(WIDTH, HEIGHT, Fraction(25), 40), bows=np.array(bows))


def fisheye(fov):
    focal = WIDTH / np.radians(fov)
    return lambda points, turn: fisheye_camera.to_points(fisheye_camera.to_rays(points, focal) @ turn.T, focal)


def pinhole(points, turn, focal=300.0):
    rays = np.concatenate([points / focal, np.ones_like(points[:, :1])], axis=1) @ turn.T
    return rays[:, :2] / rays[:, 2:] * focal


@pytest.mark.parametrize("fov", [100, 150, 185])
def test_the_field_of_view_of_a_fisheye_is_found(fov):
    lens = estimate_lens(motion_with_bows(fisheye(fov)))
    assert lens is not None
    assert lens.fov == pytest.approx(fov, rel=0.04)
    assert lens.coefficients == ()


def test_a_stereographic_lens_has_a_coefficient():
    focal = WIDTH / 4 / np.tan(np.radians(130) / 4)

    def move(points, turn):
        radius = np.linalg.norm(points, axis=1, keepdims=True)
        angle = 2 * np.arctan(radius / focal / 2)
        rays = np.concatenate([points / radius * np.sin(angle), np.cos(angle)], axis=1) @ turn.T
        return 2 * focal * rays[:, :2] / (1 + rays[:, 2:])

    lens = estimate_lens(motion_with_bows(move))
    assert lens is not None
    assert lens.fov == pytest.approx(130, rel=0.08)
    assert lens.coefficients[0] == pytest.approx(1 / 12, abs=0.045)


def test_frames_that_are_homographies_have_no_lens():
    assert estimate_lens(motion_with_bows(pinhole)) is None
    assert estimate_lens(motion_with_bows(lambda points, turn: points)) is None, "a tripod"
    shift = geometry.matrices_from_parameters(np.array([3.0, 1, 0.01, 0]))
    assert estimate_lens(motion_with_bows(lambda p, _: geometry.transform_points(shift, p))) is None


def test_a_narrow_fisheye_is_left_alone():
    assert estimate_lens(motion_with_bows(fisheye(50))) is None


def test_motion_too_small_to_tell_has_no_lens():
    assert estimate_lens(motion_with_bows(fisheye(150), radians=1e-4)) is None


def test_the_field_of_view_is_that_inside_the_bars():
    lens = estimate_lens(motion_with_bows(fisheye(150)), Bars(left=60, right=60))
    assert lens is not None
    assert lens.fov == pytest.approx(150 * 360 / 480, rel=0.04)
