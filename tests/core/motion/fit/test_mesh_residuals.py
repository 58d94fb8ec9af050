"""Residuals of a mesh are those of the content near each vertex, in pixels of the clip."""

from fractions import Fraction

import numpy as np
import torch
from camera_simulation import make_texture
from steadyscale.core import geometry
from steadyscale.core.clip import TensorClip
from steadyscale.core.motion.estimate import estimate_motion
from steadyscale.core.motion.fit.mesh_residuals import are_visible, no_residuals, vertex_residuals
from steadyscale.core.motion.optical_flow.correspondences import Correspondences
from steadyscale.core.motion.optical_flow.flow import flow_model
from steadyscale.core.motion.optical_flow.gray_frame import GrayFrame
from steadyscale.core.path.mesh import MESH_SHAPE

WIDTH, HEIGHT = 320, 180
STEP = geometry.matrices_from_parameters(np.array([3.0, -2.0, 0.02, 0.01]))


def grid(weights=1.0):
    """Points at the centers of squares of 4 pixels, which follow STEP and, at the right, move by (2, -1) more."""
    y, x = np.mgrid[2:HEIGHT:4, 2:WIDTH:4].reshape(2, -1)
    points = np.stack([x - WIDTH / 2, y - HEIGHT / 2], axis=-1).astype(float)
    moved = geometry.transform_points(STEP, points)
    moved[points[:, 0] > 0] += [2, -1]
    return Correspondences(points, moved, np.full(len(points), weights))


def test_each_vertex_has_the_motion_near_it():
    residuals = vertex_residuals(grid(), STEP, HEIGHT, WIDTH)
    assert residuals.shape == (*MESH_SHAPE, 2)
    assert residuals.dtype == np.float32
    assert np.abs(residuals[:, :8]).max() < 1e-5
    assert np.abs(residuals[:, 8:] - [2, -1]).max() < 1e-5


def test_outliers_and_points_without_texture_do_not_count():
    matches = grid()
    wrong = np.random.default_rng(0).random(len(matches.weights)) < 0.3
    matches.dst_points[wrong] += np.random.default_rng(1).uniform(-9, 9, (int(wrong.sum()), 2))
    assert np.abs(vertex_residuals(matches, STEP, HEIGHT, WIDTH)[:, :7]).max() < 0.7
    flat = grid()
    flat.weights[flat.src_points[:, 0] > 0] = 0.1
    assert np.abs(vertex_residuals(flat, STEP, HEIGHT, WIDTH)).max() < 1e-5, "filled from their neighbors"
    assert not vertex_residuals(grid(weights=0.1), STEP, HEIGHT, WIDTH).any()


def test_residuals_of_a_clip_are_in_its_pixels():
    """The right third of the scene moves against the camera; frames are measured at half their size."""
    width, height, count = 480, 270, 3
    scene, third = make_texture(height + 40, width + 80), width * 2 // 3
    frames = []
    for i in range(count):
        rows = scene[0, :, 20 + i : 20 + i + height]
        frame = rows[..., 20 + 2 * i : 20 + 2 * i + width].clone()
        frame[..., third:] = rows[..., 40 + third - 4 * i : 40 + width - 4 * i]
        frames.append(frame)
    clip = TensorClip(torch.stack(frames), Fraction(25))
    motion = estimate_motion(clip, flow_model(), side=240, with_residuals=True)
    assert motion.residuals.shape == (count, *MESH_SHAPE, 2)
    assert not motion.residuals[0].any()
    assert np.abs(motion.residuals[1:, 2:-2, 2:7]).max() < 0.4
    assert np.abs(motion.residuals[1:, 2:-2, 13:15] - [6, 0]).max() < 0.8
    assert estimate_motion(clip, flow_model(), side=240).residuals is None


def test_residuals_are_visible_where_they_explain_the_second_frame():
    scene = make_texture(HEIGHT, WIDTH + 8)[:, :1].numpy()
    first = GrayFrame.of(scene[..., 4:-4])
    moved = np.concatenate([scene[..., 4 : 4 + WIDTH // 2], scene[..., 2 + WIDTH // 2 : -6]], axis=-1)
    residuals = no_residuals()
    residuals[:, 8:, 0] = 2
    still = np.eye(3)
    assert are_visible(residuals, still, first, GrayFrame.of(moved))
    assert not are_visible(residuals, still, first, first)
    assert not are_visible(-residuals, still, first, GrayFrame.of(moved))
    assert not are_visible(no_residuals(), still, first, GrayFrame.of(moved))
    assert not are_visible(residuals, still, first, GrayFrame.of(1.03 * moved)), "the light changes"
    shifted = geometry.matrices_from_parameters(np.array([3.0, 0, 0, 0]))
    moved_on = np.roll(moved, 3, axis=-1)
    assert are_visible(residuals, shifted, first, GrayFrame.of(moved_on))


def test_bars_are_not_part_of_the_mesh():
    from dataclasses import replace

    from steadyscale.core.bars import Bars
    from steadyscale.core.clip import ClipInfo
    from steadyscale.core.path.mesh import mesh_vertices
    from steadyscale.core.path.motion import Motion

    info = ClipInfo(WIDTH, HEIGHT, Fraction(25), 2)
    linear = mesh_vertices(WIDTH, HEIGHT).astype(np.float32)
    motion = Motion(np.tile(np.eye(3), (2, 1, 1)), np.array([0.0, 1.0]), info)
    inside = replace(motion, residuals=np.stack([linear, linear])).inside(Bars(left=40, bottom=20))
    assert np.abs(inside.residuals[1] - (mesh_vertices(280, 160) - np.array([-20, 10]))).max() < 0.01
    assert motion.inside(Bars(left=40)).residuals is None
