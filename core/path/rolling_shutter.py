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

RowHomographies = NDArray[np.float64]
"""(N, ROWS, 3, 3): rows[i, k] carries points of frame i at height k, evenly from its upper to its lower edge, to where
the frame would show them if all of it were exposed with its middle row."""

ROW_SAMPLES = 5  # heights at which rows are kept; between them the polynomial through all of them is within hundredths
RADIUS_FRAMES = 4  # frames before and after from which the camera's way between frames is drawn
ROW_HEIGHTS = np.linspace(-0.5, 0.5, ROW_SAMPLES)  # in frame heights
MAX_READOUT = 1.0  # readout beyond which rows of one frame would be exposed after the next one's
EXTRAPOLATION_HEIGHT = (
    0.6  # height up to which rows outside of the frame go on as those inside do; farther ones stay at that
)
MAX_ROW_DISPLACEMENT = 0.5  # share of a frame's side by which no row of a real camera is displaced
ITERATIONS = 6  # in which the steps between middle rows are found: each leaves a third of what was missing


def rectify_steps(
    steps: geometry.Matrices, shots: Sequence[slice], info: ClipInfo, readout: float
) -> tuple[geometry.Matrices, RowHomographies]:
    """Steps (N, 3, 3) between frames as seen -> those between their middle rows, and what bends each frame straight.

    readout: share of the frame time between the exposure of the upper and of the lower edge; negative where the lower
    one comes first. A shot whose rows would be torn apart, by jumps as large as the frame, stays as it is.
    """
    steps = steps.copy()
    rows = np.tile(np.eye(3), (len(steps), ROW_SAMPLES, 1, 1))
    for shot in shots:
        inner = slice(shot.start + 1, shot.stop)
        if shot.stop - shot.start < 2:
            continue
        straight = seen = steps[inner]
        with np.errstate(all="ignore"):
            for _ in range(ITERATIONS):
                back = geometry.matrices_from_tangents(
                    -shutter_distortion(straight, readout, info)
                )  # nearly the inverse, and never singular
                straight = geometry.normalize(seen @ back)
            found = _row_homographies(straight, readout)
            moved = [
                (max_displacement(found[p], info) / [info.width, info.height]).max()
                for p in geometry.chunks(len(found))
            ]
        if max(moved) < MAX_ROW_DISPLACEMENT:  # which nothing is that is not a number
            steps[inner], rows[shot] = straight, found
    return steps, rows


def _row_homographies(steps: geometry.Matrices, readout: float) -> RowHomographies:
    """The rows (n, ROWS, 3, 3) of a shot with these steps (n - 1, 3, 3) between the middle rows of its frames."""
    rows = np.empty((len(steps) + 1, ROW_SAMPLES, 3, 3))
    way, weights = _pad_steps(steps), _spline_weights(ROW_HEIGHTS * readout)
    for part in geometry.chunks(len(rows)):
        rows[part] = _rows_from_path(way, weights, part)
    return rows


def _pad_steps(steps: geometry.Matrices) -> geometry.Matrices:
    """The steps of a shot with `REACH` more before and after them."""
    # Beyond its ends the way goes on point-mirrored: as fast as it ends, and no faster.
    return np.pad(steps, ((RADIUS_FRAMES, RADIUS_FRAMES), (0, 0), (0, 0)), mode="symmetric")


def _rows_from_path(padded_steps: geometry.Matrices, weights: NDArray[np.float64], frames: slice) -> RowHomographies:
    """The rows of these frames of a shot, whose steps with those before and after it are `way`.

    weights: (ROWS, 2 REACH + 1), what the frames around one count for each of its heights.
    """
    n = frames.stop - frames.start
    padded_steps = padded_steps[frames.start : frames.stop + 2 * RADIUS_FRAMES - 1]
    back = np.linalg.inv(padded_steps)
    tangents = np.zeros((n, ROW_SAMPLES, 8))
    before = after = np.tile(np.eye(3), (n, 1, 1))
    for k in range(1, RADIUS_FRAMES + 1):
        before = (
            before @ padded_steps[RADIUS_FRAMES - k : RADIUS_FRAMES - k + n]
        )  # the pose k frames before, as seen from each frame
        after = after @ back[RADIUS_FRAMES + k - 1 : RADIUS_FRAMES + k - 1 + n]
        tangents += weights[:, RADIUS_FRAMES - k, None] * geometry.to_tangents(before)[:, None]
        tangents += weights[:, RADIUS_FRAMES + k, None] * geometry.to_tangents(after)[:, None]
    return geometry.matrices_from_tangents(tangents)


def _spline_weights(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the places of the frames -REACH ... REACH count (T, 2 REACH + 1) for the place at each time, in frames.

    By the natural cubic spline through them: of the local rules it follows quick shake best.
    """
    size = 2 * RADIUS_FRAMES + 1
    curve = np.zeros((size, size))  # values -> second derivatives
    inner = np.arange(1, size - 1)
    system, right = np.eye(size), np.zeros((size, size))
    system[inner, inner - 1], system[inner, inner], system[inner, inner + 1] = 1 / 6, 2 / 3, 1 / 6
    right[inner, inner - 1], right[inner, inner], right[inner, inner + 1] = 1, -2, 1
    curve = np.linalg.solve(system, right)
    left = np.clip(np.floor(times + RADIUS_FRAMES).astype(int), 0, size - 2)
    share = (times + RADIUS_FRAMES - left)[:, None]
    identity = np.eye(size)
    line = (1 - share) * identity[left] + share * identity[left + 1]
    bow = ((1 - share) ** 3 - (1 - share)) * curve[left] + (share**3 - share) * curve[left + 1]
    return line + bow / 6


def interpolate_rows(rows: RowHomographies, heights: NDArray[np.float64]) -> geometry.Matrices:
    """rows (N, ROWS, 3, 3) at heights (N or 1, P), in frame heights from the middle -> (N, P, 3, 3)."""
    powers = heights[..., None] ** np.arange(ROW_SAMPLES)
    lagrange = np.linalg.inv(
        np.vander(ROW_HEIGHTS, increasing=True)
    )  # polynomials -> 1 at their own height, 0 at others
    return np.einsum("...pk,...kij->...pij", powers @ lagrange, rows)


def rectify_points(rows: RowHomographies, points: NDArray[np.float64], height: float) -> NDArray[np.float64]:
    """Points (N or 1, P, 2) of frames -> where they would be had each frame been exposed at once (N, P, 2)."""
    m = interpolate_rows(rows, np.clip(points[..., 1] / height, -EXTRAPOLATION_HEIGHT, EXTRAPOLATION_HEIGHT))
    whole = np.concatenate([points, np.ones_like(points[..., :1])], axis=-1)
    moved = np.einsum("...pij,...pj->...pi", m, np.broadcast_to(whole, (*m.shape[:-2], 3)))
    return moved[..., :2] / moved[..., 2:]


def distort_points(rows: RowHomographies, points: NDArray[np.float64], height: float) -> NDArray[np.float64]:
    """The way back: points of straight frames -> where the frames show them."""
    found = points
    for _ in range(4):  # each round leaves some hundredths of what was missing
        found = found + (points - rectify_points(rows, found, height))
    return found


def shutter_distortion(steps: geometry.Matrices, readout: float, info: ClipInfo) -> geometry.Tangents:
    """What the rolling shutter adds to a shot's steps (n - 1, 3, 3) between middle rows: tangents, done before them."""
    way, weights = _pad_steps(steps), _spline_weights(ROW_HEIGHTS * readout)
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
    for part in geometry.chunks(len(steps)):
        rows = _rows_from_path(way, weights, slice(part.start, part.stop + 1))
        there = geometry.transform_points(steps[part], rectify_points(rows[:-1], points[None], info.height))
        seen = (
            geometry.transform_points(geometry.inverse(steps[part]), distort_points(rows[1:], there, info.height))
            - points
        )
        bends[part] = np.concatenate([seen[..., 0], seen[..., 1]], axis=-1) @ fit.T / at_corner
    return bends


def visible_rect(rows: RowHomographies, info: ClipInfo) -> NDArray[np.float64]:
    """(N, 4): left, top, right and bottom of the largest upright rectangle that each frame shows all of, made straight.

    Between the centres of the outermost pixels.
    """
    heights = np.linspace(-0.5, 0.5, 4 * ROW_SAMPLES + 1)
    x, y = max(info.width - 1, 0) / 2, max(info.height - 1, 0) * heights
    left, right = (
        rectify_points(rows, np.stack([np.full_like(y, side), y], axis=-1)[None], info.height) for side in (-x, x)
    )
    sides = [left[..., 0].max(axis=1), np.maximum(left[:, 0, 1], right[:, 0, 1])]
    sides += [right[..., 0].min(axis=1), np.minimum(left[:, -1, 1], right[:, -1, 1])]
    return np.stack(sides, axis=-1)


def max_displacement(rows: RowHomographies, info: ClipInfo) -> NDArray[np.float64]:
    """(N, 2): how far, across and down, points of each frame are moved at most where it is made straight."""
    x, y = (part.ravel() for part in np.meshgrid([-info.width / 2, info.width / 2], info.height * ROW_HEIGHTS))
    points = np.stack([x, y], axis=-1)[None]
    return np.abs(rectify_points(rows, points, info.height) - points).max(axis=1)
