from fractions import Fraction

import numpy as np
import pytest
from camera_simulation import make_shake_path
from scipy.optimize import minimize
from steadyscale.core import geometry
from steadyscale.core.clip import ClipInfo
from steadyscale.core.crop import crop_qp

INFO = ClipInfo(640, 360, Fraction(25))
CORNERS = geometry.corners(640, 360)


def straight(frames):
    return np.tile(np.eye(3), (frames, 1, 1))


def cost(x, period):
    return (x**2).sum() + (period / 2 / np.pi) ** 4 * (np.diff(x, 2, axis=0) ** 2).sum()


@pytest.mark.parametrize("frames", [1, 2, 3, 6, 9])
def test_solution_is_optimal(frames):
    """Compared with a dense solver."""
    random = np.random.default_rng(frames)
    walls, room = random.normal(size=(frames, 5, 3)), random.uniform(-1, 0.5, size=(frames, 5))
    inside = random.normal(size=(frames, 3))
    room = np.maximum(room, np.einsum("nwk,nk->nw", walls, inside) + 0.01)
    found = crop_qp._solve_qp(walls, room, inside, 5.0, np.arange(len(walls), dtype=float))
    assert (np.einsum("nwk,nk->nw", walls, found) <= room).all()
    other = minimize(
        lambda x: cost(x.reshape(frames, 3), 5.0),
        inside.ravel(),
        constraints={
            "type": "ineq",
            "fun": lambda x: (room - np.einsum("nwk,nk->nw", walls, x.reshape(-1, 3))).ravel(),
        },
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-12},
    )
    assert abs(cost(found, 5.0) - other.fun) < 1e-5 * max(1, other.fun)


def test_views_within_the_limit_hardly_change():
    views = geometry.matrices_from_parameters(make_shake_path(60, pixels=2, zoom=0))
    assert np.allclose(crop_qp.project_to_crop(views, straight(60), INFO, 1.5, 50.0), views, atol=0.02)


def test_distant_view_is_projected_to_the_edge_of_the_frame():
    views = geometry.matrices_from_parameters(np.tile([400.0, 0, 0, 0], (50, 1)))
    found = geometry.to_parameters(crop_qp.project_to_crop(views, straight(50), INFO, 1.25, 50.0))
    assert np.allclose(found, [639 / 2 * (1 - 1 / 1.25), 0, 0, 0], atol=0.01)


def test_infeasible_problem_returns_the_wanted_views():
    bends = straight(10)
    bends[:, 2, 0] = 1.0
    views = geometry.matrices_from_parameters(make_shake_path(10, pixels=50))
    assert crop_qp.project_to_crop(views, bends, INFO, 1.1, 50.0) is views


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 8, 13, 64])
def test_banded_solver_matches_a_dense_solver(frames):
    random = np.random.default_rng(frames)
    bands = np.zeros((3, frames))
    bands[0], bands[1, : frames - 1], bands[2, : max(frames - 2, 0)] = 9, random.normal(size=max(frames - 1, 0)), 1
    half = random.normal(size=(frames, 4, 4))
    blocks, right = half @ half.transpose(0, 2, 1), random.normal(size=(frames, 4))
    x = crop_qp._solve_block_banded(bands, blocks, right)
    assert np.allclose(np.einsum("nkl,nl->nk", blocks, x) + crop_qp._banded_matmul(bands, x), right, atol=1e-9)


def test_time_is_linear_in_the_length(monkeypatch):
    """Measured by the number of inverted blocks."""
    blocks = []
    solve = np.linalg.solve
    monkeypatch.setattr(np.linalg, "solve", lambda a, b: blocks.append(len(a)) or solve(a, b))
    rounds = {}
    for frames in (200, 800):
        blocks.clear()
        views = geometry.matrices_from_parameters(make_shake_path(frames, pixels=20, zoom=0))
        crop_qp.project_to_crop(views, straight(frames), INFO, 1.05, 75.0)
        rounds[frames] = sum(blocks) / (frames / 2)
    assert rounds[800] < 1.5 * rounds[200]
    assert rounds[200] < 40


def test_chunks_do_not_change_the_solution(monkeypatch):
    views, bends = geometry.matrices_from_parameters(make_shake_path(400, pixels=20, zoom=0)), straight(400)
    bends[:, 0, 1] = 0.01 * np.sin(np.arange(400) / 9)
    at_once = crop_qp.project_to_crop(views, bends, INFO, 1.05, 12.0)
    assert np.abs(at_once - views)[:, :2, 2].max() > 5, "constraints are active"
    monkeypatch.setattr(geometry, "CHUNK_FRAMES", 70)
    in_runs = crop_qp.project_to_crop(views, bends, INFO, 1.05, 12.0)
    assert np.abs(geometry.transform_points(np.linalg.inv(in_runs) @ at_once, CORNERS) - CORNERS).max() < 0.02
    hopeless = bends.copy()
    hopeless[300, 2, 0] = 1.0
    assert crop_qp.project_to_crop(views, hopeless, INFO, 1.05, 12.0) is views, "one infeasible chunk is enough"
