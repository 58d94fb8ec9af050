"""Giving up as little as can be: of all views within a budget of picture, the ones nearest to those that are wanted.

The budget is a constraint, not a brake: the sum, over a shot, of the squared distance from the wanted views and of its
squared second difference in time is the least for which no frame needs more magnification than allowed. That is the
cost which the Whittaker smoother (smooth.py) minimises, so its path becomes the best one within the budget, and other
smoothers' the nearest to what they wanted.

What is solved for is a small change (I + X) of each wanted view, in its own axes. A corner of the crop stays on one
side of an edge of the source as long as X stays on one side of a plane: straight walls, nothing approximated. So this
is a quadratic program with one solution, and an interior point method (Wright, Primal-Dual Interior-Point Methods,
1997) finds it in some twenty linear systems that are banded along time. Lengths are in half widths of the frame, so
that all numbers are about 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from ..clip import ClipInfo

SPARE = 1e-5  # share of the budget that is left to rounding
ROUNDS = 80  # of the solver, which needs 10 to 30
DONE = 1e-11  # distance to a wall times the pressure on it, at which the solution is found: hundredths of a pixel
FARTHEST = 3.0  # periods after which a frame is felt by a millionth, and no wall makes others reach farther
LONGEST = 2000.0  # period in frames beyond which the sums run out of digits and nothing looks slower any more

Array = NDArray[np.float64]


def nearest_within(
    wanted: geometry.Matrices,
    bends: geometry.Matrices,
    info: ClipInfo,
    max_zoom: float,
    period: float,
    picture: tuple[Array, Array] | None = None,
) -> geometry.Matrices:
    """Wanted similarities (n, 3, 3) of one shot -> the nearest for which `bends @ them` needs no more than `max_zoom`.

    Views carry points of the stabilised frames to the source frames. They are shifted, turned and enlarged here;
    bends (n, 3, 3), shear and perspective, are not touched, so that room never costs wobble. They alone may need the
    square root of `max_zoom`, which is above 1.
    picture: what of it is shown, as `crop.shown` says; None where all of it is.
    period: in frames; swings quicker than this of what is given up are avoided.
    No view is magnified beyond what it was and what the source is: that would spend more picture than the budget says.
    Where bends ask for more, there may be no solution, and `wanted` is returned.
    A long shot is solved in runs of frames which reach so far into each other that what is beyond does not tell.
    """
    n, reach = len(wanted), int(np.ceil(FARTHEST * min(period, LONGEST)))
    sides, added = picture or whole(info)
    views = np.empty_like(wanted)
    for part in geometry.pieces(n):
        around = slice(max(0, part.start - reach), min(n, part.stop + reach))
        shown = sides[around] if len(sides) > 1 else sides, added[around] if len(added) > 1 else added
        found = _views(wanted[around], bends[around], info, max_zoom, period, shown)
        if found is None:
            return wanted
        views[part] = found[part.start - around.start :][: part.stop - part.start]
    return views


def _views(
    wanted: geometry.Matrices,
    bends: geometry.Matrices,
    info: ClipInfo,
    max_zoom: float,
    period: float,
    picture: tuple[Array, Array],
) -> geometry.Matrices | None:
    unit = max(info.width / 2, 1.0)
    budget = max_zoom * (1 - SPARE)
    near = geometry.rescaled(wanted, 1 / unit, 1 / unit)
    changes = _changes(info)
    walls, room = _walls(near, geometry.rescaled(bends, 1 / unit, 1 / unit), changes, info, budget, unit, picture)
    # A view well within the walls: the source's own, from so far off that half of what bends leave is around it.
    middle = geometry.inverse(near) @ np.diag([budget**0.25, budget**0.25, 1.0]) - np.eye(3)
    start = np.einsum("nij,kij->nk", middle, changes) / (changes**2).sum(axis=(1, 2))
    if (np.einsum("nwk,nk->nw", walls, start) >= room).any():
        return None
    x = _nearest(walls, room, start, min(period, LONGEST))
    near = near @ (np.eye(3) + np.einsum("nk,kij->nij", x, changes))
    return geometry.rescaled(near, unit, unit)


def whole(info: ClipInfo) -> tuple[Array, Array]:
    """What `crop.shown` says of frames that are shown as they are."""
    right, bottom = max(info.width - 1, 0) / 2, max(info.height - 1, 0) / 2
    return np.array([[-right, -bottom, right, bottom]]), np.zeros((1, 2))


def _changes(info: ClipInfo) -> Array:
    """(4, 3, 3): X = sum of x[k] changes[k]: shift, turn, zoom. Each moves the points of the frame by 1 on average."""
    changes = np.zeros((4, 3, 3))
    changes[0, 0, 2] = changes[1, 1, 2] = 1.0
    changes[2, :2, :2], changes[3, :2, :2] = [[0, -1], [1, 0]], np.eye(2)
    tall = info.height / max(info.width, 1)
    changes[2:] /= np.sqrt((1 + tall**2) / 3)
    return changes


def _walls(
    views: geometry.Matrices,
    bends: geometry.Matrices,
    changes: Array,
    info: ClipInfo,
    budget: float,
    unit: float,
    picture: tuple[Array, Array],
) -> tuple[Array, Array]:
    """Per frame (n, 17, 4) and (n, 17): `walls @ x <= room` keeps the crop's corners inside the source."""
    sides, added = picture
    corners = geometry.corners(max(info.width - 1, 0), max(info.height - 1, 0))
    outward = (corners + np.sign(corners) * added[:, None]) / unit / budget  # (n or 1, 4, 2)
    crop = np.concatenate([outward, np.ones((*outward.shape[:2], 1))], axis=-1)
    crop = np.broadcast_to(crop, (len(views), 4, 3))
    edges = np.tile([[-1.0, 0, 0], [0, -1, 0], [1, 0, 0], [0, 1, 0]], (len(sides), 1, 1))
    edges[..., 2] = sides * [1, 1, -1, -1] / unit
    lines = edges @ bends @ views  # (n, 4, 3); line . (x, y, 1) is negative inside
    walls = np.einsum("nei,kij,ncj->neck", lines, changes, crop).reshape(-1, 16, len(changes))
    room = -np.einsum("nei,nci->nec", lines, crop).reshape(-1, 16)
    # The last wall bounds the size. Half way between the turns of the wanted view and of the source's own (as far as
    # the budget allows any turn), both of them stand behind it.
    most = min(budget - 1, 1.0)
    _, _, turn, zoom = geometry.to_parameters(views).T
    half = np.exp(0.5j * np.clip(turn, -most, most))
    probe = np.zeros_like(views)  # the sum of probe * view is what may not be negative
    probe[:, 0, 0] = probe[:, 1, 1] = half.real / 2
    probe[:, 1, 0], probe[:, 0, 1] = half.imag / 2, -half.imag / 2
    probe[:, 2, 2] = -np.minimum(1.0, np.exp(zoom)) * half.real
    size = -np.einsum("nij,nil,klj->nk", probe, views, changes)
    spare = np.einsum("nij,nij->n", probe, views)
    return np.concatenate([walls, size[:, None]], axis=1), np.concatenate([room, spare[:, None]], axis=1)


def _nearest(walls: Array, room: Array, x: Array, period: float) -> Array:
    """x (n, k) with the least |x|^2 + (period / 2 pi)^4 |x''|^2 of all with walls @ x <= room.

    x: any within the walls, to begin with.
    """
    n = len(walls)
    bands = np.zeros((3, n))  # I + (period / 2 pi)^4 D'D for second differences D: its diagonals
    for start in range(n - 2):
        bands[0, start : start + 3] += [1, 4, 1]
        bands[1, start : start + 2] -= 2
        bands[2, start] += 1
    bands *= (period / (2 * np.pi)) ** 4
    bands[0] += 1
    gap = room - np.einsum("nwk,nk->nw", walls, x)  # from each wall
    first = (x * _times(bands, x)).sum() / gap.size
    force = first / gap  # pressure on each wall
    for _ in range(ROUNDS):
        product = gap * force
        if product.mean() < max(DONE, 1e-9 * first):
            break
        excess = product - 0.1 * product.mean()  # the aim of a round is a tenth of what it found
        right = np.einsum("nwk,nw->nk", walls, excess / gap - force) - _times(bands, x)
        try:
            step = _solved(bands, np.einsum("nwk,nw,nwl->nkl", walls, force / gap, walls), right)
        except np.linalg.LinAlgError:  # no digits are left to come nearer; x is within the walls at any time
            break
        opened = -np.einsum("nwk,nk->nw", walls, step)
        pressed = -(excess + force * opened) / gap
        share = 0.99 / max(0.99, (-opened / gap).max(), (-pressed / force).max())  # nothing may become negative
        x, gap, force = x + share * step, gap + share * opened, force + share * pressed
    return x


def _times(bands: Array, x: Array) -> Array:
    """The symmetric matrix with these diagonals (3, n), times x (n, k)."""
    product = bands[0, :, None] * x
    for k in (1, 2):
        product[:-k] += bands[k, :-k, None] * x[k:]
        product[k:] += bands[k, :-k, None] * x[:-k]
    return product


def _solved(bands: Array, blocks: Array, right: Array) -> Array:
    """x (n, k) with, for each frame i, blocks[i] @ x[i] + (bands x)[i] = right[i].

    Two frames together know only the two before and the two after: the system is tridiagonal in blocks of 2 k.
    """
    n, k = right.shape
    even = n + n % 2
    inner, coupled, rest = np.tile(np.eye(k), (even, 1, 1)), np.zeros((2, even, 1, 1)), np.zeros((even, k))
    inner[:n] = bands[0, :, None, None] * np.eye(k) + blocks
    coupled[:, :n, 0, 0], rest[:n] = bands[1:], right
    next_one, next_but_one = coupled * np.eye(k)
    diagonal = np.block([[inner[::2], next_one[::2]], [next_one[::2], inner[1::2]]])
    upper = np.block([[next_but_one[::2], np.zeros_like(next_one[::2])], [next_one[1::2], next_but_one[1::2]]])
    return _tridiagonal(diagonal, upper[:-1], rest.reshape(-1, 2 * k, 1)).reshape(-1, k)[:n]


def _tridiagonal(diagonal: Array, upper: Array, right: Array) -> Array:
    """x (m, b, 1) of a symmetric system of blocks: diagonal (m, b, b), upper (m - 1, b, b) couples each to the next.

    Cyclic reduction: every other unknown is expressed by its two neighbours, which leaves half as large a system.
    """
    m, b, _ = diagonal.shape
    if m == 1:
        return np.linalg.solve(diagonal, right).astype(np.float64)
    before = upper[0::2]  # from each even block to the odd one after it
    after = np.concatenate([upper[1::2], np.zeros((1 - m % 2, b, b))])  # from each odd block to the even one after it
    parts = np.concatenate([before.transpose(0, 2, 1), after, right[1::2]], axis=2)
    to_before, to_after, alone = np.split(np.linalg.solve(diagonal[1::2], parts), [b, 2 * b], axis=2)
    odds, joints = len(before), (m - 1) // 2  # a joint is an odd block with an even one behind it
    back = after.transpose(0, 2, 1)[:joints]
    inner, rest = diagonal[0::2].copy(), right[0::2].copy()
    inner[:odds] -= before @ to_before
    rest[:odds] -= before @ alone
    inner[1 : joints + 1] -= back @ to_after[:joints]
    rest[1 : joints + 1] -= back @ alone[:joints]
    x = np.empty_like(right)
    x[0::2] = _tridiagonal(inner, -(before @ to_after)[:joints], rest)
    x[1::2] = alone - to_before @ x[0::2][:odds]
    x[1::2][:joints] -= to_after[:joints] @ x[2::2]
    return x
