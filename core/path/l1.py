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
from .trajectory import Correction
from .zoom import attenuate_to_zoom

WINDOW_FRAMES = 240  # frames solved at once: the time of the solver grows faster than their number
OVERLAP_FRAMES = 80  # frames solved again with what comes after them
JOINT_FRAMES = 3  # frames that the next window takes over as they are: they fix its place, velocity and acceleration
ROUNDING_MARGIN = 1e-5  # share of the budget that is left to the solver's rounding
DATA_WEIGHT = (
    3.0  # weight of staying at the source's own path: breaks even with the rest for swings of the given period
)
ROTATION_WEIGHT = 1.5  # weight of turning and zooming: felt at the corners, which are farther out than half a width


def l1_path(
    poses: geometry.Matrices, guide: geometry.Matrices, period: float, info: ClipInfo, max_zoom: float
) -> geometry.Matrices:
    """Poses (n, 3, 3) of one shot -> the wanted ones, none of which needs more magnification than `max_zoom`.

    guide: (n, 3, 3), the poses after another smoother, which the shear and the perspective are taken from: the linear
    program moves similarities only.
    period: in frames; swings of the camera shorter than this are shake.
    Raises ClipError where scipy, which has the solver, cannot be imported.
    """
    scipy = _import_scipy()
    budget = max_zoom * (1 - ROUNDING_MARGIN)
    if budget <= 1 or len(poses) < 2:
        return poses.copy()
    straight = _match_guide_shear(poses, guide, info, budget)
    unit = max(info.width / 2, 1.0)
    steps = geometry.to_parameters(np.linalg.inv(straight[:-1]) @ straight[1:])
    steps = geometry.matrices_from_parameters(steps / [unit, unit, 1, 1])  # each carries a frame to the one before it
    turns, shifts = _to_complex(steps)
    rows, bounds = _crop_constraints(np.linalg.inv(poses) @ straight, info, budget, unit)
    sizes = _min_scales(np.linalg.inv(straight) @ guide, period)
    n = len(poses)
    views = np.zeros((n, 4))
    start, done = 0, 0
    while done < n:
        stop = min(start + WINDOW_FRAMES, n)
        span = slice(start, stop)
        views[span] = _solve_window(
            scipy,
            turns[start : stop - 1],
            shifts[start : stop - 1],
            (rows[span], bounds[span]),
            sizes[span],
            period,
            views[start:done].copy(),
        )
        done = n if stop == n else stop - OVERLAP_FRAMES
        start = done - JOINT_FRAMES
    view = np.zeros((n, 3, 3))
    view[:, 0, 0] = view[:, 1, 1] = views[:, 0]
    view[:, 1, 0], view[:, 0, 1] = views[:, 1], -views[:, 1]
    view[:, :2, 2], view[:, 2, 2] = views[:, 2:] * unit, 1.0
    return geometry.normalize(straight @ view)


def _import_scipy() -> ModuleType:
    try:
        import scipy.optimize
        import scipy.sparse
    except ImportError as error:
        raise ClipError(
            f"the L1 path needs scipy ({error}): pip install scipy, or choose another smoothing (kalman, gaussian)"
        ) from error
    return scipy


def _match_guide_shear(
    poses: geometry.Matrices, guide: geometry.Matrices, info: ClipInfo, budget: float
) -> geometry.Matrices:
    """The same poses with the guide's shear and perspective; so much of them as leaves room for some view."""
    bent = geometry.to_tangents(np.linalg.inv(guide) @ poses)
    bent[:, :4] = 0  # place, turn and zoom stay as they are
    unbend = Correction(geometry.matrices_from_tangents(bent), [slice(0, len(poses))], info)
    unbend = attenuate_to_zoom(unbend, float(np.sqrt(budget)))
    return geometry.normalize(poses @ np.linalg.inv(unbend.matrices))


def _to_complex(similarities: geometry.Matrices) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """z -> turn * z + shift, each (n,)."""
    m = similarities
    return m[:, 0, 0] + 1j * m[:, 1, 0], m[:, 0, 2] + 1j * m[:, 1, 2]


def _crop_constraints(
    to_source: geometry.Matrices, info: ClipInfo, budget: float, half_width: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Per frame rows (n, 16, 4) and bounds (n, 16): `rows @ view <= bounds` keeps the crop's corners inside the source.

    bends: (n, 3, 3), from straightened to source frames. An edge that they bend and a view that moves meet in a
    half-plane all the same, so nothing is approximated.
    """
    right, bottom = max(info.width - 1, 0) / 2, max(info.height - 1, 0) / 2
    x, y = (geometry.corners(2 * right / budget, 2 * bottom / budget) / half_width).T
    edges = np.array([[1, 0, -right], [-1, 0, -right], [0, 1, -bottom], [0, -1, -bottom]])
    lines = (
        edges @ to_source @ np.diag([half_width, half_width, 1.0]) / half_width
    )  # (n, 4, 3), line . (x, y, 1) <= 0 inside
    across, down, apart = (part[..., None] for part in np.moveaxis(lines, -1, 0))  # (n, 4, 1)
    of_shift = np.ones_like(x)
    rows = np.stack([across * x + down * y, down * x - across * y, across * of_shift, down * of_shift], axis=-1)
    return rows.reshape(len(to_source), 16, 4), np.broadcast_to(-apart, rows.shape[:3]).reshape(len(to_source), 16)


def _min_scales(views: geometry.Matrices, period: float) -> NDArray[np.float64]:
    """(n,): how small a view may be: as the source's own, or smaller where taking out a swing of zoom needs it.

    A view of nothing would be the steadiest of all, and every per cent that it shrinks is picture beyond the budget.
    views: (n, 3, 3), of the guide, which knows the swings.
    """
    sizes = np.minimum(1.0, np.exp(geometry.to_parameters(views)[:, 3]))
    reach = min(int(period / 2), len(sizes) - 1)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(sizes, reach, mode="edge"), 2 * reach + 1)
    return around.min(axis=1)


def _solve_window(
    scipy: ModuleType,
    turns: NDArray[np.complex128],
    shifts: NDArray[np.complex128],
    constraints: tuple[NDArray[np.float64], NDArray[np.float64]],
    min_scales: NDArray[np.float64],
    period: float,
    fixed: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Views (n, 4) of a window: real and imaginary part of a, x and y of d. known: (k, 4), the first ones, given.
    sizes: (n,), the least of a.

    Time is measured in radians of a swing of that period, so that all three derivatives of it weigh the same. Each
    derivative is a variable of its own, made from the one before: rows stay short, and numbers about 1. It is told as
    what it is above nought and what it is below, whose sum is its absolute value.
    """
    sparse, n = scipy.sparse, len(min_scales)
    radians = period / (2 * np.pi)
    count = min(4, n)  # how far the view is from the source's own, and its derivatives
    blocks: list[list] = [[None] * (1 + 2 * count) for _ in range(count)]
    targets, weights = [np.tile([1.0, 0, 0, 0], n)], []
    for order in range(count):
        size = 4 * (n - order)
        if order == 0:
            blocks[0][0] = sparse.identity(size)
        else:
            step = radians * _difference_operator(sparse, turns[: n - order])
            if order == 1:
                blocks[1][0] = step
                targets.append(-radians * np.stack([0 * shifts, shifts], -1).view(np.float64).ravel())
            else:
                blocks[order][2 * order - 1 : 2 * order + 1] = step, -step
                targets.append(np.zeros(size))
        blocks[order][2 * order + 1 : 2 * order + 3] = -sparse.identity(size), sparse.identity(size)
        weights += 2 * [
            (DATA_WEIGHT if order == 0 else 1.0) * np.tile([ROTATION_WEIGHT, ROTATION_WEIGHT, 1, 1], n - order)
        ]
    cost = np.concatenate([np.zeros(4 * n), *weights])
    rows, most = (part[len(fixed) :] for part in constraints)
    bounds = np.tile([0.0, np.inf], (len(cost), 1))
    bounds[: 4 * n, 0] = -np.inf
    bounds[: 4 * n : 4, 0] = min_scales
    bounds[: fixed.size] = fixed.reshape(-1, 1)
    result = scipy.optimize.linprog(
        cost,
        _block_diagonal(sparse, rows, len(fixed), len(cost)),
        most.ravel(),
        sparse.bmat(blocks, format="csr"),
        np.concatenate(targets),
        bounds=bounds,
        method="highs",
    )
    if result.x is None:
        raise ClipError(f"no camera path was found within the zoom allowed ({result.message}): allow more zoom")
    return result.x[: 4 * n].reshape(n, 4)


def _difference_operator(sparse: ModuleType, turns: NDArray[np.complex128]):
    """The matrix (4 m, 4 m + 4) that takes values of m + 1 frames to their differences, each as its earlier frame sees
    them: what the next frame has, turned by the step, minus its own.
    """
    turned = np.zeros((len(turns), 2, 2, 2, 2))  # frame, a or d, its part, a or d, its part
    for pair in range(2):
        turned[:, pair, :, pair] = np.array([[turns.real, -turns.imag], [turns.imag, turns.real]]).transpose(2, 0, 1)
    size = 4 * len(turns)
    later = _block_diagonal(sparse, turned.reshape(-1, 4, 4), 1, size + 4)
    return (later - sparse.eye(size, size + 4)).tocsr()


def _block_diagonal(sparse: ModuleType, blocks: NDArray[np.float64], offset: int, width: int):
    """Blocks (n, r, 4), each beside the columns of its frame, of which the first is number `first`: (n r, width)."""
    n, r, _ = blocks.shape
    columns = np.broadcast_to(4 * np.arange(offset, offset + n)[:, None, None] + np.arange(4), blocks.shape)
    return sparse.csr_matrix((blocks.ravel(), columns.ravel(), np.arange(0, 4 * n * r + 1, 4)), shape=(n * r, width))
