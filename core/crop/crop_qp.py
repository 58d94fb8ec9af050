"""Camera path projection: the nearest path whose crop stays inside the source.

The maximum zoom is a constraint of a quadratic program: the sum, over a shot, of the squared distance from the wanted
views and of its squared second difference in time is minimized, subject to no frame needing more magnification than
allowed. This is also the cost of the Whittaker smoother (smooth.py), so its path becomes the optimal one within the
limit, and that of other smoothers the nearest one.

The variables are a small change (I + X) of each wanted view, in its own axes. A corner of the crop is inside an edge of
the source if X satisfies a linear inequality, without approximation. So this is a quadratic program with a unique
solution, and an interior point method (Wright, Primal-Dual Interior-Point Methods, 1997) finds it by solving about
twenty linear systems that are banded in time. Lengths are in half widths of the frame, so that all numbers are about 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from ..clip import ClipInfo
from ..path.even_time import frame_durations, separate

ROUNDING_MARGIN = 1e-5  # fraction of the maximum zoom reserved for rounding
MAX_ITERATIONS = 80  # of the solver, which needs 10 to 30
GAP_TOLERANCE = 1e-11  # slack times multiplier at convergence: hundredths of a pixel
OVERLAP_PERIODS = 3.0  # the influence of a frame falls to a millionth over this distance, with any constraints
MAX_PERIOD_FRAMES = 2000.0  # longer periods lose precision and look the same

Array = NDArray[np.float64]


class PathTarget(NamedTuple):
    """Preferences of the solution other than the wanted views.

    In coordinates of `to_basis_coordinates`, as `x` in `_solve_qp`.

    position: (n, 4), the preferred change of the wanted views. bend: (n,), 0 to 1, the share of the acceleration of the
    wanted path that counts as acceleration of the change does. rest: (n - 1,), weight of the speed between two frames.
    steps: (n - 1, 4), of the wanted path, each in the axes of its first frame.
    """

    position: Array
    bend: Array
    rest: Array
    steps: Array

    def slice(self, frames: slice) -> PathTarget:
        """The target of a range of frames."""
        gaps = slice(frames.start, frames.stop - 1)
        return PathTarget(self.position[frames], self.bend[frames], self.rest[gaps], self.steps[gaps])


def project_to_crop(
    wanted: geometry.Matrices,
    shear_perspective: geometry.Matrices,
    info: ClipInfo,
    max_zoom: float | Array,
    period: float,
    visible: tuple[Array, Array] | None = None,
    times: Array | None = None,
    target: PathTarget | None = None,
) -> geometry.Matrices:
    """Find the similarities nearest to `wanted` that respect a maximum zoom.

    For them `shear_perspective @ view` needs at most `max_zoom`.

    wanted: (n, 3, 3), views of one shot: they map points of the stabilized frames to the source frames.
    max_zoom: above 1, one for all frames or (n,).
    shear_perspective: (n, 3, 3), not changed, so that no wobble is introduced. It alone may need the square root of
    `max_zoom`, which is above 1.
    visible: the visible part of the source, see `zoom.visible_rect`; None for all of it.
    period: in frame times; the change has no faster oscillations.
    times: (n,), of the frames, in frame times; None for a constant rate. target: what is preferred to the wanted views.
    No view becomes smaller than it was or than the source: that would use more crop than allowed. If shear_perspective
    needs more, there may be no solution, and `wanted` is returned.
    Long shots are solved in chunks with an overlap that makes the effect of the chunks negligible.
    """
    n, overlap = len(wanted), float(np.ceil(OVERLAP_PERIODS * min(period, MAX_PERIOD_FRAMES)))
    times = separate(np.arange(n, dtype=np.float64) if times is None else times)
    rect, margin = visible or full_rect(info)
    limits = np.broadcast_to(np.asarray(max_zoom, np.float64), n)
    views = np.empty_like(wanted)
    for part in geometry.chunks(n):
        first, last = times[part.start] - overlap, times[part.stop - 1] + overlap
        extended = slice(int(np.searchsorted(times, first)), int(np.searchsorted(times, last, side="right")))
        chunk_visible = (
            rect[extended] if len(rect) > 1 else rect,
            margin[extended] if len(margin) > 1 else margin,
        )
        solved = _solve_views(
            wanted[extended],
            shear_perspective[extended],
            info,
            limits[extended],
            period,
            chunk_visible,
            times[extended],
            None if target is None else target.slice(slice(extended.start, min(extended.stop, n))),
        )
        if solved is None:
            return wanted
        views[part] = solved[part.start - extended.start :][: part.stop - part.start]
    return views


def _solve_views(
    wanted: geometry.Matrices,
    shear_perspective: geometry.Matrices,
    info: ClipInfo,
    limits: Array,
    period: float,
    visible: tuple[Array, Array],
    times: Array,
    target: PathTarget | None,
) -> geometry.Matrices | None:
    """As `project_to_crop`, for one chunk; None if no interior point was found."""
    half_width = max(info.width / 2, 1.0)
    budget = limits * (1 - ROUNDING_MARGIN)
    views = geometry.rescale(wanted, 1 / half_width, 1 / half_width)
    shear_perspective = geometry.rescale(shear_perspective, 1 / half_width, 1 / half_width)
    basis = _similarity_basis(info)
    constraints, bounds = _crop_constraints(views, shear_perspective, basis, info, budget, half_width, visible)
    # A view well inside: that of the source, zoomed in by half of what the shear leaves of the budget.
    zoomed_in = np.stack([budget**0.25, budget**0.25, np.ones_like(budget)], axis=-1)
    interior = geometry.inverse(views) * zoomed_in[:, None] - np.eye(3)
    start = np.einsum("nij,kij->nk", interior, basis) / (basis**2).sum(axis=(1, 2))
    if (np.einsum("nwk,nk->nw", constraints, start) >= bounds).any():
        return None
    x = _solve_qp(constraints, bounds, start, min(period, MAX_PERIOD_FRAMES), times, target)
    views = views @ (np.eye(3) + np.einsum("nk,kij->nij", x, basis))
    return geometry.rescale(views, half_width, half_width)


def full_rect(info: ClipInfo) -> tuple[Array, Array]:
    """The result of `zoom.visible_rect` without a rolling shutter."""
    right, bottom = max(info.width - 1, 0) / 2, max(info.height - 1, 0) / 2
    return np.array([[-right, -bottom, right, bottom]]), np.zeros((1, 2))


def _similarity_basis(info: ClipInfo) -> Array:
    """Return the basis (4, 3, 3) of X: x, y, rotation, zoom.

    Each moves the points of the frame by 1 on average.
    """
    basis = np.zeros((4, 3, 3))
    basis[0, 0, 2] = basis[1, 1, 2] = 1.0
    basis[2, :2, :2], basis[3, :2, :2] = [[0, -1], [1, 0]], np.eye(2)
    aspect = info.height / max(info.width, 1)
    basis[2:] /= np.sqrt((1 + aspect**2) / 3)
    return basis


def to_basis_coordinates(tangents: geometry.Tangents, info: ClipInfo) -> Array:
    """Convert tangents (n, 8) to coordinates (n, 4) of the basis.

    To first order; shear and perspective are ignored.
    """
    half_width, aspect = max(info.width / 2, 1.0), info.height / max(info.width, 1)
    turn = np.sqrt((1 + aspect**2) / 3)
    return tangents[:, :4] * [1 / half_width, 1 / half_width, turn, turn]


def _crop_constraints(
    views: geometry.Matrices,
    shear_perspective: geometry.Matrices,
    basis: Array,
    info: ClipInfo,
    budget: Array,
    half_width: float,
    visible: tuple[Array, Array],
) -> tuple[Array, Array]:
    """Return constraints (n, 17, 4) and bounds (n, 17) of the crop.

    `constraints @ x <= bounds` keeps the crop inside the source.
    """
    rect, margin = visible
    corners = geometry.corners(max(info.width - 1, 0), max(info.height - 1, 0))
    outward = (corners + np.sign(corners) * margin[:, None]) / half_width / budget[:, None, None]  # (n, 4, 2)
    crop = np.concatenate([outward, np.ones((*outward.shape[:2], 1))], axis=-1)
    edges = np.tile([[-1.0, 0, 0], [0, -1, 0], [1, 0, 0], [0, 1, 0]], (len(rect), 1, 1))
    edges[..., 2] = rect * [1, 1, -1, -1] / half_width
    lines = edges @ shear_perspective @ views  # (n, 4, 3); line . (x, y, 1) is negative inside
    constraints = np.einsum("nei,kij,ncj->neck", lines, basis, crop).reshape(-1, 16, len(basis))
    bounds = -np.einsum("nei,nci->nec", lines, crop).reshape(-1, 16)
    # The last constraint bounds the scale. Its direction is half way between the rotations of the wanted view and of
    # the source (limited to rotations that the budget allows), so that both satisfy it.
    limit = np.minimum(budget - 1, 1.0)
    _, _, rotation, zoom = geometry.to_parameters(views).T
    half = np.exp(0.5j * np.clip(rotation, -limit, limit))
    probe = np.zeros_like(views)  # the sum of probe * view must not be negative
    probe[:, 0, 0] = probe[:, 1, 1] = half.real / 2
    probe[:, 1, 0], probe[:, 0, 1] = half.imag / 2, -half.imag / 2
    probe[:, 2, 2] = -np.minimum(1.0, np.exp(zoom)) * half.real
    scale_constraint = -np.einsum("nij,nil,klj->nk", probe, views, basis)
    scale_bound = np.einsum("nij,nij->n", probe, views)
    return (
        np.concatenate([constraints, scale_constraint[:, None]], axis=1),
        np.concatenate([bounds, scale_bound[:, None]], axis=1),
    )


def _solve_qp(
    constraints: Array, bounds: Array, x: Array, period: float, times: Array, target: PathTarget | None = None
) -> Array:
    """Minimize |x|^2 + (period / 2 pi)^4 |x''|^2 over x (n, k).

    Subject to constraints @ x <= bounds. With a target, and the wanted path w, it is |x - position|^2 +
    (period / 2 pi)^4 |x'' + bend w''|^2 + rest (period / 2 pi)^2 |x' + w'|^2.

    x: the start, an interior point. times: (n,); derivatives are divided differences, and the sums are weighted by the
    time that each frame stands for.
    """
    bands, linear = _path_cost(x.shape[1], period, times, target)
    slack: Array = bounds - np.einsum("nwk,nk->nw", constraints, x)
    initial = float((x * _banded_matmul(bands, x)).sum()) / slack.size
    dual: Array = initial / slack
    for _ in range(MAX_ITERATIONS):
        if float((slack * dual).mean()) < max(GAP_TOLERANCE, 1e-9 * initial):
            break
        try:
            x, slack, dual = _interior_step(bands, linear, constraints, x, slack, dual)
        except np.linalg.LinAlgError:  # the limit of float64; x satisfies the constraints in every iteration
            break
    return x


def _path_cost(size: int, period: float, times: Array, target: PathTarget | None) -> tuple[Array, Array]:
    """Return the cost of `_solve_qp` as diagonals of a matrix and a vector.

    The cost is x'Bx + 2 linear'x: the diagonals (3, n) of the symmetric banded B, and linear (n, size).
    """
    n = len(times)
    bands = np.zeros((3, n))  # I + (period / 2 pi)^4 D'D for second differences D: its diagonals
    before, after = np.diff(times)[:-1], np.diff(times)[1:]
    span = before + after
    second = [2 / (before * span), -2 / (before * after), 2 / (after * span)]
    for distance in range(3):
        for k in range(3 - distance):
            bands[distance, k : max(0, n - 2) + k] += second[k] * second[k + distance] * span / 2
    bands *= (period / (2 * np.pi)) ** 4
    bands[0] += frame_durations(times)
    linear = np.zeros((n, size))
    if target is not None:
        bend = np.zeros((max(0, n - 2), size))
        if n > 2:
            bend = second[2][:, None] * target.steps[1:] - second[0][:, None] * target.steps[:-1]
            bend *= (target.bend[1:-1] * span / 2 * (period / (2 * np.pi)) ** 4)[:, None]
        for k in range(3):
            linear[k : max(0, n - 2) + k] += second[k][:, None] * bend
        linear -= frame_durations(times)[:, None] * target.position
        rest = target.rest / np.diff(times) * (period / (2 * np.pi)) ** 2
        bands[0, :-1] += rest
        bands[0, 1:] += rest
        bands[1, :-1] -= rest
        linear[:-1] -= rest[:, None] * target.steps
        linear[1:] += rest[:, None] * target.steps
    return bands, linear


def _interior_step(
    bands: Array, linear: Array, constraints: Array, x: Array, slack: Array, dual: Array
) -> tuple[Array, Array, Array]:
    """Return the next x, slack and dual; the last two stay positive.

    Raises LinAlgError where float64 is not precise enough.
    """
    product = slack * dual
    excess = product - 0.1 * product.mean()  # each iteration aims at a tenth of the duality gap
    rhs = np.einsum("nwk,nw->nk", constraints, excess / slack - dual) - _banded_matmul(bands, x) - linear
    step = _solve_block_banded(bands, np.einsum("nwk,nw,nwl->nkl", constraints, dual / slack, constraints), rhs)
    slack_step = -np.einsum("nwk,nk->nw", constraints, step)
    dual_step = -(excess + dual * slack_step) / slack
    length = 0.99 / max(0.99, float((-slack_step / slack).max()), float((-dual_step / dual).max()))
    return x + length * step, slack + length * slack_step, dual + length * dual_step


def _banded_matmul(bands: Array, x: Array) -> Array:
    """Multiply the symmetric banded matrix with the diagonals (3, n) by x (n, k)."""
    product = bands[0, :, None] * x
    for k in (1, 2):
        product[:-k] += bands[k, :-k, None] * x[k:]
        product[k:] += bands[k, :-k, None] * x[:-k]
    return product


def _solve_block_banded(bands: Array, blocks: Array, rhs: Array) -> Array:
    """Solve blocks[i] @ x[i] + (bands x)[i] = rhs[i] for all frames i; x: (n, k).

    Pairs of frames are coupled to the previous and next pair only: the system is block tridiagonal, blocks of 2 k.
    """
    n, k = rhs.shape
    even = n + n % 2
    inner, coupled, rest = np.tile(np.eye(k), (even, 1, 1)), np.zeros((2, even, 1, 1)), np.zeros((even, k))
    inner[:n] = bands[0, :, None, None] * np.eye(k) + blocks
    coupled[:, :n, 0, 0], rest[:n] = bands[1:], rhs
    next_one, next_but_one = coupled * np.eye(k)
    diagonal = np.block([[inner[::2], next_one[::2]], [next_one[::2], inner[1::2]]])
    upper = np.block([[next_but_one[::2], np.zeros_like(next_one[::2])], [next_one[1::2], next_but_one[1::2]]])
    return _solve_block_tridiagonal(diagonal, upper[:-1], rest.reshape(-1, 2 * k, 1)).reshape(-1, k)[:n]


def _solve_block_tridiagonal(diagonal: Array, upper: Array, rhs: Array) -> Array:
    """Solve a symmetric block tridiagonal system.

    diagonal: (m, b, b), upper: (m - 1, b, b), solution: (m, b, 1).

    Cyclic reduction: every other unknown is eliminated by its two neighbors, which halves the system.
    """
    m, b, _ = diagonal.shape
    if m == 1:
        return np.linalg.solve(diagonal, rhs).astype(np.float64)
    before = upper[0::2]  # from each even block to the odd one after it
    after = np.concatenate([upper[1::2], np.zeros((1 - m % 2, b, b))])  # from each odd block to the even one after it
    parts = np.concatenate([before.transpose(0, 2, 1), after, rhs[1::2]], axis=2)
    to_before, to_after, alone = np.split(np.linalg.solve(diagonal[1::2], parts), [b, 2 * b], axis=2)
    odds, joints = len(before), (m - 1) // 2  # a joint is an odd block followed by an even one
    back = after.transpose(0, 2, 1)[:joints]
    inner, rest = diagonal[0::2].copy(), rhs[0::2].copy()
    inner[:odds] -= before @ to_before
    rest[:odds] -= before @ alone
    inner[1 : joints + 1] -= back @ to_after[:joints]
    rest[1 : joints + 1] -= back @ alone[:joints]
    x = np.empty_like(rhs)
    x[0::2] = _solve_block_tridiagonal(inner, -(before @ to_after)[:joints], rest)
    x[1::2] = alone - to_before @ x[0::2][:odds]
    x[1::2][:joints] -= to_after[:joints] @ x[2::2]
    return x
