from dataclasses import replace
from fractions import Fraction

import fisheye_camera
import numpy as np
import pytest
import torch
from steadyscale.core import geometry
from steadyscale.core.bars import Bars
from steadyscale.core.clip import ClipInfo, TensorClip
from steadyscale.core.lens import Lens, LensDetection
from steadyscale.core.motion import lens_view
from steadyscale.core.motion.lens_view import LensView, ViewClip, sample_plane, to_rotations, view_masks
from steadyscale.core.path.motion import Motion
from steadyscale.core.stabilization_report import report_stabilization
from steadyscale.core.stabilize import StabilizeSettings, correct_motion, measure_motion
from steadyscale.core.warping.sampling_map import sampling_map

INFO = ClipInfo(480, 270, Fraction(25), 30)
VIEW = LensView(INFO, Lens(150))


def test_the_view_is_a_frame_without_distortion():
    """A straight line of the view is a great circle: the cross product of two rays, all others at right angles."""
    x, y = VIEW.coords(270, 480)
    assert x.min() >= -0.5
    assert y.min() >= -0.5
    assert x.max() <= 479.5
    assert y.max() <= 269.5
    points = np.stack([x[60], y[60]], axis=-1) - [239.5, 134.5]
    rays = fisheye_camera.to_rays(points, 240 / np.radians(75))
    normal = np.cross(rays[0], rays[-1])
    assert np.abs(rays @ normal / np.linalg.norm(normal)).max() < 1e-6


def test_homographies_of_the_view_become_the_rotations_of_the_camera():
    rotations = fisheye_camera.shake(30, 0.05)
    k = np.diag([VIEW.focal, VIEW.focal, 1.0])
    turns = np.swapaxes(rotations[1:], 1, 2) @ rotations[:-1]
    zooms = np.diag([1.01, 1.01, 1.0])
    steps = geometry.normalize(np.concatenate([np.eye(3)[None], zooms @ k @ turns @ np.linalg.inv(k)]))
    motion = to_rotations(Motion(steps, np.array([0.0, *[1.0] * 29]), INFO), VIEW)
    found, scale = VIEW.camera.rotations(geometry.inverse(motion.steps[1:]))
    assert np.abs(found - np.swapaxes(turns, 1, 2)).max() < 1e-9
    assert np.abs(scale - 1 / 1.01).max() < 1e-3
    assert motion.lens == Lens(150)


def test_steps_that_are_no_motion_stay_so():
    steps = np.tile(np.eye(3), (3, 1, 1))
    steps[2] = np.nan
    motion = to_rotations(Motion(steps, np.array([0.0, 1, 1]), INFO), VIEW)
    assert (motion.steps[:2] == np.eye(3)).all()
    assert 0 < motion.confidence[2] < 0.2, "unknown, and no cut"


def test_bars_do_not_belong_to_the_view():
    plane = torch.zeros(1, 3, 270, 480)
    plane[:, :, 30:240, 100:480] = 0.5
    clip = TensorClip(plane, Fraction(25))
    view = ViewClip(clip, LensView(clip.info, Lens(150), Bars(100, 30, 0, 30)))
    luma = next(view.luma_frames(480))
    assert view.info.size == (380, 210)
    assert luma.min() > 0.49


def test_masks_are_those_of_the_view():
    mask = torch.zeros(1, 270, 480)
    mask[:, :, 240:] = 1
    for given in (mask, mask.numpy() > 0.5, lambda number: mask[0]):
        mapped = view_masks(given, VIEW)
        first = np.asarray(mapped(0) if callable(mapped) else mapped[0], float)
        assert first[:, :235].max() < 0.01
        assert first[:, 245:].min() > 0.99


def test_planes_are_sampled_alike_without_opencv(monkeypatch):
    plane = np.random.default_rng(0).random((27, 48), np.float32)
    x, y = (np.random.default_rng(1).random((9, 16)) * [[46]] for _ in range(2))
    coords = x.astype(np.float32), (y / 2).astype(np.float32)
    with_opencv = sample_plane(plane, *coords)
    monkeypatch.setattr(lens_view, "optional_opencv", lambda: None)
    assert np.abs(sample_plane(plane, *coords) - with_opencv).max() < 0.03


@pytest.fixture(scope="module")
def fisheye_clip():
    rotations = fisheye_camera.shake(40, 0.03)
    return TensorClip(fisheye_camera.render(rotations, 120 / np.radians(75), 240, 136), Fraction(25)), rotations


def test_a_detected_fisheye_is_stabilized_along_rays(fisheye_clip):
    clip, rotations = fisheye_clip
    points, center, focal = fisheye_camera.frame_points(240, 136), np.array([239, 135]) / 2, 120 / np.radians(75)
    residuals = {}
    for lens in (LensDetection.AUTO, LensDetection.OFF):
        motion = measure_motion(clip, StabilizeSettings(lens=lens))
        assert motion.bows is None
        fix = correct_motion(motion)
        shown = np.stack([sampling_map(fix, i).map_points(points + center) - center for i in range(40)])
        residuals[lens] = fisheye_camera.residual(rotations, focal, shown)
        report = report_stabilization(motion, fix, StabilizeSettings().border)
        if lens is LensDetection.AUTO:
            assert motion.lens is not None
            assert motion.lens.fov == pytest.approx(150, rel=0.08)
            assert f"field of view {motion.lens.fov:.0f} degrees" in str(report)
            assert report.as_dict()["field_of_view"] == motion.lens.fov
        else:
            assert motion.lens is None
            assert report.as_dict()["field_of_view"] is None
    assert residuals[LensDetection.OFF] > 0.4
    assert residuals[LensDetection.AUTO] < 0.25 * residuals[LensDetection.OFF]


def test_a_shake_of_a_given_lens_is_measured_exactly(fisheye_clip):
    clip, rotations = fisheye_clip
    motion = measure_motion(clip, StabilizeSettings(lens=150))
    found, _ = LensView(clip.info, Lens(150)).camera.rotations(geometry.inverse(motion.steps[1:]))
    truth = np.swapaxes(rotations[:-1], 1, 2) @ rotations[1:]
    angle = np.arccos(np.clip((np.trace(np.swapaxes(found, 1, 2) @ truth, axis1=1, axis2=2) - 1) / 2, -1, 1))
    assert angle.max() * 120 / np.radians(75) < 0.1, "pixels"
    assert replace(motion, lens=None).info.size == (240, 136)
