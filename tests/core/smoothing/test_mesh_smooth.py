"""A mesh is used where it leaves less shake: with depth and swimming textures, not for moving subjects."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from camera_simulation import make_shake_path
from steadyscale.core import geometry
from steadyscale.core.clip import ClipInfo
from steadyscale.core.crop.zoom import attenuate_correction, zooms_to_fill
from steadyscale.core.path.mesh import MESH_SHAPE, interpolate_mesh
from steadyscale.core.path.motion import Motion
from steadyscale.core.path.trajectory import Trajectory, correction
from steadyscale.core.smoothing.mesh_smooth import MAX_BEND, MAX_OFFSET, shot_mesh, with_mesh
from steadyscale.core.smoothing.smooth import Smoothing, smooth
from steadyscale.core.smoothing.smoothers.gaussian import gaussian
from steadyscale.core.stabilize import StabilizeSettings, correct_motion

COUNT, WIDTH, HEIGHT = 90, 480, 270
INFO = ClipInfo(WIDTH, HEIGHT, Fraction(30), COUNT)
NEAR = slice(8, None)  # columns of vertices that show something near
NEARNESS = 2.5


def camera(readout=0.0):
    """Motion without residuals, and how far the camera has moved: (COUNT, 2) pixels."""
    path = make_shake_path(COUNT, pixels=8.0, angle=0.0)
    path[:, 2:] = 0
    poses = geometry.matrices_from_parameters(path)
    steps = np.concatenate([np.eye(3)[None], geometry.inverse(poses[1:]) @ poses[:-1]])
    return Motion(steps, np.array([0.0, *[1.0] * (COUNT - 1)]), INFO, readout=readout), -path[:, :2]


def plan(motion):
    """A correction that smooths the path; the crop plays no part."""
    measured = Trajectory.of(motion)
    return correction(measured, smooth(measured, Smoothing.GAUSSIAN, 2.0))


def with_displacement(motion, displacement):
    """displacement: (COUNT, *MESH_SHAPE, 2), of the content at each vertex, beyond the camera's motion."""
    return replace(motion, residuals=np.diff(displacement, axis=0, prepend=0).astype(np.float32))


def depth():
    motion, moved = camera()
    displacement = np.zeros((COUNT, *MESH_SHAPE, 2))
    displacement[:, :, NEAR] = (NEARNESS - 1) * (moved - moved[0])[:, None, None]
    return with_displacement(motion, displacement), displacement


def high_pass(values):
    """Distance of positions (COUNT, 2) from their smooth mean, away from the ends."""
    weights = np.exp(-0.5 * (np.arange(-21, 22) / 7.0) ** 2)
    weights /= weights.sum()
    smooth = np.stack([np.convolve(column, weights, mode="valid") for column in values.T], axis=-1)
    return float(np.sqrt(np.square(values[21:-21] - smooth).sum(axis=-1).mean()))


def displayed(displacement, mesh, row, column):
    """Displacement of the content at a vertex on the screen, beyond the smooth motion of the camera."""
    return displacement[:, row, column] - mesh[:, row, column]


def test_near_things_are_held_where_lines_may_bend():
    motion, displacement = depth()
    fix = with_mesh(plan(motion), motion, max_bend=None)
    assert high_pass(displayed(displacement, 0 * fix.mesh, 4, 12)) > 4
    assert high_pass(displayed(displacement, fix.mesh, 4, 12)) < 0.8
    assert high_pass(displayed(displacement, fix.mesh, 4, 3)) < 0.3
    assert fix.mesh.dtype == np.float32
    assert np.array_equal(fix.matrices, plan(motion).matrices)


@pytest.mark.parametrize("near", [NEAR, slice(3, 7), slice(15, None)])
def test_a_scene_with_depth_keeps_its_lines_straight(near):
    motion, moved = camera()
    displacement = np.zeros((COUNT, *MESH_SHAPE, 2))
    displacement[:, 4:, near] = 2 * (moved - moved[0])[:, None, None]
    motion = with_displacement(motion, displacement)
    fix = plan(motion)
    offsets, evidence = shot_mesh(fix, motion, slice(0, COUNT), gaussian, 2.0)
    free, _ = shot_mesh(fix, motion, slice(0, COUNT), gaussian, 2.0, max_bend=None)
    assert evidence.is_depth
    assert sag(free) > 2
    assert 0.2 < sag(offsets) <= 2 * MAX_BEND * WIDTH + 0.01


def sag(offsets):
    """Largest distance of a bent row, column or diagonal of vertices from the line through its ends, in pixels."""
    rows = [offsets[:, i, :, 1] for i in range(MESH_SHAPE[0])]
    columns = [offsets[:, :, j, 0] for j in range(MESH_SHAPE[1])]
    diagonals = [np.diagonal(offsets[:, :, j : j + MESH_SHAPE[0]], axis1=1, axis2=2) for j in range(8)]
    lines = [*rows, *columns, *(line.sum(axis=1) / np.sqrt(2) for line in diagonals)]
    share = [np.linspace(0, 1, line.shape[1]) for line in lines]
    chords = [line[:, :1] * (1 - t) + line[:, -1:] * t for line, t in zip(lines, share, strict=True)]
    return max(np.abs(line - chord).max() for line, chord in zip(lines, chords, strict=True))


def test_a_depth_that_grows_evenly_is_held_without_bending():
    """As of a floor: the deviations are an affine function of the position."""
    motion, moved = camera()
    nearness = np.linspace(0, 1, MESH_SHAPE[0])[:, None, None] * np.ones((1, MESH_SHAPE[1], 1))
    displacement = nearness * (moved - moved[0])[:, None, None]
    motion = with_displacement(motion, displacement)
    fix = with_mesh(plan(motion), motion)
    assert high_pass(displayed(displacement, 0 * fix.mesh, 8, 8)) > 2.5
    assert high_pass(displayed(displacement, fix.mesh, 8, 8)) < 0.8
    assert high_pass(displayed(displacement, fix.mesh, 0, 8)) < 0.4
    assert sag(fix.mesh) <= 2 * MAX_BEND * WIDTH + 0.01


def test_a_near_thing_that_lines_forbid_to_hold_does_not_move_the_background():
    motion, displacement = depth()
    fix = with_mesh(plan(motion), motion)
    near, far = (high_pass(displayed(displacement, fix.mesh, 4, column)) for column in (12, 3))
    assert near < 0.95 * high_pass(displayed(displacement, 0 * fix.mesh, 4, 12))
    assert far < 0.5


@pytest.mark.parametrize("pixels", [0.0, 0.15])
def test_planar_clips_have_no_mesh(pixels):
    motion, _ = camera()
    noise = np.random.default_rng(0).normal(0, pixels, (COUNT, *MESH_SHAPE, 2))
    motion = replace(motion, residuals=noise.astype(np.float32))
    fix = plan(motion)
    assert with_mesh(fix, motion) is fix


def test_without_residuals_there_is_no_mesh():
    motion, _ = camera()
    fix = plan(motion)
    assert with_mesh(fix, motion) is fix


def test_a_subject_that_passes_is_not_held():
    motion, _ = camera()
    residuals = np.zeros((COUNT, *MESH_SHAPE, 2), np.float32)
    for i in range(1, COUNT):
        left = round(i / 6)
        residuals[i, 2:, max(0, left - 3) : left + 1, 0] = 5.3
        residuals[i, 2:, max(0, left - 3) : left + 1, 1] = 2 * np.sin(i / 2)
    motion = replace(motion, residuals=residuals)
    fix = plan(motion)
    assert with_mesh(fix, motion) is fix


def swimming(columns, pixels=3.0):
    motion, _ = camera()
    phase = np.linspace(0, 1, MESH_SHAPE[0])[:, None, None] + np.linspace(0, 2, MESH_SHAPE[1])[:, None] + [0, 0.3]
    t = np.arange(COUNT)[:, None, None, None] / 30
    displacement = pixels * np.sin(2 * np.pi * (1.1 * t + phase))
    displacement[:, :, columns:] = 0
    return with_displacement(motion, displacement - displacement[:1]), displacement - displacement[:1]


def test_textures_that_swim_all_over_the_frame_are_held():
    motion, displacement = swimming(MESH_SHAPE[1])
    fix = with_mesh(plan(motion), motion)
    before = high_pass(displayed(displacement, 0 * fix.mesh, 4, 8))
    assert high_pass(displayed(displacement, fix.mesh, 4, 8)) < before / 2


def test_leaves_in_a_part_of_the_frame_may_move():
    motion, _ = swimming(9)
    fix = plan(motion)
    assert with_mesh(fix, motion) is fix


def test_content_that_passes_quickly_is_not_bent():
    motion, _ = depth()
    pan = np.tile(np.eye(3), (COUNT, 1, 1))
    pan[1:, 0, 2] = -4  # pixels: a quarter of the frame in a second
    motion = replace(motion, steps=geometry.normalize(pan @ motion.steps))
    fix = plan(motion)
    assert with_mesh(fix, motion) is fix


def test_a_shot_without_depth_stays_as_it_is():
    motion, _ = depth()
    both = Motion(
        np.concatenate([motion.steps, motion.steps]),
        np.concatenate([motion.confidence, motion.confidence]),
        replace(INFO, length=2 * COUNT),
        residuals=np.concatenate([motion.residuals, 0 * motion.residuals]),
    )
    fix = with_mesh(plan(both), both)
    assert fix.mesh[:COUNT].any()
    assert not fix.mesh[COUNT:].any()


def test_a_crop_limits_the_mesh():
    motion, _ = depth()
    fix = plan(motion)
    free, limited = with_mesh(fix, motion), with_mesh(fix, motion, max_zoom=1.05)
    assert zooms_to_fill(free).max() > 1.06
    assert limited is fix or zooms_to_fill(limited).max() <= 1.06


def test_offsets_are_bounded():
    motion, displacement = depth()
    motion = with_displacement(motion, 20 * displacement)
    fix = with_mesh(plan(motion), motion)
    assert fix.mesh is None or np.linalg.norm(fix.mesh, axis=-1).max() <= MAX_OFFSET * WIDTH + 0.1


def test_unreliable_steps_do_not_count():
    motion, _ = depth()
    wrong = motion.residuals.copy()
    wrong[40] = 15
    confidence = motion.confidence.copy()
    confidence[40] = 0.1
    expected = with_mesh(
        plan(replace(motion, confidence=confidence)),
        replace(motion, residuals=np.where(wrong == 15, 0, wrong), confidence=confidence),
    )
    motion = replace(motion, residuals=wrong, confidence=confidence)
    assert np.array_equal(with_mesh(plan(motion), motion).mesh, expected.mesh)


def test_methods_that_are_no_mean_smooth_the_mesh_as_kalman_does():
    motion, _ = depth()
    fix = plan(motion)
    expected = with_mesh(fix, motion).mesh
    assert np.array_equal(with_mesh(fix, motion, Smoothing.LOCKED).mesh, expected)
    assert np.array_equal(with_mesh(fix, motion, lambda values, _period: values).mesh, expected)
    assert not np.array_equal(with_mesh(fix, motion, Smoothing.GAUSSIAN).mesh, expected)


def test_uneven_timestamps_give_the_same_path():
    motion, _ = depth()
    expected = with_mesh(plan(motion), motion).mesh
    times = np.arange(COUNT) / 30 + 1e-4 * np.sin(np.arange(COUNT))
    uneven = replace(motion, times=times)
    mesh = with_mesh(plan(uneven), uneven).mesh
    assert np.abs(mesh - expected)[5:-5].max() < 0.3
    assert interpolate_mesh(mesh[30], np.zeros((1, 2)), WIDTH, HEIGHT).shape == (1, 2)


def test_what_the_rows_of_a_rolling_shutter_explain_is_no_depth():
    """The residuals are those of a flat scene, filmed row by row."""
    from steadyscale.core.path.mesh import mesh_vertices
    from steadyscale.core.path.rolling_shutter import distort_points, rectify_points

    motion, _ = camera(readout=0.9)
    measured = Trajectory.of(motion)
    vertices = mesh_vertices(WIDTH, HEIGHT).reshape(1, -1, 2)
    true_steps = geometry.inverse(measured.poses[1:]) @ measured.poses[:-1]
    moved = geometry.transform_points(true_steps, rectify_points(measured.rows[:-1], vertices, HEIGHT))
    filmed = distort_points(measured.rows[1:], moved, HEIGHT)
    residuals = np.zeros((COUNT, *MESH_SHAPE, 2), np.float32)
    residuals[1:] = (filmed - geometry.transform_points(motion.steps[1:], vertices)).reshape(-1, *MESH_SHAPE, 2)
    motion = replace(motion, residuals=residuals)
    whole = slice(0, COUNT)
    _, evidence = shot_mesh(plan(motion), motion, whole, gaussian, 2.0)
    _, ignored = shot_mesh(replace(plan(motion), rows=None), motion, whole, gaussian, 2.0)
    assert ignored.deviation * WIDTH > 0.2
    assert evidence.deviation < ignored.deviation / 5


def test_errors_of_the_flow_are_not_smoothed():
    """They accumulate, but have nothing in common from step to step, unlike motion."""
    motion, _ = camera()
    errors = np.random.default_rng(0).normal(0, 1.5, (COUNT, 1, 1, 2)) * np.ones((1, *MESH_SHAPE, 1))
    motion = replace(motion, residuals=errors.astype(np.float32))
    fix = plan(motion)
    _, evidence = shot_mesh(fix, motion, slice(0, COUNT), gaussian, 2.0)
    assert replace(evidence, coherence=1.0).suffices
    assert with_mesh(fix, motion) is fix


def test_flow_that_contradicts_the_homography_everywhere_is_not_depth():
    """As of faint scenes, where the flow is drawn towards noise and overlays that stand still."""
    motion, moved = camera()
    displacement = -0.6 * (moved - moved[0])[:, None, None] * np.ones((1, *MESH_SHAPE, 1))
    motion = with_displacement(motion, displacement)
    fix = plan(motion)
    _, evidence = shot_mesh(fix, motion, slice(0, COUNT), gaussian, 2.0)
    assert replace(evidence, area=0.8).suffices
    assert with_mesh(fix, motion) is fix
    assert not replace(evidence, coherence=0.9).suffices, "nor do textures swim with the camera"


def test_long_shots_are_smoothed_in_parts(monkeypatch):
    motion, _ = depth()
    fix, whole = plan(motion), slice(0, COUNT)
    expected, evidence = shot_mesh(fix, motion, whole, gaussian, 0.5)
    monkeypatch.setattr(geometry, "CHUNK_FRAMES", 35)
    offsets, parts = shot_mesh(fix, motion, whole, gaussian, 0.5)
    assert np.abs(offsets - expected).max() < 0.01
    for name in ("deviation", "area", "gain"):
        assert getattr(parts, name) == pytest.approx(getattr(evidence, name), rel=0.05)
    assert parts.shake_share == pytest.approx(evidence.shake_share, abs=0.05)
    assert parts.coherence == pytest.approx(evidence.coherence, abs=0.05), "without the steps between two parts"


def test_only_the_given_shots_have_a_mesh():
    motion, _ = depth()
    fix = plan(motion)
    assert with_mesh(fix, motion, shots=[]) is fix


def test_the_setting_adds_a_mesh_within_the_zoom():
    motion, _ = depth()
    bent, straight = (correct_motion(motion, StabilizeSettings(mesh=mesh, max_zoom=1.06)) for mesh in ("auto", "off"))
    assert straight.mesh is None
    assert bent.mesh.any()
    assert np.array_equal(bent.matrices, straight.matrices)
    assert zooms_to_fill(bent).max() <= 1.06 + 1e-6


def test_a_shot_that_the_shake_guard_reduces_has_no_mesh(monkeypatch):
    motion, _ = depth()
    reduce = lambda planned: attenuate_correction(planned, np.full(COUNT, 0.5))  # noqa: E731
    monkeypatch.setattr("steadyscale.core.stabilize.correct.without_added_shake", reduce)
    assert correct_motion(motion, StabilizeSettings(mesh="auto")).mesh is None
