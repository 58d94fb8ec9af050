"""The path of a camera on a tripod, a dolly and a crane: still, even or evenly accelerated, within a budget of picture.

Grundmann, Kwatra and Essa, Auto-Directed Video Stabilization with Robust L1 Optimal Camera Paths (2011): of all paths
whose crop stays inside the frames, find the one with the least sum of |velocity|, |acceleration| and |jerk|. Sums of
absolute values are made nought in most places rather than small everywhere, hence the three kinds of segment; and
because the crop is a constraint of a linear program, the budget holds to the last digit.

What is solved for is the view, a similarity that carries the stabilised frame into the source frame: z -> a z + d,
the plane as complex numbers. Lengths are in half widths of the frame, so that all numbers are about 1.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from ..clip import ClipError, ClipInfo
from .crop import held_back
from .trajectory import Correction

WINDOW = 240  # frames solved at once: the time of the solver grows faster than their number
OVERLAP = 80  # frames solved again with what comes after them
JOINT = 3  # frames that the next window takes over as they are: they fix its place, velocity and acceleration
SPARE = 1e-5  # share of the budget that is left to the solver's rounding
HOLD = 3.0  # weight of staying at the source's own path: breaks even with the rest for swings of the given period
TURNING = 1.5  # weight of turning and zooming: felt at the corners, which are farther out than half a width


def l1(
    poses: geometry.Matrices, guide: geometry.Matrices, period: float, info: ClipInfo, max_zoom: float
) -> geometry.Matrices:
    """Poses (n, 3, 3) of one shot -> the wanted ones, none of which needs more magnification than `max_zoom`.

    guide: (n, 3, 3), the poses after another smoother, which the shear and the perspective are taken from: the linear
    program moves similarities only.
    period: in frames; swings of the camera shorter than this are shake.
    Raises ClipError where scipy, which has the solver, cannot be imported.
    """
    scipy = _scipy()
    budget = max_zoom * (1 - SPARE)
    if budget <= 1 or len(poses) < 2:
        return poses.copy()
    straight = _straightened(poses, guide, info, budget)
    unit = max(info.width / 2, 1.0)
    steps = geometry.to_parameters(np.linalg.inv(straight[:-1]) @ straight[1:])
    steps = geometry.to_matrices(steps / [unit, unit, 1, 1])  # each carries a frame to the one before it
    turns, shifts = _complex(steps)
    limits = _limits(np.linalg.inv(poses) @ straight, info, budget, unit)
    sizes = _least_sizes(np.linalg.inv(straight) @ guide, period)
    n = len(poses)
    views = np.zeros((n, 4))
    start, done = 0, 0
    while done < n:
        stop = min(start + WINDOW, n)
        span = slice(start, stop)
        views[span] = _solved(
            scipy,
            turns[start : stop - 1],
            shifts[start : stop - 1],
            limits[span],
            sizes[span],
            period,
            views[start:done].copy(),
        )
        done = n if stop == n else stop - OVERLAP
        start = done - JOINT
    view = np.zeros((n, 3, 3))
    view[:, 0, 0] = view[:, 1, 1] = views[:, 0]
    view[:, 1, 0], view[:, 0, 1] = views[:, 1], -views[:, 1]
    view[:, :2, 2], view[:, 2, 2] = views[:, 2:] * unit, 1.0
    return geometry.normalized(straight @ view)


def _scipy() -> ModuleType:
    try:
        import scipy.optimize
        import scipy.sparse
    except ImportError as error:
        raise ClipError(
            f"the L1 path needs scipy ({error}): pip install scipy, or choose another smoothing (kalman, gaussian)"
        ) from error
    return scipy


def _straightened(
    poses: geometry.Matrices, guide: geometry.Matrices, info: ClipInfo, budget: float
) -> geometry.Matrices:
    """The same poses with the guide's shear and perspective; so much of them as leaves room for some view."""
    bent = geometry.to_tangents(np.linalg.inv(guide) @ poses)
    bent[:, :4] = 0  # place, turn and zoom stay as they are
    unbend = Correction(geometry.to_matrices_of(bent), [slice(0, len(poses))], info)
    unbend = held_back(unbend, float(np.sqrt(budget)))
    return geometry.normalized(poses @ np.linalg.inv(unbend.matrices))


def _complex(similarities: geometry.Matrices) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """z -> turn * z + shift, each (n,)."""
    m = similarities
    return m[:, 0, 0] + 1j * m[:, 1, 0], m[:, 0, 2] + 1j * m[:, 1, 2]


def _limits(
    bends: geometry.Matrices, info: ClipInfo, budget: float, unit: float
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Per frame rows (16, 4) and bounds (16,): `rows @ view <= bounds` keeps the crop's corners inside the source.

    bends: (n, 3, 3), from straightened to source frames. An edge that they bend and a view that moves meet in a
    half-plane all the same, so nothing is approximated.
    """
    right, bottom = max(info.width - 1, 0) / 2, max(info.height - 1, 0) / 2
    crop = geometry.corners(2 * right / budget, 2 * bottom / budget) / unit
    edges = np.array([[1, 0, -right], [-1, 0, -right], [0, 1, -bottom], [0, -1, -bottom]])
    limits = []
    for bend in bends:
        lines = edges @ bend @ np.diag([unit, unit, 1.0]) / unit  # (4, 3), line . (x, y, 1) <= 0 inside
        rows = [
            [line[0] * x + line[1] * y, line[1] * x - line[0] * y, line[0], line[1]] for line in lines for x, y in crop
        ]
        limits.append((np.array(rows), -np.repeat(lines[:, 2], len(crop))))
    return limits


def _least_sizes(views: geometry.Matrices, period: float) -> NDArray[np.float64]:
    """(n,): how small a view may be: as the source's own, or smaller where taking out a swing of zoom needs it.

    A view of nothing would be the steadiest of all, and every per cent that it shrinks is picture beyond the budget.
    views: (n, 3, 3), of the guide, which knows the swings.
    """
    sizes = np.minimum(1.0, np.exp(geometry.to_parameters(views)[:, 3]))
    reach = min(int(period / 2), len(sizes) - 1)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(sizes, reach, mode="edge"), 2 * reach + 1)
    return around.min(axis=1)


def _solved(
    scipy: ModuleType,
    turns: NDArray[np.complex128],
    shifts: NDArray[np.complex128],
    limits: list[tuple[NDArray[np.float64], NDArray[np.float64]]],
    sizes: NDArray[np.float64],
    period: float,
    known: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Views (n, 4) of a window: real and imaginary part of a, x and y of d. known: (k, 4), the first ones, given.
    sizes: (n,), the least of a.

    Time is measured in radians of a swing of that period, so that all three derivatives of it weigh the same.
    """
    sparse, n = scipy.sparse, len(limits)
    matrix, target = sparse.identity(4 * n, format="csr"), np.tile([1.0, 0, 0, 0], n)  # the source's own view
    terms = [(matrix, target, HOLD)]
    for order in range(1, min(4, n)):
        step = _step(sparse, turns[: n - order])
        target = -np.stack([0 * shifts, shifts], -1).view(np.float64).ravel() if order == 1 else step @ target
        matrix = step @ matrix
        terms.append((matrix, target, (period / (2 * np.pi)) ** order))
    rows, targets = sparse.vstack([m for m, _, _ in terms]), np.concatenate([t for _, t, _ in terms])
    weights = [w * np.tile([TURNING, TURNING, 1, 1], len(t) // 4) for _, t, w in terms]
    # |rows @ view - targets| <= slack, and as little slack as can be.
    slack = sparse.identity(len(targets), format="csr")
    inside = sparse.block_diag([r for r, _ in limits[len(known) :]])
    free = sparse.csr_matrix((inside.shape[0], 4 * len(known)))
    none = sparse.csr_matrix((inside.shape[0], len(targets)))
    below = sparse.bmat(
        [[rows, -slack], [-rows, -slack], [sparse.hstack([free, inside]), none]],
        format="csr",
    )
    bounds = np.tile([-np.inf, np.inf], (4 * n + len(targets), 1))
    bounds[: 4 * n : 4, 0] = sizes
    bounds[4 * n :, 0] = 0
    bounds[: known.size] = known.reshape(-1, 1)
    result = scipy.optimize.linprog(
        np.concatenate([np.zeros(4 * n), *weights]),
        below,
        np.concatenate([targets, -targets, *(b for _, b in limits[len(known) :])]),
        bounds=bounds,
        method="highs",
    )
    if result.x is None:
        raise ClipError(f"no camera path was found within the zoom allowed ({result.message}): allow more zoom")
    return result.x[: 4 * n].reshape(n, 4)


def _step(sparse: ModuleType, turns: NDArray[np.complex128]):
    """The matrix (4 m, 4 m + 4) that takes values of m + 1 frames to their differences, each as its earlier frame sees
    them: what the next frame has, turned by the step, minus its own.
    """
    blocks = [np.kron(np.eye(2), [[t.real, -t.imag], [t.imag, t.real]]) for t in turns]
    size = 4 * len(turns)
    later = sparse.hstack([sparse.csr_matrix((size, 4)), sparse.block_diag(blocks)])
    return (later - sparse.eye(size, size + 4)).tocsr()
