"""Sampling maps rectify a rolling shutter in one interpolation, with every border."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from camera_simulation import make_texture, render_camera, render_rolling_shutter
from steadyscale.core import geometry
from steadyscale.core.clip import ClipInfo, TensorClip
from steadyscale.core.crop.border import Border
from steadyscale.core.crop.zoom import MAX_ZOOM, adaptive_zoom, limit_zoom, zooms_to_fill
from steadyscale.core.path import rolling_shutter
from steadyscale.core.path.trajectory import Correction, Trajectory, correction, inverse
from steadyscale.core.pipeline.pipeline import Pipeline
from steadyscale.core.pipeline.slicing import render_piece
from steadyscale.core.pipeline.warp_op import WarpOp, union_fill_mask
from steadyscale.core.smoothing.smooth import smooth
from steadyscale.core.smoothing.transfer import undo
from steadyscale.core.warping.sampling_map import sampling_maps
from steadyscale.core.warping.warp import warp

WIDTH, HEIGHT, COUNT, READOUT = 320, 180, 24, 0.8


def pose_at(times):
    t = np.asarray(times)[:, None] / 25
    phase = np.array([0.0, 0.3, 0.6, 0.8])
    return geometry.matrices_from_parameters(np.sin(2 * np.pi * (3.0 * t + phase)) * [14, 9, 0.02, 0.02])


@pytest.fixture(scope="module")
def scene():
    """A white square with a texture around it."""
    image = make_texture(540, 800) * 0.5
    image[..., 210:330, 330:470] = 1.0
    return image


@pytest.fixture(scope="module")
def distorted(scene):
    return render_rolling_shutter(scene, pose_at, WIDTH, HEIGHT, COUNT, READOUT)


@pytest.fixture(scope="module")
def fix():
    """The correction to the pose at time 0, with rectified rows, from the true path."""
    info = ClipInfo(WIDTH, HEIGHT, Fraction(25), COUNT)
    poses = pose_at(np.arange(COUNT))
    rows = np.stack(
        [np.linalg.inv(poses) @ pose_at(np.arange(COUNT) + READOUT * h) for h in rolling_shutter.ROW_HEIGHTS], axis=1
    )
    measured = Trajectory(poses, [slice(0, COUNT)], info, geometry.normalize(rows))
    return correction(measured, replace(measured, poses=np.tile(poses[:1], (COUNT, 1, 1))))


def warped(frames, fix, border, **settings):
    out = list(warp(TensorClip(frames, Fraction(25)).frames(), fix, border, **settings))
    return torch.cat([w.frames for w in out]), torch.cat([w.fill_mask for w in out])


def test_sheared_square_is_rectified_and_static(scene, distorted, fix):
    still = render_camera(scene, pose_at([0]), WIDTH, HEIGHT)
    moved, fill_mask = warped(distorted, fix, Border.MIRROR)
    in_source = 1 - fill_mask[:, None]
    missed = ((moved - still).abs() * in_source).sum() / (3 * in_source.sum())
    without, _ = warped(distorted, replace(fix, rows=None), Border.MIRROR)
    before = ((without - still).abs() * in_source).sum() / (3 * in_source.sum())
    assert missed < 0.006, "the error of two interpolations"
    assert before > 0.02, "the matrices alone leave the shear"
    edge = [(moved[:, 0, row, 40:] > 0.75).float().argmax(dim=1) for row in (50, 90, 130)]
    assert (edge[0] - edge[2]).abs().max() <= 1
    slanted = [(without[:, 0, row, 40:] > 0.75).float().argmax(dim=1) for row in (50, 90, 130)]
    assert (slanted[0] - slanted[2]).abs().max() >= 3, "the input is sheared"


@pytest.mark.parametrize("factor", [1, 3])
def test_source_coords_are_exact(fix, factor):
    large = fix.scaled(factor)
    width, height = large.info.width, large.info.height
    buffers = torch.empty(3, height, width)
    for i, sampling in enumerate(sampling_maps(large)):
        x, y = (place.double().numpy() for place in sampling.source_coords(buffers))
        points = np.stack([x - (width - 1) / 2, y - (height - 1) / 2], axis=-1) / factor
        for column in (0, width // 2, width - 1):
            rows = pose_at(i + READOUT * points[:, column, 1].clip(-108, 108) / HEIGHT)
            seen = (
                geometry.transform_points(np.linalg.inv(pose_at([0])) @ rows, points[:, column][:, None])[:, 0] * factor
            )
            truth = np.stack([np.full(height, column - (width - 1) / 2), np.arange(height) - (height - 1) / 2], -1)
            assert np.abs(seen - truth).max() < 0.03 * factor


def test_source_coords_are_smooth_across_cells(fix):
    buffers = torch.empty(3, HEIGHT, WIDTH)
    for sampling in sampling_maps(fix):
        x, y = sampling.source_coords(buffers)
        for place in (x, y):
            bow = place[2:] - 2 * place[1:-1] + place[:-2]
            assert bow.abs().max() < 0.03, "pixels, where two cells meet"


@pytest.mark.parametrize("border", [Border.CROP, Border.CROP_ADAPTIVE])
@pytest.mark.parametrize("inverted", [False, True])
def test_crop_of_rolling_shutter_frames_contains_source_pixels_only(distorted, fix, border, inverted):
    fix = inverse(fix) if inverted else fix
    moved, fill_mask = warped(torch.full_like(distorted, 0.7), fix, border)
    assert not fill_mask.any()
    assert torch.allclose(moved, torch.full_like(moved, 0.7), atol=1e-5)
    assert zooms_to_fill(fix).max() < MAX_ZOOM


@pytest.mark.parametrize(("border", "pad"), [(Border.MIRROR, 0), (Border.EDGE, 7), (Border.WRAP, 0), (Border.FILL, 7)])
def test_every_border_fills_every_pixel(fix, border, pad):
    moved, fill_mask = warped(torch.full((COUNT, 3, HEIGHT, WIDTH), 0.7), fix, border, pad=pad)
    assert torch.allclose(moved, torch.full_like(moved, 0.7), atol=1e-4)
    assert fill_mask.any()


def test_fill_mask_matches_black_pixels(fix):
    moved, fill_mask = warped(torch.ones(COUNT, 3, HEIGHT, WIDTH), fix, Border.BLACK)
    assert (moved[:, 0][fill_mask > 0] < 0.8).all()
    assert (moved[:, 0][fill_mask == 0] > 0.2).all(), "a quarter of a pixel at a corner"
    ever = union_fill_mask(WarpOp(fix, Border.BLACK), fix.info)[0]
    assert (ever >= fill_mask.amax(dim=0)).all()


def test_neighbors_are_rectified_with_their_own_rows(scene, distorted, fix):
    still = render_camera(scene, pose_at([0]), WIDTH, HEIGHT)
    error = {}
    for name, given in (("rows", fix), ("none", replace(fix, rows=None))):
        moved, fill_mask = warped(distorted, given, Border.FILL)
        hidden = fill_mask[:, None] * torch.ones(1, 3, 1, 1)
        error[name] = float(((moved - still).abs() * hidden).sum() / hidden.sum())
    assert error["rows"] < 0.02
    assert error["rows"] < error["none"] / 2


@pytest.mark.parametrize("max_zoom", [1.0, 1.02, 1.1, 1.3])
def test_limit_zoom_includes_the_rows(fix, max_zoom):
    limited = limit_zoom(fix, max_zoom)
    assert zooms_to_fill(limited).max() <= max_zoom * (1 + 1e-9)
    if max_zoom == 1.3:
        assert limited is fix
    if max_zoom == 1.1:
        assert np.array_equal(limited.rows, fix.rows), "the limit allows them"


def test_adaptive_zoom_includes_the_rows(fix):
    straight = replace(fix, rows=None)
    assert zooms_to_fill(adaptive_zoom(fix)).max() == pytest.approx(1.0, abs=1e-6)
    assert zooms_to_fill(fix).max() < zooms_to_fill(straight).max() + 0.1


def test_undo_restores_the_rolling_shutter(distorted, fix):
    steady, _ = warped(distorted, fix, Border.MIRROR, pad=40)
    again, _ = warped(steady, undo(fix, Border.MIRROR, pad=40), Border.MIRROR, pad=-40)
    assert (again - distorted).abs()[..., 8:-8, 8:-8].mean() < 0.012, "two interpolations"
    wrong, _ = warped(steady, undo(replace(fix, rows=None), Border.MIRROR, pad=40), Border.MIRROR, pad=-40)
    assert (wrong - distorted).abs()[..., 8:-8, 8:-8].mean() > 0.02
    assert np.allclose(inverse(inverse(fix)).matrices, fix.matrices)
    assert not inverse(inverse(fix)).distorts_rows


def test_rendered_piece_equals_the_whole_clip(distorted, fix):
    clip = TensorClip(distorted, Fraction(25))
    plan, piece = Pipeline(clip).then(WarpOp(fix, Border.MIRROR)), range(9, 14)
    expected = torch.cat(list(plan.frames()))
    frames = (distorted[i : i + 1] for i in piece)
    assert torch.equal(torch.cat(list(render_piece(plan, frames, piece, piece))), expected[9:14])


def test_corrected_path_has_no_rows(fix):
    measured = Trajectory(fix.poses, fix.shots, fix.info, fix.rows)
    assert measured.corrected(fix).rows is None
    assert correction(measured, smooth(measured)).rows is fix.rows
    assert Correction(fix.matrices, fix.shots, fix.info).rows is None
