from dataclasses import replace
from fractions import Fraction

import fisheye_camera
import numpy as np
import pytest
from steadyscale.core import geometry
from steadyscale.core.clip import ClipInfo
from steadyscale.core.crop.zoom import limit_zoom, zooms_to_fill
from steadyscale.core.lens import Lens
from steadyscale.core.path.motion import Motion
from steadyscale.core.path.ray_camera import RayCamera
from steadyscale.core.path.trajectory import Correction, Trajectory, correction, inverse
from steadyscale.core.smoothing.ray_path import exact_rotations
from steadyscale.core.smoothing.smooth import smooth
from steadyscale.core.warping.sampling_map import sampling_map

INFO, FOCAL = ClipInfo(320, 180, Fraction(25), 60), 160 / np.radians(75)


def motion_of(rotations):
    """The exact motion of a camera with a fisheye of 150 degrees."""
    camera = RayCamera(Lens(150), 320)
    back = camera.views(np.swapaxes(rotations[:-1], 1, 2) @ rotations[1:], np.ones(len(rotations) - 1))
    steps = np.concatenate([np.eye(3)[None], geometry.inverse(back)])
    return Motion(steps, np.array([0.0, *[1.0] * (len(rotations) - 1)]), INFO, lens=Lens(150))


def sources(fix):
    """Where each frame of a correction shows what is displayed at some points."""
    points = fisheye_camera.frame_points(320, 180)
    center = np.array([319, 179]) / 2
    return np.stack([sampling_map(fix, i).map_points(points + center) - center for i in range(len(fix.matrices))])


@pytest.fixture(scope="module")
def planned():
    rotations = fisheye_camera.shake(60, 0.06)
    measured = Trajectory.of(motion_of(rotations))
    return rotations, correction(measured, smooth(measured))


def test_a_large_shake_of_a_fisheye_is_removed(planned):
    rotations, fix = planned
    points = np.tile(fisheye_camera.frame_points(320, 180), (60, 1, 1))
    before = fisheye_camera.residual(rotations, FOCAL, points)
    planar, exact = (fisheye_camera.residual(rotations, FOCAL, sources(f)) for f in (replace(fix, lens=None), fix))
    assert before > 8
    assert exact < planar / 2


def test_the_path_beside_the_measured_one_is_made_exact(planned):
    rotations, fix = planned
    before, after = (fisheye_camera.residual(rotations, FOCAL, sources(f)) for f in (fix, exact_rotations(fix)))
    assert after < 0.3 * before


def test_frames_without_a_lens_are_not_changed(planned):
    fix = replace(planned[1], lens=None)
    assert exact_rotations(fix) is fix


def test_the_zoom_is_that_of_the_true_map(planned):
    """Every pixel of the zoomed output lies in the source, and some on its edge."""
    fix = planned[1]
    required = zooms_to_fill(fix)
    scaled = replace(fix, matrices=fix.matrices * np.stack([required, required, np.ones(60)], axis=-1)[..., None])
    for index in (3, 20, int(required.argmax())):
        x, y = sampling_map(scaled, index).source_coords(np.empty((3, 180, 320), np.float32))
        outside = max(-x.min(), x.max() - 319, -y.min(), y.max() - 179)
        assert abs(outside) < 0.05
    limited = limit_zoom(fix, 1.08)
    assert zooms_to_fill(limited).max() <= 1.08 + 1e-6 < required.max()


def test_the_inverse_leads_back(planned):
    fix, points = planned[1], fisheye_camera.frame_points(320, 180) + np.array([319, 179]) / 2
    for index in (5, 30):
        there = sampling_map(fix, index).map_points(points)
        assert np.abs(there - points).max() > 3
        assert np.abs(sampling_map(inverse(fix), index).map_points(there) - points).max() < 1e-3


def test_the_map_is_interpolated_to_hundredths_of_a_pixel(planned):
    sampling = sampling_map(planned[1], 20).crop(slice(20, 170), slice(50, 300))
    x, y = sampling.source_coords(np.empty((3, 150, 250), np.float32))
    columns, rows = np.meshgrid(np.arange(250.0), np.arange(150.0))
    exact = sampling.map_points(np.stack([columns.ravel(), rows.ravel()], axis=-1)).reshape(150, 250, 2)
    assert max(np.abs(exact[..., 0] - x).max(), np.abs(exact[..., 1] - y).max()) < 0.03
    whole, _ = sampling_map(planned[1], 20).source_coords(np.empty((3, 180, 320), np.float32))
    assert np.abs(whole[20:170, 50:300] - x).max() < 0.03


def test_rows_of_a_rolling_shutter_are_turned_along_rays():
    """A camera that turns evenly: a row is displayed where the middle row of the same moment shows it."""
    rate = 0.02
    turns = np.stack(
        [np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]]) for a in rate * np.arange(60)]
    )
    measured = Trajectory.of(replace(motion_of(turns), readout=0.8))
    fix = correction(measured, measured)
    points, center = fisheye_camera.frame_points(320, 180), np.array([319, 179]) / 2
    found = sampling_map(fix, 30).map_points(points + center) - center
    angle = 0.8 * rate * found[:, 1] / 180
    rays = fisheye_camera.to_rays(found, FOCAL)
    x = rays[:, 0] * np.cos(angle) + rays[:, 2] * np.sin(angle)
    z = rays[:, 2] * np.cos(angle) - rays[:, 0] * np.sin(angle)
    assert np.abs(found - points).max() > 0.5
    assert np.abs(fisheye_camera.to_points(np.stack([x, rays[:, 1], z], axis=-1), FOCAL) - points).max() < 0.02


def test_the_zoom_of_a_narrow_lens_is_that_of_homographies():
    """A corner of the crop touches a rolled edge between two samples of it."""
    parameters = np.random.default_rng(0).normal(0, 1, (6, 4)) * [15, 10, 0.15, 0.03]
    fix = Correction(geometry.matrices_from_parameters(parameters), [slice(0, 6)], INFO)
    narrow = replace(fix, lens=Lens(2))
    assert np.abs(zooms_to_fill(narrow) - zooms_to_fill(fix)).max() < 1e-3
