"""Rolling shutter: most cameras read a frame row by row, so each row sees the scene from where the camera is by then.

The share of the frame time that this takes, the readout, is a property of the camera and the same for a whole clip. It
shows in the steps: a camera that speeds up sideways slants the picture against the frame before, and one that speeds up
downwards stretches it. A camera that turns about its centre does neither, so the slant and the stretch that go with the
acceleration tell the readout; those that go with the speed (a lens, a scene with depth) do not.

Once it is known, the way of the camera between frames gives every row its own pose, and the steps are told again as of
the middle rows. After Forssén and Ringaby, Rectifying Rolling Shutter Video from Hand-Held Devices (2010), and Baker,
Bennett, Kang and Szeliski, Removing Rolling Shutter Wobble (2010).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from ..clip import ClipInfo

Rows = NDArray[np.float64]
"""(N, ROWS, 3, 3): rows[i, k] carries points of frame i at height k, evenly from its upper to its lower edge, to where
the frame would show them if all of it were exposed with its middle row."""

ROWS = 5  # heights at which rows are kept; between them the polynomial through all of them is within hundredths
REACH = 4  # frames before and after from which the camera's way between frames is drawn
HEIGHTS = np.linspace(-0.5, 0.5, ROWS)  # in frame heights
LONGEST = 1.0  # readout beyond which rows of one frame would be exposed after the next one's
BEYOND = 0.6  # height up to which rows outside of the frame go on as those inside do; farther ones stay at that
TORN = 0.5  # share of a frame's side by which no row of a real camera is displaced
ROUNDS = 6  # in which the steps between middle rows are found: each leaves a third of what was missing


def unrolled(
    steps: geometry.Matrices, shots: Sequence[slice], info: ClipInfo, readout: float
) -> tuple[geometry.Matrices, Rows]:
    """Steps (N, 3, 3) between frames as seen -> those between their middle rows, and what bends each frame straight.

    readout: share of the frame time between the exposure of the upper and of the lower edge; negative where the lower
    one comes first. A shot whose rows would be torn apart, by jumps as large as the frame, stays as it is.
    """
    steps = steps.copy()
    rows = np.tile(np.eye(3), (len(steps), ROWS, 1, 1))
    for shot in shots:
        inner = slice(shot.start + 1, shot.stop)
        if shot.stop - shot.start < 2:
            continue
        straight = seen = steps[inner]
        with np.errstate(all="ignore"):
            for _ in range(ROUNDS):
                back = geometry.to_matrices_of(
                    -added(straight, readout, info)
                )  # nearly the inverse, and never singular
                straight = geometry.normalized(seen @ back)
            found = _rows(straight, readout)
            moved = [(reach(found[p], info) / [info.width, info.height]).max() for p in geometry.pieces(len(found))]
        if all(share < TORN for share in moved):  # false for NaN, unlike a comparison with max(moved)
            steps[inner], rows[shot] = straight, found
    return steps, rows


def _rows(steps: geometry.Matrices, readout: float) -> Rows:
    """The rows (n, ROWS, 3, 3) of a shot with these steps (n - 1, 3, 3) between the middle rows of its frames."""
    rows = np.empty((len(steps) + 1, ROWS, 3, 3))
    way, weights = _continued(steps), _between(HEIGHTS * readout)
    for part in geometry.pieces(len(rows)):
        rows[part] = _rows_along(way, weights, part)
    return rows


def _continued(steps: geometry.Matrices) -> geometry.Matrices:
    """The steps of a shot with `REACH` more before and after them."""
    # Beyond its ends the way goes on point-mirrored: as fast as it ends, and no faster.
    return np.pad(steps, ((REACH, REACH), (0, 0), (0, 0)), mode="symmetric")


def _rows_along(way: geometry.Matrices, weights: NDArray[np.float64], frames: slice) -> Rows:
    """The rows of these frames of a shot, whose steps with those before and after it are `way`.

    weights: (ROWS, 2 REACH + 1), what the frames around one count for each of its heights.
    """
    n = frames.stop - frames.start
    way = way[frames.start : frames.stop + 2 * REACH - 1]
    back = geometry.inverse(way)
    tangents = np.zeros((n, ROWS, 8))
    before = after = np.tile(np.eye(3), (n, 1, 1))
    for k in range(1, REACH + 1):
        before = before @ way[REACH - k : REACH - k + n]  # the pose k frames before, as seen from each frame
        after = after @ back[REACH + k - 1 : REACH + k - 1 + n]
        tangents += weights[:, REACH - k, None] * geometry.to_tangents(before)[:, None]
        tangents += weights[:, REACH + k, None] * geometry.to_tangents(after)[:, None]
    return geometry.to_matrices_of(tangents)


def _between(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the places of the frames -REACH ... REACH count (T, 2 REACH + 1) for the place at each time, in frames.

    By the natural cubic spline through them: of the local rules it follows quick shake best.
    """
    size = 2 * REACH + 1
    curve = np.zeros((size, size))  # values -> second derivatives
    inner = np.arange(1, size - 1)
    system, right = np.eye(size), np.zeros((size, size))
    system[inner, inner - 1], system[inner, inner], system[inner, inner + 1] = 1 / 6, 2 / 3, 1 / 6
    right[inner, inner - 1], right[inner, inner], right[inner, inner + 1] = 1, -2, 1
    curve = np.linalg.solve(system, right)
    left = np.clip(np.floor(times + REACH).astype(int), 0, size - 2)
    share = (times + REACH - left)[:, None]
    identity = np.eye(size)
    line = (1 - share) * identity[left] + share * identity[left + 1]
    bow = ((1 - share) ** 3 - (1 - share)) * curve[left] + (share**3 - share) * curve[left + 1]
    return line + bow / 6


def row_at(rows: Rows, heights: NDArray[np.float64]) -> geometry.Matrices:
    """rows (N, ROWS, 3, 3) at heights (N or 1, P), in frame heights from the middle -> (N, P, 3, 3)."""
    powers = heights[..., None] ** np.arange(ROWS)
    lagrange = np.linalg.inv(np.vander(HEIGHTS, increasing=True))  # polynomials -> 1 at their own height, 0 at others
    return np.einsum("...pk,...kij->...pij", powers @ lagrange, rows)


def straightened(rows: Rows, points: NDArray[np.float64], height: float) -> NDArray[np.float64]:
    """Points (N or 1, P, 2) of frames -> where they would be had each frame been exposed at once (N, P, 2)."""
    m = row_at(rows, np.clip(points[..., 1] / height, -BEYOND, BEYOND))
    whole = np.concatenate([points, np.ones_like(points[..., :1])], axis=-1)
    moved = np.einsum("...pij,...pj->...pi", m, np.broadcast_to(whole, (*m.shape[:-2], 3)))
    return moved[..., :2] / moved[..., 2:]


def bent(rows: Rows, points: NDArray[np.float64], height: float) -> NDArray[np.float64]:
    """The way back: points of straight frames -> where the frames show them."""
    found = points
    for _ in range(4):  # each round leaves some hundredths of what was missing
        found = found + (points - straightened(rows, found, height))
    return found


def added(steps: geometry.Matrices, readout: float, info: ClipInfo) -> geometry.Tangents:
    """What the rolling shutter adds to a shot's steps (n - 1, 3, 3) between middle rows: tangents, done before them."""
    way, weights = _continued(steps), _between(HEIGHTS * readout)
    x, y = np.meshgrid(np.linspace(-0.5, 0.5, 7), np.linspace(-0.5, 0.5, 7))
    points = np.stack([x.ravel() * info.width, y.ravel() * info.height], axis=-1)
    unit = np.hypot(info.width, info.height) / 2
    u, v = points.T / unit
    one, none = np.ones_like(u), np.zeros_like(u)
    across = np.stack([one, none, -v, u, u, v, -u * u, -u * v], axis=-1)
    down = np.stack([none, one, u, v, -v, u, -u * v, -v * v], axis=-1)
    fit = np.linalg.pinv(np.concatenate([across, down]))  # (8, 2 P)
    at_corner = np.array([1, 1, *[unit] * 4, unit**2, unit**2])
    bends = np.zeros((len(steps), 8))
    for part in geometry.pieces(len(steps)):
        rows = _rows_along(way, weights, slice(part.start, part.stop + 1))
        there = geometry.apply(steps[part], straightened(rows[:-1], points[None], info.height))
        seen = geometry.apply(geometry.inverse(steps[part]), bent(rows[1:], there, info.height)) - points
        bends[part] = np.concatenate([seen[..., 0], seen[..., 1]], axis=-1) @ fit.T / at_corner
    return bends


def shown(rows: Rows, info: ClipInfo) -> NDArray[np.float64]:
    """(N, 4): left, top, right and bottom of the largest upright rectangle that each frame shows all of, made straight.

    Between the centres of the outermost pixels.
    """
    heights = np.linspace(-0.5, 0.5, 4 * ROWS + 1)
    x, y = max(info.width - 1, 0) / 2, max(info.height - 1, 0) * heights
    left, right = (
        straightened(rows, np.stack([np.full_like(y, side), y], axis=-1)[None], info.height) for side in (-x, x)
    )
    sides = [left[..., 0].max(axis=1), np.maximum(left[:, 0, 1], right[:, 0, 1])]
    sides += [right[..., 0].min(axis=1), np.minimum(left[:, -1, 1], right[:, -1, 1])]
    return np.stack(sides, axis=-1)


def reach(rows: Rows, info: ClipInfo) -> NDArray[np.float64]:
    """(N, 2): how far, across and down, points of each frame are moved at most where it is made straight."""
    x, y = (part.ravel() for part in np.meshgrid([-info.width / 2, info.width / 2], info.height * HEIGHTS))
    points = np.stack([x, y], axis=-1)[None]
    return np.abs(straightened(rows, points, info.height) - points).max(axis=1)
