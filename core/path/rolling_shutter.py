"""Rolling shutter model.

The rows of a frame are exposed one after the other, each with its own camera pose. The readout, the fraction of the
frame time that this takes, is a property of the camera and constant in a clip. It is visible in the steps: horizontal
acceleration shears a frame relative to the previous one, vertical acceleration stretches it. Rotation about the center
does neither, so shear and stretch in proportion to the acceleration determine the readout; those in proportion to the
speed (lens distortion, scene depth) do not.

With a known readout, the camera path between frames gives the pose of each row, and the steps are converted to those
between the middle rows. After Forssén and Ringaby, Rectifying Rolling Shutter Video from Hand-Held Devices (2010), and
Baker, Bennett, Kang and Szeliski, Removing Rolling Shutter Wobble (2010).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from ..clip import ClipInfo
from .even_time import is_constant_rate, separate
from .ray_camera import RayCamera

RowHomographies = NDArray[np.float64]
"""(N, ROW_SAMPLES, 3, 3): rows[i, k] maps points of frame i at height k, evenly spaced from the upper to the lower
edge, to their position if the whole frame were exposed with its middle row."""

ROW_SAMPLES = 5  # heights with a homography; polynomial interpolation between them is accurate to hundredths of a pixel
RADIUS_FRAMES = 4  # frames before and after that determine the camera path between frames
ROW_HEIGHTS = np.linspace(-0.5, 0.5, ROW_SAMPLES)  # in frame heights
MAX_READOUT = 1.0  # for more, rows of one frame would be exposed after those of the next
EXTRAPOLATION_HEIGHT = 0.6  # in frame heights: rows outside the frame are extrapolated up to here, then constant
MAX_ROW_DISPLACEMENT = 0.5  # in frame sides; rows of a real camera move less
ITERATIONS = 6  # to find the steps between middle rows: each reduces the error to a third


def rectify_steps(
    steps: geometry.Matrices,
    shots: Sequence[slice],
    info: ClipInfo,
    readout: float,
    times: NDArray[np.float64] | None = None,
    *,
    similarity: bool = False,
) -> tuple[geometry.Matrices, RowHomographies]:
    """Convert measured steps (N, 3, 3) to those between the middle rows.

    Returns also the row homographies.

    readout: time between the exposure of the upper and of the lower edge as a fraction of the frame time; negative if
    the lower edge is first. times: of the frames (N,), in frame times; None for a constant rate. A shot in which rows
    would move by `MAX_ROW_DISPLACEMENT` or more (jumps as large as the frame) is not changed. similarity: the steps
    have neither shear nor perspective, as with a lens, and get none.
    """
    steps = steps.copy()
    rows = np.tile(np.eye(3), (len(steps), ROW_SAMPLES, 1, 1))
    for shot in shots:
        inner = slice(shot.start + 1, shot.stop)
        if shot.stop - shot.start < 2:
            continue
        rectified = measured = steps[inner]
        shot_times = None if times is None else times[shot]
        with np.errstate(all="ignore"):
            for _ in range(ITERATIONS):
                # The negative tangents are nearly the inverse, and never singular.
                distortion = shutter_distortion(rectified, readout, info, shot_times)
                if similarity:
                    distortion[:, 4:] = 0
                back = geometry.matrices_from_tangents(-distortion)
                rectified = geometry.normalize(measured @ back)
            shot_rows = _row_homographies(rectified, readout, shot_times)
            displacements = [
                (max_displacement(shot_rows[part], info) / [info.width, info.height]).max()
                for part in geometry.chunks(len(shot_rows))
            ]
        if all(value < MAX_ROW_DISPLACEMENT for value in displacements):  # False for NaN, unlike max(displacements)
            steps[inner], rows[shot] = rectified, shot_rows
    return steps, rows


def _row_homographies(steps: geometry.Matrices, readout: float, times: NDArray[np.float64] | None) -> RowHomographies:
    """Return the row homographies of a shot.

    steps: (n - 1, 3, 3), between the middle rows of its frames.
    """
    rows = np.empty((len(steps) + 1, ROW_SAMPLES, 3, 3))
    padded, weights = _pad_steps(steps), _spline_weights(ROW_HEIGHTS * readout, _neighbor_times(times))
    for part in geometry.chunks(len(rows)):
        rows[part] = _rows_from_path(padded, weights, part)
    return rows


def _pad_steps(steps: geometry.Matrices) -> geometry.Matrices:
    """The steps of a shot with `RADIUS_FRAMES` more before and after them."""
    # Beyond its ends the path is continued by point reflection, which keeps its speed.
    return np.pad(steps, ((RADIUS_FRAMES, RADIUS_FRAMES), (0, 0), (0, 0)), mode="symmetric")


def _neighbor_times(times: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Return the times of the neighbors of each frame of a shot.

    (n, 2 RADIUS_FRAMES + 1), from the first neighbor on; a single row that stands for all frames at a constant rate.
    """
    size = 2 * RADIUS_FRAMES + 1
    if times is None or is_constant_rate(times):
        return np.arange(size, dtype=np.float64)[None]
    steps = np.pad(np.diff(separate(times)), RADIUS_FRAMES, mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(np.append(0.0, np.cumsum(steps)), size)
    return windows - windows[:, :1]


def _rows_from_path(padded_steps: geometry.Matrices, weights: NDArray[np.float64], frames: slice) -> RowHomographies:
    """Row homographies of a range of frames of a shot.

    padded_steps: of the shot, from `_pad_steps`. weights: (n or 1, ROW_SAMPLES, 2 RADIUS_FRAMES + 1), of the
    neighboring frames, for each height.
    """
    weights = weights[frames] if len(weights) > 1 else weights
    n, radius = frames.stop - frames.start, RADIUS_FRAMES
    padded_steps = padded_steps[frames.start : frames.stop + 2 * radius - 1]
    inverse_steps = geometry.inverse(padded_steps)
    tangents = np.zeros((n, ROW_SAMPLES, 8))
    before = after = np.tile(np.eye(3), (n, 1, 1))  # poses k frames before and after, relative to each frame
    for k in range(1, radius + 1):
        before = before @ padded_steps[radius - k : radius - k + n]
        after = after @ inverse_steps[radius + k - 1 : radius + k - 1 + n]
        tangents += weights[..., radius - k, None] * geometry.to_tangents(before)[:, None]
        tangents += weights[..., radius + k, None] * geometry.to_tangents(after)[:, None]
    return geometry.matrices_from_tangents(tangents)


def _spline_weights(offsets: NDArray[np.float64], knots: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return interpolation weights of the neighboring frames at each offset.

    (M, T, 2 RADIUS_FRAMES + 1).

    offsets: (T,), times from the middle frame. knots: (M, 2 RADIUS_FRAMES + 1), times of the frames. A natural cubic
    spline: of the local interpolations it follows fast shake best.
    """
    size = 2 * RADIUS_FRAMES + 1
    inner, gaps = np.arange(1, size - 1), np.diff(knots)
    before, after = gaps[:, :-1], gaps[:, 1:]
    system, rhs = np.tile(np.eye(size), (len(knots), 1, 1)), np.zeros((len(knots), size, size))
    for column, slope, curvature in (
        (inner - 1, 1 / before, before / 6),
        (inner, -(1 / before + 1 / after), (before + after) / 3),
        (inner + 1, 1 / after, after / 6),
    ):
        system[:, inner, column], rhs[:, inner, column] = curvature, slope
    second = np.linalg.solve(system, rhs)  # values -> second derivatives
    times = np.clip(offsets + knots[:, RADIUS_FRAMES, None], knots[:, :1], knots[:, -1:])  # (M, T)
    left = np.clip((knots[:, None] <= times[..., None]).sum(axis=-1) - 1, 0, size - 2)
    width = np.take_along_axis(gaps, left, axis=1)
    t = ((times - np.take_along_axis(knots, left, axis=1)) / width)[..., None]
    identity, row = np.eye(size), np.arange(len(knots))[:, None]
    linear = (1 - t) * identity[left] + t * identity[left + 1]
    cubic = ((1 - t) ** 3 - (1 - t)) * second[row, left] + (t**3 - t) * second[row, left + 1]
    return linear + cubic / 6 * width[..., None] ** 2


def interpolate_rows(rows: RowHomographies, heights: NDArray[np.float64]) -> geometry.Matrices:
    """Interpolate row homographies at some heights.

    heights: (N or 1, P), in frame heights from the middle. Returns (N, P, 3, 3).
    """
    powers = heights[..., None] ** np.arange(ROW_SAMPLES)
    lagrange = np.linalg.inv(np.vander(ROW_HEIGHTS, increasing=True))  # coefficients of the Lagrange polynomials
    return np.einsum("...pk,...kij->...pij", powers @ lagrange, rows)


def rectify_points(
    rows: RowHomographies, points: NDArray[np.float64], height: float, camera: RayCamera | None = None
) -> NDArray[np.float64]:
    """Map points of rolling-shutter frames to rectified frames.

    points: (N or 1, P, 2); height: of the frames. camera: for rows that are its views. Returns (N, P, 2).
    """
    m = interpolate_rows(rows, np.clip(points[..., 1] / height, -EXTRAPOLATION_HEIGHT, EXTRAPOLATION_HEIGHT))
    if camera is not None:
        return camera.transform(m, np.broadcast_to(points, (*m.shape[:-2], 2))[..., None, :])[..., 0, :]
    homogeneous = np.concatenate([points, np.ones_like(points[..., :1])], axis=-1)
    moved = np.einsum("...pij,...pj->...pi", m, np.broadcast_to(homogeneous, (*m.shape[:-2], 3)))
    return moved[..., :2] / moved[..., 2:]


def distort_points(
    rows: RowHomographies, points: NDArray[np.float64], height: float, camera: RayCamera | None = None
) -> NDArray[np.float64]:
    """Map points of rectified frames to rolling-shutter frames.

    The inverse of `rectify_points`.
    """
    distorted = points
    for _ in range(4):  # each iteration reduces the error to some hundredths
        distorted = distorted + (points - rectify_points(rows, distorted, height, camera))
    return distorted


def shutter_distortion(
    steps: geometry.Matrices, readout: float, info: ClipInfo, times: NDArray[np.float64] | None = None
) -> geometry.Tangents:
    """Return the rolling shutter's effect on the steps of a shot, as tangents.

    steps: (n - 1, 3, 3), between the middle rows. times: of the n frames, in frame times; None for a constant rate. A
    measured step is the step times the matrix of these tangents, which is applied first.
    """
    padded, weights = _pad_steps(steps), _spline_weights(ROW_HEIGHTS * readout, _neighbor_times(times))
    x, y = np.meshgrid(np.linspace(-0.5, 0.5, 7), np.linspace(-0.5, 0.5, 7))
    points = np.stack([x.ravel() * info.width, y.ravel() * info.height], axis=-1)
    corner_radius = np.hypot(info.width, info.height) / 2
    u, v = points.T / corner_radius
    one, zero = np.ones_like(u), np.zeros_like(u)
    along_x = np.stack([one, zero, -v, u, u, v, -u * u, -u * v], axis=-1)
    along_y = np.stack([zero, one, u, v, -v, u, -u * v, -v * v], axis=-1)
    fit = np.linalg.pinv(np.concatenate([along_x, along_y]))  # (8, 2 P)
    at_corner = np.array([1, 1, *[corner_radius] * 4, corner_radius**2, corner_radius**2])
    tangents = np.zeros((len(steps), 8))
    for part in geometry.chunks(len(steps)):
        rows = _rows_from_path(padded, weights, slice(part.start, part.stop + 1))
        moved = geometry.transform_points(steps[part], rectify_points(rows[:-1], points[None], info.height))
        distorted = distort_points(rows[1:], moved, info.height)
        offsets = geometry.transform_points(geometry.inverse(steps[part]), distorted) - points
        tangents[part] = np.concatenate([offsets[..., 0], offsets[..., 1]], axis=-1) @ fit.T / at_corner
    return tangents


def inscribed_rect(rows: RowHomographies, info: ClipInfo, camera: RayCamera | None = None) -> NDArray[np.float64]:
    """Return the largest upright rectangle inside each rectified frame.

    (N, 4): left, top, right and bottom, between the centers of the outermost pixels.
    """
    heights = np.linspace(-0.5, 0.5, 4 * ROW_SAMPLES + 1)
    x, y = max(info.width - 1, 0) / 2, max(info.height - 1, 0) * heights
    left, right = (
        rectify_points(rows, np.stack([np.full_like(y, side), y], axis=-1)[None], info.height, camera)
        for side in (-x, x)
    )
    sides = [left[..., 0].max(axis=1), np.maximum(left[:, 0, 1], right[:, 0, 1])]
    sides += [right[..., 0].min(axis=1), np.minimum(left[:, -1, 1], right[:, -1, 1])]
    return np.stack(sides, axis=-1)


def max_displacement(rows: RowHomographies, info: ClipInfo, camera: RayCamera | None = None) -> NDArray[np.float64]:
    """Return the maximum displacement of each frame's points by rectification.

    (N, 2), along x and y.
    """
    x, y = (part.ravel() for part in np.meshgrid([-info.width / 2, info.width / 2], info.height * ROW_HEIGHTS))
    points = np.stack([x, y], axis=-1)[None]
    return np.abs(rectify_points(rows, points, info.height, camera) - points).max(axis=1)
