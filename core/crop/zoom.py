"""The zoom that hides the border of corrected frames, and its limits.

Corrections are limited to a maximum zoom by `limit_zoom` and `attenuate_to_zoom`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from ..clip import ClipError
from ..path import rolling_shutter
from ..path.even_time import even_grid, is_constant_rate
from ..path.mesh import hidden_margins
from ..path.ray_camera import RayCamera
from ..path.trajectory import Correction
from ..runtime.deprecation import renamed_arguments
from .crop_qp import full_rect, project_to_crop
from .lens_zoom import lens_scales

MAX_ZOOM = 4.0  # a crop to less than a quarter of each side is an error: the motion is probably wrong
MIN_SOLVED_ZOOM = 1.0005  # of a limit over time: the solver needs some room
ADAPTIVE_SECONDS = 2.0  # that a transition of an adaptive zoom takes
LENS_ZOOM_SHARES = (1.0, 0.9, 0.75, 0.5)  # of the allowed magnification, tried one after the other
VISIBILITY_THRESHOLD = 4e-4  # frame widths: a smaller oscillation with the smoothing's period is invisible


def zooms_to_fill(correction: Correction) -> NDArray[np.float64]:
    """Return the minimum magnification of each frame that hides the border: (N,).

    With it the output contains source pixels only. Infinity if the correction moves the center of the output out of the
    source.
    """
    if correction.shot_bars is not None:
        return np.concatenate([zooms_to_fill(part) for part in correction.split_by_bars()])
    return np.concatenate(
        [np.ones(0), *(_chunk_zooms(correction, p) for p in geometry.chunks(len(correction.matrices)))]
    )


def _chunk_zooms(correction: Correction, frames: slice) -> NDArray[np.float64]:
    width, height = correction.info.width, correction.info.height
    # Centers of the outermost pixels, not the outer edge: interpolation between source pixels needs no border.
    corners = geometry.corners(max(width - 1, 0), max(height - 1, 0))
    to_source = geometry.inverse(correction.matrices[frames])
    if not corners.any():
        return np.ones(len(to_source))
    rect, margin = visible_rect(correction, frames)
    if correction.lens is not None:
        max_scale = lens_scales(correction, to_source, rect, margin)
        return np.where(max_scale > 0, np.maximum(1.0, 1 / np.where(max_scale > 0, max_scale, 1)), np.inf)
    # Along the ray s * corner, the source position (a s + b) / (c s + d) leaves the source where it meets an edge:
    # a s + b = edge * (c s + d), which is linear in s, for each corner, axis and side of the source.
    outward = corners + np.sign(corners) * margin[:, None]  # (N or 1, 4, 2)
    direction = np.concatenate([outward, np.zeros((*outward.shape[:2], 1))], axis=2)
    a = direction @ to_source.swapaxes(-1, -2)  # (N, 4, 3)
    b = to_source[:, None, :, 2]  # (N, 1, 3)
    max_scale = np.full(len(to_source), np.inf)
    for axis, size in ((0, width), (1, height)):
        for sign, edge in ((1, rect[:, 2 + axis, None]), (-1, rect[:, axis, None])):
            slope = a[..., axis] - edge * a[..., 2]
            gap = edge * b[..., 2] - b[..., axis]
            speed = slope * sign if size > 1 else np.abs(slope)  # positive: the ray approaches this edge
            distance = gap * sign if size > 1 else np.abs(gap)
            s = np.where(speed > 1e-12, distance / np.where(speed > 1e-12, speed, 1), np.inf)
            max_scale = np.minimum(max_scale, np.where((speed <= 1e-12) & (distance < 0), -np.inf, s).min(axis=1))
    max_scale[~np.isfinite(to_source).all(axis=(1, 2))] = 0  # a singular correction shows nothing of the source
    return np.where(max_scale > 0, np.maximum(1.0, 1 / np.where(max_scale > 0, max_scale, 1)), np.inf)


def visible_rect(
    correction: Correction, frames: slice = slice(None)
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the visible part of the source, and the margin that its rows need.

    A rolling shutter and a mesh either hide a part of the source or require a margin.

    Returns (N or 1, 4): left, top, right and bottom of the rectangle in which the matrices find source pixels, between
    the centers of the outermost ones; and (N or 1, 2): pixels along x and y by which the output exceeds its own size.
    One row stands for all frames without a rolling shutter or a mesh.
    """
    rect, margin = full_rect(correction.info)
    if correction.rows is not None:
        rows = correction.rows[frames]
        measure = rolling_shutter.max_displacement if correction.distorts_rows else rolling_shutter.inscribed_rect
        camera = None if correction.lens is None else RayCamera(correction.lens, correction.info.width)
        values = np.concatenate([measure(rows[part], correction.info, camera) for part in geometry.chunks(len(rows))])
        rect, margin = (rect, values) if correction.distorts_rows else (values, margin)
    if correction.mesh is not None:
        mesh = correction.mesh[frames]
        if correction.distorts_rows:
            margin = margin + np.abs(mesh).max(axis=(1, 2)).astype(np.float64)
        else:
            rect = rect + hidden_margins(mesh) * [1, 1, -1, -1]
    return rect, margin


def zoom_to_fill(correction: Correction) -> float:
    """Return the smallest zoom at which no frame shows its border.

    Raises ClipError if it exceeds `MAX_ZOOM`.
    """
    return float(_check_zooms(zooms_to_fill(correction)).max(initial=1.0))


def apply_zoom(correction: Correction, zoom: float | NDArray[np.float64]) -> Correction:
    """Zoom the output about its center.

    zoom: one for all frames, or one per frame (N,).
    """
    zooms = np.broadcast_to(zoom, len(correction.matrices))
    factors = np.stack([zooms, zooms, np.ones_like(zooms)], axis=-1)
    return replace(correction, matrices=factors[..., None] * correction.matrices)


def adaptive_zoom(correction: Correction, seconds: float = ADAPTIVE_SECONDS) -> Correction:
    """Zoom in only as far as each moment needs, with slow transitions.

    No border is visible in any frame.

    A transition between the zooms of two frames takes at least `seconds`, with ease-in and ease-out.
    Raises ClipError if a frame needs more than `MAX_ZOOM`.
    """
    required = np.log(_check_zooms(zooms_to_fill(correction)))
    radius, times = seconds * float(correction.info.fps) / 4, correction.frame_times
    eased = np.empty_like(required)
    for shot in correction.shots:
        smooth = upper_envelope(required[shot], times[shot], radius, hold=2, means=2)
        eased[shot] = np.maximum(smooth, required[shot])  # means of equal numbers may round down
    return apply_zoom(correction, np.exp(eased))


def _check_zooms(zooms: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(zooms) and zooms.max() > MAX_ZOOM:
        raise ClipError(
            f"frame {zooms.argmax()} is moved so far that cropping would leave less than 1/{MAX_ZOOM:g} of each "
            "side: limit the zoom, smooth over fewer seconds, or choose a border that fills (fill, mirror, edge, wrap)"
        )
    return zooms


@renamed_arguments(most="max_zoom")
def limit_zoom(correction: Correction, max_zoom: float | NDArray[np.float64], *, seconds: float = 4.0) -> Correction:
    """Find the nearest corrections that respect a maximum zoom.

    They need no more magnification than `max_zoom` (1.2 means 20 %), one for all frames or one per frame (N,).

    Nearest in the sense of crop_qp.py: the change of a shot is as small and as smooth as the limit allows. Shots within
    the limit are not changed.
    seconds: the period of the smoothing; faster oscillations of the change would be a new shake.
    """
    limits = np.broadcast_to(np.asarray(max_zoom, np.float64), len(correction.matrices))
    fits = zooms_to_fill(correction) <= limits
    if fits.all():
        return correction
    nearest = correction.matrices.copy()
    for shot in correction.shots:
        if limits[shot].max() > 1 and not fits[shot].all():
            original, solvable = slice_correction(correction, shot), np.maximum(limits[shot], MIN_SOLVED_ZOOM)
            # With a lens, the constraints are only nearly those of its rays.
            for share in (1.0,) if correction.lens is None else LENS_ZOOM_SHARES:
                projected = _project_shot(original, 1 + share * (solvable - 1), seconds)
                if (zooms_to_fill(projected) <= solvable).all():
                    nearest[shot] = projected.matrices
                    break
    # Shots without such a solution (a view from beyond the horizon, or a limit of 1) are attenuated frame by frame.
    return attenuate_to_zoom(replace(correction, matrices=nearest), max_zoom)


def trim_peaks(correction: Correction, *, seconds: float = 4.0) -> Correction:
    """Remove peaks of the correction that increase the crop without a visible benefit.

    One crop is used for all frames, so the frame with the largest correction determines it. The shot with the largest
    zoom is limited (as by `limit_zoom`) as far as the change is invisible, then the next, down to the zoom of the
    first. The path stays as smooth as it was: over a period, the change has no more acceleration than an oscillation of
    that period with an amplitude of `VISIBILITY_THRESHOLD`. Uniform motion is not bounded, so this is not suitable for
    corrections with a fixed view or a level horizon.
    seconds: the period of the smoothing.
    """
    required, min_zoom = zooms_to_fill(correction), 1.0
    matrices = correction.matrices.copy()
    for shot in sorted(correction.shots, key=lambda s: -required[s].max()):
        low, high = min_zoom, required[shot].max()
        if not low < high <= MAX_ZOOM:
            continue
        original = slice_correction(correction, shot)
        for _ in range(6):  # bisection: 1/64 of the possible saving is a thousandth of the frame
            middle = (low + high) / 2
            limited = _project_shot(original, middle, 2 * seconds)  # a change slower than the period is invisible
            fits = (zooms_to_fill(limited) <= middle).all()
            if fits and _acceleration_amplitude(original, limited, seconds) <= VISIBILITY_THRESHOLD:
                high, matrices[shot] = middle, limited.matrices
            else:
                low = middle
        min_zoom = high
    return replace(correction, matrices=matrices)


def _acceleration_amplitude(original: Correction, limited: Correction, seconds: float) -> float:
    """Return the amplitude of the change of a shot's correction, in frame widths.

    It is that of an oscillation with the same acceleration. The acceleration is the largest root mean square over a
    period of that of the frame's corners.
    """
    period, info, times = seconds * float(original.info.fps), original.info, original.frame_times
    corners = geometry.corners(info.width, info.height)
    moved = geometry.transform_points(
        geometry.normalize(limited.matrices @ geometry.inverse(original.matrices)), corners[None]
    )
    if not is_constant_rate(times):
        grid = even_grid(times)
        columns = [np.interp(grid, times, column) for column in moved.reshape(len(moved), -1).T]
        moved, period = np.stack(columns, axis=-1).reshape(len(grid), -1, 2), period / float(grid[1] - grid[0])
    # With a stride of some frames: between neighbors, rounding of the solver (crop_qp.py) would look like a jolt.
    stride = max(1, min(round(period / 16), (len(moved) - 1) // 2))
    second = moved[2 * stride :] - 2 * moved[stride : len(moved) - stride] + moved[: max(0, len(moved) - 2 * stride)]
    squares = (second**2).sum(axis=-1).mean(axis=-1) / stride**4
    if not len(squares):
        return 0.0
    length = min(len(squares), max(1, round(period)))
    worst = np.convolve(squares, np.full(length, 1 / length), mode="valid").max()
    return float(np.sqrt(max(worst, 0.0))) * (period / (2 * np.pi)) ** 2 / max(info.width, 1)


def slice_correction(correction: Correction, frames: slice) -> Correction:
    """The correction of a range of frames of one shot, without poses."""
    rows, shots = None if correction.rows is None else correction.rows[frames], [slice(0, frames.stop - frames.start)]
    times = None if correction.times is None else correction.times[frames]
    mesh = None if correction.mesh is None else correction.mesh[frames]
    matrices = correction.matrices[frames]
    return replace(correction, matrices=matrices, shots=shots, poses=None, rows=rows, times=times, mesh=mesh)


def _project_shot(original: Correction, max_zoom: float | NDArray[np.float64], seconds: float) -> Correction:
    """Project the correction of one shot to those that need at most `max_zoom`.

    A correction is shear and perspective, followed by a similarity; only the similarity is changed.
    """
    tangents = geometry.to_tangents(original.matrices)
    similarities, shear = tangents[:, :4], tangents * [0, 0, 0, 0, 1, 1, 1, 1]
    shear = attenuate_to_zoom(
        replace(original, matrices=geometry.matrices_from_tangents(shear)), max_zoom**0.5
    ).matrices
    period = seconds * float(original.info.fps)
    wanted = geometry.inverse(geometry.matrices_from_parameters(similarities))
    views = project_to_crop(
        wanted,
        geometry.inverse(shear),
        original.info,
        max_zoom,
        period,
        visible_rect(original),
        original.frame_times,
    )
    return replace(original, matrices=geometry.normalize(geometry.inverse(views) @ shear))


def attenuate_to_zoom(
    correction: Correction, max_zoom: float | NDArray[np.float64], *, seconds: float = 1.0
) -> Correction:
    """Reduce the strength of the correction to what `max_zoom`, one or (N,), allows.

    The reduction is per frame. The strength changes slowly, over `seconds`: a sudden change would be a jolt.
    Simpler than `limit_zoom`, and as exact, but it restores fast shake together with slow motion.
    """
    strength = max_strength_for_zoom(correction, max_zoom)
    if (strength == 1).all():
        return correction
    radius, times = seconds * float(correction.info.fps), correction.frame_times
    eased = np.empty_like(strength)
    for shot in correction.shots:
        eased[shot] = -upper_envelope(-strength[shot], times[shot], radius, hold=1, means=1)
    return attenuate_correction(correction, eased)


def max_strength_for_zoom(correction: Correction, max_zoom: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the largest fraction of each correction that `max_zoom` allows.

    (N,), in [0, 1]. max_zoom: one or (N,).
    """
    count = len(correction.matrices)
    limits = np.broadcast_to(np.asarray(max_zoom, np.float64), count)
    strengths = (_chunk_strengths(slice_correction(correction, part), limits[part]) for part in geometry.chunks(count))
    return np.concatenate([np.ones(0), *strengths])


def _chunk_strengths(correction: Correction, limits: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = np.zeros(len(correction.matrices)), np.ones(len(correction.matrices))
    fits = zooms_to_fill(correction) <= limits
    if fits.all():
        return high
    for _ in range(20):
        middle = (low + high) / 2
        allowed = zooms_to_fill(attenuate_correction(correction, middle)) <= limits
        low, high = np.where(allowed, middle, low), np.where(allowed, high, middle)
    return np.where(fits, 1.0, low)


def attenuate_correction(correction: Correction, strength: NDArray[np.float64]) -> Correction:
    """Scale each correction by its strength (N,), rows and mesh included."""
    tangents = geometry.to_tangents(correction.matrices) * strength[:, None]
    matrices, rows = geometry.matrices_from_tangents(tangents), correction.rows
    if rows is not None:
        rows = geometry.matrices_from_tangents(geometry.to_tangents(rows) * strength[:, None, None])
    mesh = None if correction.mesh is None else correction.mesh * strength[:, None, None, None].astype(np.float32)
    return replace(correction, matrices=matrices, rows=rows, mesh=mesh)


def upper_envelope(
    values: NDArray[np.float64], times: NDArray[np.float64], radius: float, *, hold: int, means: int
) -> NDArray[np.float64]:
    """Return a slowly varying curve (n,) that is nowhere below the values (n,).

    times, radius: in frame times. It is the maximum over windows of `hold` radiuses to each side, then `means` times
    the mean over windows of one radius.
    """
    even, grid = values, times
    if not is_constant_rate(times):
        grid = even_grid(times)
        radius /= float(grid[1] - grid[0])
        # The two points around a frame are at least as high, so that the line between them is.
        even: NDArray[np.float64] = np.interp(grid, times, values)
        after = np.searchsorted(grid, times).clip(max=len(grid) - 1)
        for points in (after, np.maximum(after - 1, 0)):
            np.maximum.at(even, points, values)
    points = max(1, round(radius))
    even = _sliding_windows(even, hold * points).max(axis=1)
    for _ in range(means):
        even = _sliding_windows(even, points).mean(axis=1)
    return even if grid is times else np.interp(times, grid, even)


def _sliding_windows(values: NDArray[np.float64], radius: int) -> NDArray[np.float64]:
    """(n,) -> (n, 2 radius + 1): each value with its neighbors, the ends repeated."""
    padded = np.pad(values, radius, mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * radius + 1)
