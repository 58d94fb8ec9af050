"""Limits of corrections: no frame needs more zoom than is allowed, whatever follows the path."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from camera_simulation import make_shake_path
from steadyscale.core import geometry
from steadyscale.core.clip import ClipInfo
from steadyscale.core.crop.border import Border
from steadyscale.core.crop.zoom import zooms_to_fill
from steadyscale.core.lens import Lens
from steadyscale.core.path.mesh import MESH_SHAPE, mesh_vertices
from steadyscale.core.path.motion import Motion
from steadyscale.core.smoothing.keyframes import Keyframe
from steadyscale.core.smoothing.mesh_smooth import MeshWarp
from steadyscale.core.stabilize import StabilizeSettings, correct_motion


@pytest.mark.parametrize("border", [Border.CROP, Border.CROP_ADAPTIVE])
@pytest.mark.parametrize(
    "wrong", [[-5.4, 48, 0.07, 0.05, 0.02, -0.02, -3e-4, -3e-4], [19, 31, 0.05, -0.16, 0.03, -0.01, -1e-4, 3e-4]]
)
def test_a_wrong_step_after_unmeasured_frames_needs_no_more_zoom_than_allowed(wrong, border):
    count = 48
    steps, confidence = np.tile(np.eye(3), (count, 1, 1)), np.ones(count)
    confidence[1:23], confidence[0] = 1e-3, 0
    steps[23] = geometry.matrices_from_tangents(np.array(wrong))
    motion = Motion(steps, confidence, ClipInfo(320, 180, Fraction(25), count))
    fix = correct_motion(motion, StabilizeSettings(border=border, mesh=MeshWarp.OFF))
    assert zooms_to_fill(fix).max() <= 1.3


@pytest.mark.parametrize("lens", [None, Lens(120.0)])
@pytest.mark.parametrize("limit", [1.05, 1.8])
def test_keyframes_of_the_zoom_replace_the_maximum(lens, limit):
    path = make_shake_path(60, pixels=18, zoom=0)
    steps = np.tile(np.eye(3), (60, 1, 1))
    poses = geometry.matrices_from_parameters(path)
    steps[1:] = geometry.normalize(geometry.inverse(poses[1:]) @ poses[:-1])
    motion = Motion(steps, np.array([0.0, *[1.0] * 59]), ClipInfo(320, 180, Fraction(25), 60), lens=lens)
    one, other = (
        correct_motion(
            motion,
            StabilizeSettings(
                border=Border.CROP_ADAPTIVE,
                max_zoom=max_zoom,
                keyframes=(Keyframe(0, max_zoom=limit),),
                lens=lens or "off",
            ),
        )
        for max_zoom in (1.1, limit)
    )
    assert np.array_equal(one.matrices, other.matrices)
    assert zooms_to_fill(one).max() <= limit
    assert limit < 1.1 or zooms_to_fill(one).max() > 1.1


def test_a_mesh_needs_no_more_zoom_than_the_keyframes_allow():
    """The lower part of the scene is near: it moves further than the rest with every step."""
    poses = geometry.matrices_from_parameters(make_shake_path(90, pixels=3, zoom=0, seed=2))
    steps = np.tile(np.eye(3), (90, 1, 1))
    steps[1:] = geometry.normalize(geometry.inverse(poses[1:]) @ poses[:-1])
    depth = np.clip((mesh_vertices(320, 180)[..., 1] / 180 + 0.1) * 2, 0, 1)
    residuals = np.zeros((90, *MESH_SHAPE, 2), np.float32)
    residuals[1:] = depth[None, ..., None] * steps[1:, :2, 2][:, None, None, :] * 0.8
    motion = Motion(steps, np.array([0.0, *[1.0] * 89]), ClipInfo(320, 180, Fraction(25), 90), residuals=residuals)
    keyframes = (Keyframe(0, max_zoom=1.04),)
    fix = correct_motion(motion, StabilizeSettings(border=Border.CROP_ADAPTIVE, keyframes=keyframes))
    assert fix.mesh is not None
    assert np.abs(fix.mesh).max() > 0.5
    assert zooms_to_fill(fix).max() <= 1.04


def test_a_frame_of_strength_0_keeps_its_rolling_shutter():
    motion = Motion(
        np.tile(geometry.matrices_from_parameters(np.array([[3.0, 0, 0.01, 0]])), (60, 1, 1)),
        np.array([0.0, *[1.0] * 59]), ClipInfo(320, 180, Fraction(25), 60), readout=0.7,
    )  # fmt: skip
    keyframes = (Keyframe(0, strength=0.0), Keyframe(1, strength=0.0), Keyframe(2, strength=1.0))
    fix = correct_motion(motion, StabilizeSettings(border=Border.MIRROR, keyframes=keyframes))
    assert fix.rows is not None
    assert np.abs(fix.rows[:25] - np.eye(3)).max() < 1e-9
    assert np.abs(fix.rows[50:] - np.eye(3)).max() > 1e-3
