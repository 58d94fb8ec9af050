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
    steps = geometry.to_parameters(geometry.inverse(straight[:-1]) @ straight[1:])
    steps = geometry.to_matrices(steps / [unit, unit, 1, 1])  # each carries a frame to the one before it
    turns, shifts = _complex(steps)
    rows, bounds = _limits(geometry.inverse(poses) @ straight, info, budget, unit)
    sizes = _least_sizes(geometry.inverse(straight) @ guide, period)
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
            (rows[span], bounds[span]),
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
    bent = geometry.to_tangents(geometry.inverse(guide) @ poses)
    bent[:, :4] = 0  # place, turn and zoom stay as they are
    unbend = Correction(geometry.to_matrices_of(bent), [slice(0, len(poses))], info)
    unbend = held_back(unbend, float(np.sqrt(budget)))
    return geometry.normalized(poses @ geometry.inverse(unbend.matrices))


def _complex(similarities: geometry.Matrices) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """z -> turn * z + shift, each (n,)."""
    m = similarities
    return m[:, 0, 0] + 1j * m[:, 1, 0], m[:, 0, 2] + 1j * m[:, 1, 2]


def _limits(
    bends: geometry.Matrices, info: ClipInfo, budget: float, unit: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Per frame rows (n, 16, 4) and bounds (n, 16): `rows @ view <= bounds` keeps the crop's corners inside the source.

    bends: (n, 3, 3), from straightened to source frames. An edge that they bend and a view that moves meet in a
    half-plane all the same, so nothing is approximated.
    """
    right, bottom = max(info.width - 1, 0) / 2, max(info.height - 1, 0) / 2
    x, y = (geometry.corners(2 * right / budget, 2 * bottom / budget) / unit).T
    edges = np.array([[1, 0, -right], [-1, 0, -right], [0, 1, -bottom], [0, -1, -bottom]])
    lines = edges @ bends @ np.diag([unit, unit, 1.0]) / unit  # (n, 4, 3), line . (x, y, 1) <= 0 inside
    across, down, apart = (part[..., None] for part in np.moveaxis(lines, -1, 0))  # (n, 4, 1)
    of_shift = np.ones_like(x)
    rows = np.stack([across * x + down * y, down * x - across * y, across * of_shift, down * of_shift], axis=-1)
    return rows.reshape(len(bends), 16, 4), np.broadcast_to(-apart, rows.shape[:3]).reshape(len(bends), 16)


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
    limits: tuple[NDArray[np.float64], NDArray[np.float64]],
    sizes: NDArray[np.float64],
    period: float,
    known: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Views (n, 4) of a window: real and imaginary part of a, x and y of d. known: (k, 4), the first ones, given.
    sizes: (n,), the least of a.

    Time is measured in radians of a swing of that period, so that all three derivatives of it weigh the same. Each
    derivative is a variable of its own, made from the one before: rows stay short, and numbers about 1. It is told as
    what it is above nought and what it is below, whose sum is its absolute value.
    """
    sparse, n = scipy.sparse, len(sizes)
    radians = period / (2 * np.pi)
    count = min(4, n)  # how far the view is from the source's own, and its derivatives
    blocks: list[list] = [[None] * (1 + 2 * count) for _ in range(count)]
    targets, weights = [np.tile([1.0, 0, 0, 0], n)], []
    for order in range(count):
        size = 4 * (n - order)
        if order == 0:
            blocks[0][0] = sparse.identity(size)
        else:
            step = radians * _step(sparse, turns[: n - order])
            if order == 1:
                blocks[1][0] = step
                targets.append(-radians * np.stack([0 * shifts, shifts], -1).view(np.float64).ravel())
            else:
                blocks[order][2 * order - 1 : 2 * order + 1] = step, -step
                targets.append(np.zeros(size))
        blocks[order][2 * order + 1 : 2 * order + 3] = -sparse.identity(size), sparse.identity(size)
        weights += 2 * [(HOLD if order == 0 else 1.0) * np.tile([TURNING, TURNING, 1, 1], n - order)]
    cost = np.concatenate([np.zeros(4 * n), *weights])
    rows, most = (part[len(known) :] for part in limits)
    bounds = np.tile([0.0, np.inf], (len(cost), 1))
    bounds[: 4 * n, 0] = -np.inf
    bounds[: 4 * n : 4, 0] = sizes
    bounds[: known.size] = known.reshape(-1, 1)
    result = scipy.optimize.linprog(
        cost,
        _diagonal(sparse, rows, len(known), len(cost)),
        most.ravel(),
        sparse.bmat(blocks, format="csr"),
        np.concatenate(targets),
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
    turned = np.zeros((len(turns), 2, 2, 2, 2))  # frame, a or d, its part, a or d, its part
    for pair in range(2):
        turned[:, pair, :, pair] = np.array([[turns.real, -turns.imag], [turns.imag, turns.real]]).transpose(2, 0, 1)
    size = 4 * len(turns)
    later = _diagonal(sparse, turned.reshape(-1, 4, 4), 1, size + 4)
    return (later - sparse.eye(size, size + 4)).tocsr()


def _diagonal(sparse: ModuleType, blocks: NDArray[np.float64], first: int, width: int):
    """Blocks (n, r, 4), each beside the columns of its frame, of which the first is number `first`: (n r, width)."""
    n, r, _ = blocks.shape
    columns = np.broadcast_to(4 * np.arange(first, first + n)[:, None, None] + np.arange(4), blocks.shape)
    return sparse.csr_matrix((blocks.ravel(), columns.ravel(), np.arange(0, 4 * n * r + 1, 4)), shape=(n * r, width))
