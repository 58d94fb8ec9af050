"""A mesh bends points, is undone exactly, and knows which part of the frame it hides."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
from steadyscale.core.clip import ClipInfo
from steadyscale.core.crop.zoom import apply_zoom, zoom_to_fill
from steadyscale.core.path.mesh import (
    MESH_SHAPE,
    bend_points,
    fill_unknown,
    hidden_margins,
    interpolate_mesh,
    median_of_neighbors,
    mesh_vertices,
    resample_mesh,
    unbend_points,
)
from steadyscale.core.path.trajectory import Correction, inverse

WIDTH, HEIGHT = 320, 180


def random_mesh(count=1, pixels=6.0, seed=0):
    """Offsets of about so many pixels, smooth enough not to fold."""
    coarse = np.random.default_rng(seed).uniform(-pixels, pixels, (count, 3, 4, 2))
    y, x = np.linspace(0, 2, MESH_SHAPE[0]), np.linspace(0, 3, MESH_SHAPE[1])
    rows = np.stack([np.apply_along_axis(lambda c: np.interp(y, np.arange(3), c), 1, coarse)], 0)[0]
    return np.apply_along_axis(lambda c: np.interp(x, np.arange(4), c), 2, rows).astype(np.float32)


def random_points(count=500):
    return np.random.default_rng(1).uniform(-0.5, 0.5, (count, 2)) * [WIDTH, HEIGHT]


def test_the_mesh_is_exact_at_vertices_and_linear_between():
    vertices = mesh_vertices(WIDTH, HEIGHT)
    assert vertices[0, 0].tolist() == [-160, -90]
    assert vertices[-1, -1].tolist() == [160, 90]
    linear = (vertices @ np.array([[0.02, 0.01], [-0.03, 0.05]]) + [1, -2]).astype(np.float32)
    points = random_points()
    expected = points @ np.array([[0.02, 0.01], [-0.03, 0.05]]) + [1, -2]
    assert np.allclose(interpolate_mesh(linear, points, WIDTH, HEIGHT), expected, atol=1e-5)
    outside = np.array([[-200.0, -100.0]])
    assert np.allclose(interpolate_mesh(linear, outside, WIDTH, HEIGHT), linear[0, 0], atol=1e-5)


def test_unbending_is_the_inverse():
    mesh, points = random_mesh()[0], random_points()
    bent = bend_points(mesh, points, WIDTH, HEIGHT)
    assert np.abs(bent - points).max() > 2
    assert np.allclose(unbend_points(mesh, bent, WIDTH, HEIGHT), points, atol=1e-3)


def test_points_inside_the_margins_stay_in_the_frame():
    for seed in range(20):
        mesh = random_mesh(seed=seed)
        left, top, right, bottom = hidden_margins(mesh)[0]
        points = random_points().clip([left - 160, top - 90], [160 - right, 90 - bottom])
        bent = bend_points(mesh[0], points, WIDTH, HEIGHT)
        assert (np.abs(bent) <= np.array([160, 90]) + 1e-5).all()
    assert hidden_margins(np.zeros((2, *MESH_SHAPE, 2), np.float32)).tolist() == [[0] * 4] * 2


def test_margins_are_those_of_each_side():
    mesh = np.zeros((1, *MESH_SHAPE, 2), np.float32)
    mesh[:, :, 0, 0], mesh[:, 0, :, 1], mesh[:, :, -1, 0], mesh[:, -1, :, 1] = -1, -2, 3, 4
    assert hidden_margins(mesh).tolist() == [[1, 2, 3, 4]]


def test_a_crop_hides_what_a_mesh_moves_out():
    mesh = random_mesh(3)
    fix = Correction(np.tile(np.eye(3), (3, 1, 1)), [slice(0, 3)], ClipInfo(WIDTH, HEIGHT, Fraction(25), 3), mesh=mesh)
    for each in (fix, inverse(fix), replace(inverse(fix), mesh=-mesh)):
        zoomed = apply_zoom(each, zoom_to_fill(each))
        assert zoomed.matrices[0, 0, 0] > 1.01
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [(WIDTH - 1) / 2, (HEIGHT - 1) / 2]
        edge = np.concatenate([np.linspace(a, b, 50) for a, b in zip(corners, np.roll(corners, 1, 0), strict=True)])
        for own, matrix in zip(each.mesh, zoomed.matrices, strict=True):
            if each.distorts_rows:
                source = unbend_points(own, edge, WIDTH, HEIGHT) / matrix[0, 0]
            else:
                source = bend_points(own, edge / matrix[0, 0], WIDTH, HEIGHT)
            assert (np.abs(source) <= np.array([WIDTH - 1, HEIGHT - 1]) / 2 + 1e-3).all()


def test_a_mesh_scales_with_the_frame():
    fix = Correction(np.eye(3)[None], [slice(0, 1)], ClipInfo(WIDTH, HEIGHT, Fraction(25), 1), mesh=random_mesh())
    assert np.allclose(fix.scaled(2).mesh, 2 * fix.mesh)


def test_unknown_residuals_get_the_mean_of_their_neighbors():
    values = np.full((2, *MESH_SHAPE, 2), np.nan, np.float32)
    values[0, 4, 4], values[0, 4, 6] = [1, 3], [3, 5]
    filled = fill_unknown(values)
    assert filled[0, 4, 4].tolist() == [1, 3]
    assert filled[0, 4, 5].tolist() == [2, 4]
    assert filled[0, 4, 0].tolist() == [1, 3]
    assert np.isfinite(filled).all()
    assert not filled[1].any()


def test_the_median_removes_a_single_vertex():
    values = np.ones((1, *MESH_SHAPE, 2), np.float32)
    values[0, 3, 3] = 50
    assert (median_of_neighbors(values) == 1).all()


def test_an_area_has_the_mesh_that_the_frame_has_there():
    mesh = (mesh_vertices(WIDTH, HEIGHT)[None] * [0.02, -0.03] + 1).astype(np.float32)
    area = resample_mesh(mesh, (WIDTH, HEIGHT), (200, 140), (-20.0, 10.0))
    points = random_points() * [200 / WIDTH, 140 / HEIGHT]
    expected = interpolate_mesh(mesh[0], points + np.array([-20, 10]), WIDTH, HEIGHT)
    assert np.allclose(interpolate_mesh(area[0], points, 200, 140), expected, atol=0.01)
