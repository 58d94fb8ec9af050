import fisheye_camera
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from steadyscale.core import geometry
from steadyscale.core.lens import LENSES, Lens
from steadyscale.core.path.ray_camera import RayCamera, rotation_vectors, rotations_from_vectors

CAMERA = RayCamera(Lens(150), 640)
VIEWS = geometry.matrices_from_parameters(np.random.default_rng(0).normal(0, 1, (8, 4)) * [60, 40, 0.3, 0.1])
POINTS = fisheye_camera.frame_points(640, 360)


def test_a_view_moves_points_as_its_rotation_does():
    focal = 320 / np.radians(75)
    moved = CAMERA.transform(VIEWS, POINTS)
    for view, found in zip(VIEWS, moved, strict=True):
        x, y, roll, log_scale = geometry.to_parameters(view)
        tilt = Rotation.from_rotvec(np.array([-y, x, 0]) / focal)
        turn = (tilt * Rotation.from_rotvec([0, 0, roll])).as_matrix()
        rays = fisheye_camera.to_rays(POINTS * np.exp(log_scale), focal)
        assert np.abs(fisheye_camera.to_points(rays @ turn.T, focal) - found).max() < 1e-9


@pytest.mark.parametrize("lens", [Lens(150), LENSES["gopro-wide"]])
def test_views_and_rotations_are_inverses(lens):
    camera = RayCamera(lens, 640)
    assert np.abs(camera.views(*camera.rotations(VIEWS)) - VIEWS).max() < 1e-9
    assert np.abs(camera.transform_back(VIEWS, camera.transform(VIEWS, POINTS)) - POINTS).max() < 1e-6


def test_composed_views_move_points_one_after_the_other():
    turns = geometry.matrices_from_parameters(geometry.to_parameters(VIEWS) * [1, 1, 1, 0])
    once = CAMERA.transform(turns[::-1], POINTS)
    assert (
        np.abs(CAMERA.transform(CAMERA.compose(turns, turns[::-1]), POINTS) - CAMERA.transform(turns, once)).max()
        < 1e-9
    )


def test_the_views_of_a_narrow_lens_are_similarities():
    moved = RayCamera(Lens(5), 640).transform(VIEWS, POINTS)
    assert np.abs(moved - geometry.transform_points(VIEWS, POINTS[None])).max() < 0.1


def test_rotation_vectors_are_those_of_scipy():
    vectors = np.random.default_rng(1).normal(0, 0.8, (20, 3))
    vectors[0] = 0
    rotations = Rotation.from_rotvec(vectors).as_matrix()
    assert np.abs(rotations_from_vectors(vectors) - rotations).max() < 1e-12
    assert np.abs(rotation_vectors(rotations) - vectors).max() < 1e-9
