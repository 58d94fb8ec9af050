"""L1-optimal camera path: constant, linear and parabolic segments.

The path stays within a maximum zoom.

Grundmann, Kwatra and Essa, Auto-Directed Video Stabilization with Robust L1 Optimal Camera Paths (2011): of all paths
whose crop stays inside the frames, find the one with the smallest sum of |velocity|, |acceleration| and |jerk|. An L1
norm makes most terms exactly 0 rather than all of them small, hence the three kinds of segments (a tripod, a dolly, a
crane); as the crop is a constraint of a linear program, the maximum zoom is exact.

The variable is the view, a similarity that maps the stabilized frame into the source frame: z -> a z + d, with points
as complex numbers. Lengths are in half widths of the frame, so that all numbers are about 1.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import geometry
from ...clip import ClipError, ClipInfo
from ...crop.zoom import attenuate_to_zoom
from ...path.even_time import frame_durations, separate
from ...path.trajectory import Correction

WINDOW_FRAMES = 240  # frames solved at once: the solver's time grows faster than linearly
OVERLAP_FRAMES = 80  # frames solved again in the next window
JOINT_FRAMES = 3  # frames fixed in the next window: they set its position, velocity and acceleration
ROUNDING_MARGIN = 1e-5  # fraction of the maximum zoom reserved for the solver's rounding
DATA_WEIGHT = 3.0  # weight of the source's path: balances the other terms for oscillations of the given period
MAX_DATA_DURATION = 2.0  # frame times that a frame stands for: one next to a gap is a single sample of the shake
# HiGHS methods and added slack of the crop, in half widths, tried in this order. On some measured paths a method ends
# without a result ("Not Set"); what the slack adds to the zoom is removed by `limit_zoom`.
SOLVERS = (("highs", 0.0), ("highs-ds", 0.0), ("highs-ipm", 0.0), ("highs-ipm", 0.002))
ROTATION_WEIGHT = 1.5  # weight of rotation and zoom: they move the corners, which are farther out than half a width


def l1_path(
    poses: geometry.Matrices,
    guide: geometry.Matrices,
    period: float,
    info: ClipInfo,
    max_zoom: float,
    times: NDArray[np.float64] | None = None,
) -> geometry.Matrices:
    """Smooth the poses (n, 3, 3) of one shot within a maximum zoom.

    None of the results needs more magnification than `max_zoom`, unless the solver finds a path only with slack.

    guide: (n, 3, 3), the poses after another smoother, from which shear and perspective are taken: the linear program
    changes similarities only.
    period: in frame times; faster oscillations of the camera are shake.
    times: (n,), of the frames, in frame times; None for a constant rate.
    Raises ClipError if SciPy, which contains the solver, cannot be imported.
    """
    scipy = _import_scipy()
    budget = max_zoom * (1 - ROUNDING_MARGIN)
    if budget <= 1 or len(poses) < 2:
        return poses.copy()
    base = _match_guide_shear(poses, guide, info, budget)
    half_width = max(info.width / 2, 1.0)
    steps = geometry.to_parameters(geometry.inverse(base[:-1]) @ base[1:])
    steps = geometry.matrices_from_parameters(steps / [half_width, half_width, 1, 1])  # frame i -> frame i - 1
    rotations, shifts = _to_complex(steps)
    constraints, bounds = _crop_constraints(geometry.inverse(poses) @ base, info, budget, half_width)
    n = len(poses)
    times = separate(np.arange(n, dtype=np.float64) if times is None else times)
    min_scales = _min_scales(geometry.inverse(base) @ guide, period, times)
    views = np.zeros((n, 4))
    start, done = 0, 0
    while done < n:
        stop = min(start + WINDOW_FRAMES, n)
        window = slice(start, stop)
        views[window] = _solve_window(
            scipy,
            rotations[start : stop - 1],
            shifts[start : stop - 1],
            (constraints[window], bounds[window]),
            min_scales[window],
            period,
            views[start:done].copy(),
            times[window],
        )
        done = n if stop == n else stop - OVERLAP_FRAMES
        start = done - JOINT_FRAMES
    matrices = np.zeros((n, 3, 3))
    matrices[:, 0, 0] = matrices[:, 1, 1] = views[:, 0]
    matrices[:, 1, 0], matrices[:, 0, 1] = views[:, 1], -views[:, 1]
    matrices[:, :2, 2], matrices[:, 2, 2] = views[:, 2:] * half_width, 1.0
    return geometry.normalize(base @ matrices)


def _import_scipy() -> ModuleType:
    try:
        # SciPy has no stubs, and its submodules are used as attributes.
        import scipy.optimize  # pyright: ignore[reportMissingTypeStubs, reportUnusedImport]
        import scipy.sparse  # pyright: ignore[reportMissingTypeStubs, reportUnusedImport]
    except ImportError as error:
        raise ClipError(
            f"the L1 path needs scipy ({error}): pip install scipy, or choose another smoothing (kalman, gaussian)"
        ) from error
    return scipy


def _match_guide_shear(
    poses: geometry.Matrices, guide: geometry.Matrices, info: ClipInfo, budget: float
) -> geometry.Matrices:
    """Give the poses the guide's shear and perspective.

    They are reduced if they would need too much zoom.
    """
    tangents = geometry.to_tangents(geometry.inverse(guide) @ poses)
    tangents[:, :4] = 0  # position, rotation and zoom are not changed
    shear = Correction(geometry.matrices_from_tangents(tangents), [slice(0, len(poses))], info)
    shear = attenuate_to_zoom(shear, float(np.sqrt(budget)))
    return geometry.normalize(poses @ geometry.inverse(shear.matrices))


def _to_complex(similarities: geometry.Matrices) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """(rotation, shift), each (n,), of the similarities z -> rotation * z + shift."""
    m = similarities
    return m[:, 0, 0] + 1j * m[:, 1, 0], m[:, 0, 2] + 1j * m[:, 1, 2]


def _crop_constraints(
    to_source: geometry.Matrices, info: ClipInfo, budget: float, half_width: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return constraints (n, 16, 4) and bounds (n, 16) of the crop.

    `constraints @ view <= bounds` keeps the crop inside the source.

    to_source: (n, 3, 3), from sheared to source frames. An edge stays a straight line, so each constraint is exact.
    """
    right, bottom = max(info.width - 1, 0) / 2, max(info.height - 1, 0) / 2
    x, y = (geometry.corners(2 * right / budget, 2 * bottom / budget) / half_width).T
    edges = np.array([[1, 0, -right], [-1, 0, -right], [0, 1, -bottom], [0, -1, -bottom]])
    scale = np.diag([half_width, half_width, 1.0])
    lines = edges @ to_source @ scale / half_width  # (n, 4, 3), line . (x, y, 1) <= 0 inside
    a, b, c = (part[..., None] for part in np.moveaxis(lines, -1, 0))  # (n, 4, 1)
    one = np.ones_like(x)
    constraints = np.stack([a * x + b * y, b * x - a * y, a * one, b * one], axis=-1)
    bounds = np.broadcast_to(-c, constraints.shape[:3])
    return constraints.reshape(len(to_source), 16, 4), bounds.reshape(len(to_source), 16)


def _min_scales(views: geometry.Matrices, period: float, times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the minimum scale of each view, (n,).

    It is that of the source, or lower where an oscillation of the zoom needs it.

    Without it, a view of size 0 would be optimal; every per cent of shrinking is crop beyond the maximum zoom.
    views: (n, 3, 3), of the guide, in which the oscillations are removed.
    """
    scales = np.minimum(1.0, np.exp(geometry.to_parameters(views)[:, 3]))
    first = np.searchsorted(times, times - period / 2)
    stop = np.searchsorted(times, times + period / 2, side="right")
    return np.array([scales[a:b].min() for a, b in zip(first, stop, strict=True)])


def _solve_window(
    scipy: ModuleType,
    rotations: NDArray[np.complex128],
    shifts: NDArray[np.complex128],
    constraints: tuple[NDArray[np.float64], NDArray[np.float64]],
    min_scales: NDArray[np.float64],
    period: float,
    fixed: NDArray[np.float64],
    times: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Solve the views (n, 4) of a window: real and imaginary part of a, x and y of d.

    min_scales: (n,), lower bound of the real part of a. fixed: (k, 4), the first views, which are not changed.
    times: (n,).

    The unit of time is a radian of the period, so that all three derivatives of an oscillation of that period have the
    same weight. Derivatives are divided differences, weighted by the time that they span. Each derivative is a
    variable, defined by the previous one: rows stay sparse, and numbers about 1. Each
    is split into its positive and its negative part, whose sum is the absolute value.
    """
    sparse, n = scipy.sparse, len(min_scales)
    radians = period / (2 * np.pi)
    count = min(4, n)  # the difference from the source's view, and its derivatives
    blocks: list[list[Any]] = [[None] * (1 + 2 * count) for _ in range(count)]
    targets, weights = [np.tile([1.0, 0, 0, 0], n)], list[NDArray[np.float64]]()
    for order in range(count):
        size = 4 * (n - order)
        durations = (
            (times[order:] - times[: n - order]) / order
            if order
            else frame_durations(times).clip(max=MAX_DATA_DURATION)
        )
        if order == 0:
            blocks[0][0] = sparse.identity(size)
        else:
            rates = radians / durations
            step = sparse.diags(np.repeat(rates, 4)) @ _difference_operator(sparse, rotations[: n - order])
            if order == 1:
                blocks[1][0] = step
                targets.append(-np.repeat(rates, 4) * np.stack([0 * shifts, shifts], -1).view(np.float64).ravel())
            else:
                blocks[order][2 * order - 1 : 2 * order + 1] = step, -step
                targets.append(np.zeros(size))
        blocks[order][2 * order + 1 : 2 * order + 3] = -sparse.identity(size), sparse.identity(size)
        weights += 2 * [
            (DATA_WEIGHT if order == 0 else 1.0)
            * np.tile([ROTATION_WEIGHT, ROTATION_WEIGHT, 1, 1], n - order)
            * np.repeat(durations, 4)
        ]
    cost = np.concatenate([np.zeros(4 * n), *weights])
    rows, upper = (part[len(fixed) :] for part in constraints)
    bounds = np.tile([0.0, np.inf], (len(cost), 1))
    bounds[: 4 * n, 0] = -np.inf
    bounds[: 4 * n : 4, 0] = min_scales
    bounds[: fixed.size] = fixed.reshape(-1, 1)
    inequalities = _block_diagonal(sparse, rows, len(fixed), len(cost))
    equalities = sparse.bmat(blocks, format="csr")
    messages: list[str] = []
    for method, slack in SOLVERS:
        limits = upper.ravel() + slack
        result = scipy.optimize.linprog(
            cost, inequalities, limits, equalities, np.concatenate(targets), bounds=bounds, method=method
        )
        if result.x is not None:
            return result.x[: 4 * n].reshape(n, 4)
        messages.append(result.message)
    raise ClipError(f"no camera path was found within the zoom allowed ({messages[0]}): allow more zoom")


def _difference_operator(sparse: ModuleType, rotations: NDArray[np.complex128]) -> Any:
    """Return the sparse matrix (4 m, 4 m + 4) of differences between frames.

    The differences between m + 1 frames are in the axes of the earlier frame. A difference is the next frame's value,
    rotated by the step, minus the frame's own.
    """
    re, im = rotations.real, rotations.imag
    blocks = np.zeros((len(rotations), 2, 2, 2, 2))  # frame, a or d, real or imaginary, a or d, real or imaginary
    for pair in range(2):
        blocks[:, pair, :, pair] = np.array([[re, -im], [im, re]]).transpose(2, 0, 1)
    size = 4 * len(rotations)
    following = _block_diagonal(sparse, blocks.reshape(-1, 4, 4), 1, size + 4)
    return (following - sparse.eye(size, size + 4)).tocsr()


def _block_diagonal(sparse: ModuleType, blocks: NDArray[np.float64], offset: int, width: int) -> Any:
    """Return the sparse matrix (n r, width) of blocks (n, r, 4).

    Each block is in the columns of its frame; the first frame is `offset`.
    """
    n, r, _ = blocks.shape
    frames = np.arange(offset, offset + n, dtype=np.intp)
    columns = np.broadcast_to(4 * frames[:, None, None] + np.arange(4), blocks.shape)
    return sparse.csr_matrix((blocks.ravel(), columns.ravel(), np.arange(0, 4 * n * r + 1, 4)), shape=(n * r, width))
