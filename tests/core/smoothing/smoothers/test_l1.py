import sys
from fractions import Fraction

import numpy as np
import pytest
from camera_simulation import make_shake_path, measure_jitter
from scipy import optimize
from steadyscale.core import geometry
from steadyscale.core.clip import ClipError, ClipInfo
from steadyscale.core.crop.zoom import limit_zoom, zooms_to_fill
from steadyscale.core.path.trajectory import Trajectory, correction
from steadyscale.core.smoothing.smooth import Smoothing, smooth
from steadyscale.core.smoothing.smoothers import l1 as l1_module


def trajectory(path, width=640, height=360):
    info = ClipInfo(width, height, Fraction(25), len(path))
    return Trajectory(geometry.matrices_from_parameters(np.asarray(path, dtype=float)), [slice(0, len(path))], info)


def oscillation(hertz, frames=150, amplitude=10.0):
    path = np.zeros((frames, 4))
    path[:, 0] = amplitude * np.sin(2 * np.pi * hertz * np.arange(frames) / 25)
    return path


def smoothed(path, **settings):
    measured = trajectory(path)
    wanted = smooth(measured, Smoothing.L1, **settings)
    return wanted.path, correction(measured, wanted)


def test_shaken_tripod_is_static_and_shaken_pan_is_linear():
    shaken = make_shake_path(120, seed=1, pixels=3)
    still, _ = smoothed(shaken)
    assert np.abs(np.diff(still, axis=0)).max() < 0.02, "constant"
    pan, _ = smoothed(shaken + np.outer(np.arange(120.0), [1.5, 0, 0, 0]))
    assert np.allclose(np.diff(pan, axis=0)[20:-20], [1.5, 0, 0, 0], atol=0.06), "linear"
    assert np.abs(np.diff(pan, 2, axis=0)).max() < 0.02


def test_fast_oscillations_are_removed_and_slow_ones_kept():
    assert np.abs(smoothed(oscillation(1.5), seconds=2.0)[0][40:100, 0]).max() < 0.01
    slow = oscillation(0.25)
    kept, _ = smoothed(slow, seconds=2.0)
    assert np.abs(kept - slow)[20:-20, 0].max() < 1.5


@pytest.mark.parametrize("max_zoom", [1.02, 1.06, 1.3])
def test_max_zoom_is_a_constraint(max_zoom):
    path = make_shake_path(100, seed=2, pixels=8) + np.outer(np.arange(100.0), [1, 0.5, 0, 0])
    left, fix = smoothed(path, max_zoom=max_zoom)
    assert zooms_to_fill(fix).max() <= max_zoom
    assert limit_zoom(fix, max_zoom) is fix, "already within the limit"
    assert geometry.to_parameters(fix.matrices)[:, 3].max() < 0.03, "views are not reduced in scale instead"
    assert measure_jitter(left, 640, 360) < measure_jitter(path, 640, 360) / 4


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_another_method_is_tried_when_the_solver_ends_without_a_path(monkeypatch, failures):
    """HiGHS ends with "Not Set" on some measured paths."""
    path = make_shake_path(60, seed=2, pixels=8)
    expected, _ = smoothed(path, max_zoom=1.05)
    solve, calls = optimize.linprog, []

    def linprog(*args, **options):
        calls.append(options["method"])
        result = solve(*args, **options)
        return optimize.OptimizeResult(x=None, message="Not Set") if len(calls) <= failures else result

    monkeypatch.setattr(optimize, "linprog", linprog)
    left, fix = smoothed(path, max_zoom=1.05)
    assert calls == ["highs", "highs-ds", "highs-ipm", "highs-ipm"][: failures + 1]
    slack = 0.5 if failures == 3 else 0.02  # pixels of 0.002 half widths, and of another vertex of the same cost
    assert np.abs(left - expected)[:, :2].max() < slack * 3
    assert zooms_to_fill(limit_zoom(fix, 1.05)).max() <= 1.05 + 1e-9


def test_a_solver_that_finds_nothing_is_one_clear_error(monkeypatch):
    failed = optimize.OptimizeResult(x=None, message="Not Set")
    monkeypatch.setattr(optimize, "linprog", lambda *_, **__: failed)
    with pytest.raises(
        ClipError, match=r"no camera path was found within the zoom allowed \(Not Set\): allow more zoom"
    ):
        smoothed(make_shake_path(30), max_zoom=1.05)


def test_zoom_of_one_returns_the_path():
    path = make_shake_path(30)
    left, fix = smoothed(path, max_zoom=1.0)
    assert np.allclose(left, path)
    assert np.allclose(fix.matrices, np.eye(3), atol=1e-9)
    with pytest.raises(ClipError, match="1 or more"):
        smoothed(path, max_zoom=0.9)


def test_perspective_is_smoothed_within_max_zoom():
    tangents = np.zeros((100, 8))
    tangents[:, 6] = 1e-4 * np.sin(np.arange(100))
    measured = Trajectory(
        geometry.matrices_from_tangents(tangents), [slice(0, 100)], ClipInfo(640, 360, Fraction(25), 100)
    )
    wanted = smooth(measured, Smoothing.L1, max_zoom=1.2)
    assert np.abs(geometry.to_tangents(wanted.poses)[20:-20, 6]).max() < 1e-5
    assert zooms_to_fill(correction(measured, wanted)).max() <= 1.2


def test_windows_of_long_shots_join_smoothly(monkeypatch):
    path = make_shake_path(150, seed=4, pixels=4) + np.outer(np.arange(150.0), [1, 0, 0, 0])
    single, _ = smoothed(path, seconds=3.0, max_zoom=1.1)
    monkeypatch.setattr(l1_module, "WINDOW_FRAMES", 60)
    monkeypatch.setattr(l1_module, "OVERLAP_FRAMES", 20)
    parts, fix = smoothed(path, seconds=3.0, max_zoom=1.1)
    assert zooms_to_fill(fix).max() <= 1.1
    assert measure_jitter(parts, 640, 360) < 0.03
    assert np.abs(parts - single)[:, :2].max() < 3


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2)])
def test_tiny_frames(size):
    measured = trajectory(make_shake_path(12), *size)
    wanted = smooth(measured, Smoothing.L1)
    assert np.isfinite(correction(measured, wanted).matrices).all()


def test_missing_scipy_is_a_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ClipError, match="pip install scipy"):
        smoothed(make_shake_path(20))


@pytest.mark.parametrize("max_zoom", [1.01, 1.3])
def test_solution_has_the_minimum_cost(max_zoom):
    """A direct formulation, with a slack variable per absolute value, has the same minimum."""
    n, period, random = 25, 30.0, np.random.default_rng(5)
    turns = np.exp(0.02 * (random.normal(size=n - 1) + 1j * random.normal(size=n - 1)))
    shifts = 0.03 * (random.normal(size=n - 1) + 1j * random.normal(size=n - 1))
    bends = geometry.matrices_from_tangents(random.normal(size=(n, 8)) * [0, 0, 0, 0, 1e-3, 1e-3, 1e-6, 1e-6])
    rows, bounds = l1_module._crop_constraints(bends, ClipInfo(640, 360, Fraction(25), n), max_zoom, 320.0)
    sizes, known = np.full(n, 0.999), np.array([[1.0, 0, 0, 0]])
    found = l1_module._solve_window(
        l1_module._import_scipy(), turns, shifts, (rows, bounds), sizes, period, known, np.arange(n, dtype=float)
    ).ravel()

    # The difference of two views is the next one, rotated by the step, minus the first.
    matrix, target, weights = np.eye(4 * n), np.tile([1.0, 0, 0, 0], n), np.tile([1.5, 1.5, 1, 1], n)
    matrices, targets, costs = [matrix], [target], [3.0 * weights]
    for order in (1, 2, 3):
        step = np.zeros((4 * (n - order), 4 * (n - order + 1)))
        for i in range(n - order):
            turn = np.array([[turns[i].real, -turns[i].imag], [turns[i].imag, turns[i].real]])
            step[4 * i : 4 * i + 4, 4 * i : 4 * i + 4] = -np.eye(4)
            step[4 * i : 4 * i + 4, 4 * i + 4 : 4 * i + 8] = np.kron(np.eye(2), turn)
        moved = -np.stack([0 * shifts.real, 0 * shifts.real, shifts.real, shifts.imag], axis=-1).ravel()
        matrix, target = step @ matrix, moved if order == 1 else step @ target
        matrices.append(matrix), targets.append(target)
        costs.append((period / (2 * np.pi)) ** order * weights[: len(target)])
    matrix, target, cost = np.concatenate(matrices), np.concatenate(targets), np.concatenate(costs)
    walls = np.zeros((16 * (n - 1), 4 * n))
    for i in range(1, n):
        walls[16 * i - 16 : 16 * i, 4 * i : 4 * i + 4] = rows[i]
    slack = np.eye(len(target))
    least = optimize.linprog(
        np.concatenate([np.zeros(4 * n), cost]),
        np.block([[matrix, -slack], [-matrix, -slack], [walls, np.zeros((len(walls), len(target)))]]),
        np.concatenate([target, -target, bounds[1:].ravel()]),
        bounds=[*([(1, 1), (0, 0), (0, 0), (0, 0)] + (n - 1) * [(0.999, None), *3 * [(None, None)]])]
        + len(target) * [(0, None)],
    )
    ours = cost @ np.abs(matrix @ found - target)
    assert abs(ours - least.fun) < 1e-4 * least.fun
    assert (walls @ found <= bounds[1:].ravel() + 1e-6).all()
    assert (found[::4] >= 0.999 - 1e-6).all()
    assert np.allclose(found[:4], known)
    if max_zoom == 1.01:
        assert (walls @ found > bounds[1:].ravel() - 1e-6).any(), "constraints are active"
