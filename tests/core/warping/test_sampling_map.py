"""Frames bent by a rolling shutter become straight, in one look-up, with every border."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from camera_simulation import make_texture, render_camera, render_rolling_shutter
from steadyscale.core import geometry
from steadyscale.core.clip import ClipInfo, TensorClip
from steadyscale.core.path import rolling_shutter
from steadyscale.core.path.border import Border
from steadyscale.core.path.smooth import smooth
from steadyscale.core.path.trajectory import Correction, Trajectory, correction, inverse
from steadyscale.core.path.transfer import undo
from steadyscale.core.path.zoom import MAX_ZOOM, adaptive_zoom, limit_zoom, zooms_to_fill
from steadyscale.core.pipeline.pipeline import Pipeline
from steadyscale.core.pipeline.slicing import render_piece
from steadyscale.core.pipeline.warp_op import WarpOp, union_fill_mask
from steadyscale.core.warping.sampling_map import sampling_maps
from steadyscale.core.warping.warp import warp

WIDTH, HEIGHT, COUNT, READOUT = 320, 180, 24, 0.8


def way(times):
    t = np.asarray(times)[:, None] / 25
    phase = np.array([0.0, 0.3, 0.6, 0.8])
    return geometry.matrices_from_parameters(np.sin(2 * np.pi * (3.0 * t + phase)) * [14, 9, 0.02, 0.02])


@pytest.fixture(scope="module")
def scene():
    """A white square with a texture around it."""
    picture = make_texture(540, 800) * 0.5
    picture[..., 210:330, 330:470] = 1.0
    return picture


@pytest.fixture(scope="module")
def bent(scene):
    return render_rolling_shutter(scene, way, WIDTH, HEIGHT, COUNT, READOUT)


@pytest.fixture(scope="module")
def fix():
    """What holds the camera still where it is at time 0, and straightens its rows: by the truth, nothing measured."""
    info = ClipInfo(WIDTH, HEIGHT, Fraction(25), COUNT)
    poses = way(np.arange(COUNT))
    rows = np.stack(
        [np.linalg.inv(poses) @ way(np.arange(COUNT) + READOUT * h) for h in rolling_shutter.ROW_HEIGHTS], axis=1
    )
    measured = Trajectory(poses, [slice(0, COUNT)], info, geometry.normalize(rows))
    return correction(measured, replace(measured, poses=np.tile(poses[:1], (COUNT, 1, 1))))


def warped(frames, fix, border, **settings):
    out = list(warp(TensorClip(frames, Fraction(25)).frames(), fix, border, **settings))
    return torch.cat([w.frames for w in out]), torch.cat([w.fill_mask for w in out])


def test_a_slanted_square_becomes_straight_and_stands_still(scene, bent, fix):
    still = render_camera(scene, way([0]), WIDTH, HEIGHT)
    moved, invented = warped(bent, fix, Border.MIRROR)
    genuine = 1 - invented[:, None]
    missed = ((moved - still).abs() * genuine).sum() / (3 * genuine.sum())
    without, _ = warped(bent, replace(fix, rows=None), Border.MIRROR)
    before = ((without - still).abs() * genuine).sum() / (3 * genuine.sum())
    assert missed < 0.006, "what two interpolations leave"
    assert before > 0.02, "the matrices alone leave the slant"
    edge = [(moved[:, 0, row, 40:] > 0.75).float().argmax(dim=1) for row in (50, 90, 130)]
    assert (edge[0] - edge[2]).abs().max() <= 1
    slanted = [(without[:, 0, row, 40:] > 0.75).float().argmax(dim=1) for row in (50, 90, 130)]
    assert (slanted[0] - slanted[2]).abs().max() >= 3, "the test itself slants"


@pytest.mark.parametrize("enlarged", [1, 3])
def test_places_are_exact(fix, enlarged):
    large = fix.scaled(enlarged)
    width, height = large.info.width, large.info.height
    buffers = torch.empty(3, height, width)
    for i, path in enumerate(sampling_maps(large)):
        x, y = (place.double().numpy() for place in path.source_coords(buffers))
        points = np.stack([x - (width - 1) / 2, y - (height - 1) / 2], axis=-1) / enlarged
        for column in (0, width // 2, width - 1):
            rows = way(i + READOUT * points[:, column, 1].clip(-108, 108) / HEIGHT)
            seen = (
                geometry.transform_points(np.linalg.inv(way([0])) @ rows, points[:, column][:, None])[:, 0] * enlarged
            )
            truth = np.stack([np.full(height, column - (width - 1) / 2), np.arange(height) - (height - 1) / 2], -1)
            assert np.abs(seen - truth).max() < 0.03 * enlarged


def test_nothing_steps_from_row_to_row(fix):
    buffers = torch.empty(3, HEIGHT, WIDTH)
    for path in sampling_maps(fix):
        x, y = path.source_coords(buffers)
        for place in (x, y):
            bow = place[2:] - 2 * place[1:-1] + place[:-2]
            assert bow.abs().max() < 0.03, "pixels: where two cells meet"


@pytest.mark.parametrize("border", [Border.CROP, Border.CROP_ADAPTIVE])
@pytest.mark.parametrize("undone", [False, True])
def test_a_crop_shows_source_pixels_only(bent, fix, border, undone):
    fix = inverse(fix) if undone else fix
    moved, invented = warped(torch.full_like(bent, 0.7), fix, border)
    assert not invented.any()
    assert torch.allclose(moved, torch.full_like(moved, 0.7), atol=1e-5)
    assert zooms_to_fill(fix).max() < MAX_ZOOM


@pytest.mark.parametrize(("border", "pad"), [(Border.MIRROR, 0), (Border.EDGE, 7), (Border.WRAP, 0), (Border.FILL, 7)])
def test_every_border_defines_every_pixel(fix, border, pad):
    moved, invented = warped(torch.full((COUNT, 3, HEIGHT, WIDTH), 0.7), fix, border, pad=pad)
    assert torch.allclose(moved, torch.full_like(moved, 0.7), atol=1e-4)
    assert invented.any()


def test_the_mask_says_where_black_is(fix):
    moved, invented = warped(torch.ones(COUNT, 3, HEIGHT, WIDTH), fix, Border.BLACK)
    assert (moved[:, 0][invented > 0] < 0.8).all()
    assert (moved[:, 0][invented == 0] > 0.2).all(), "a quarter at a corner"
    ever = union_fill_mask(WarpOp(fix, Border.BLACK), fix.info)[0]
    assert (ever >= invented.amax(dim=0)).all()


def test_neighbours_fill_with_their_own_rows(scene, bent, fix):
    still = render_camera(scene, way([0]), WIDTH, HEIGHT)
    error = {}
    for name, given in (("rows", fix), ("none", replace(fix, rows=None))):
        moved, invented = warped(bent, given, Border.FILL)
        hidden = invented[:, None] * torch.ones(1, 3, 1, 1)
        error[name] = float(((moved - still).abs() * hidden).sum() / hidden.sum())
    assert error["rows"] < 0.02
    assert error["rows"] < error["none"] / 2


@pytest.mark.parametrize("most", [1.0, 1.02, 1.1, 1.3])
def test_a_budget_counts_the_rows_too(fix, most):
    limited = limit_zoom(fix, most)
    assert zooms_to_fill(limited).max() <= most * (1 + 1e-9)
    if most == 1.3:
        assert limited is fix
    if most == 1.1:
        assert np.array_equal(limited.rows, fix.rows), "there is room for them"


def test_an_adaptive_zoom_is_no_larger_than_it_has_to_be(fix):
    straight = replace(fix, rows=None)
    assert zooms_to_fill(adaptive_zoom(fix)).max() == pytest.approx(1.0, abs=1e-6)
    assert zooms_to_fill(fix).max() < zooms_to_fill(straight).max() + 0.1


def test_rows_are_put_back_as_well(bent, fix):
    steady, _ = warped(bent, fix, Border.MIRROR, pad=40)
    again, _ = warped(steady, undo(fix, Border.MIRROR, pad=40), Border.MIRROR, pad=-40)
    assert (again - bent).abs()[..., 8:-8, 8:-8].mean() < 0.012, "two look-ups"
    wrong, _ = warped(steady, undo(replace(fix, rows=None), Border.MIRROR, pad=40), Border.MIRROR, pad=-40)
    assert (wrong - bent).abs()[..., 8:-8, 8:-8].mean() > 0.02
    assert np.allclose(inverse(inverse(fix)).matrices, fix.matrices)
    assert not inverse(inverse(fix)).distorts_rows


def test_a_piece_of_a_clip_is_what_it_is_in_the_whole(bent, fix):
    clip = TensorClip(bent, Fraction(25))
    plan, piece = Pipeline(clip).then(WarpOp(fix, Border.MIRROR)), range(9, 14)
    whole = torch.cat(list(plan.frames()))
    frames = (bent[i : i + 1] for i in piece)
    assert torch.equal(torch.cat(list(render_piece(plan, frames, piece, piece))), whole[9:14])


def test_the_corrected_way_and_a_bare_one_have_no_rows(fix):
    measured = Trajectory(fix.poses, fix.shots, fix.info, fix.rows)
    assert measured.corrected(fix).rows is None
    assert correction(measured, smooth(measured)).rows is fix.rows
    assert Correction(fix.matrices, fix.shots, fix.info).rows is None
