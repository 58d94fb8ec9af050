"""What a correction costs in picture: how far to zoom in so that no border shows, and how to stay within a budget."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from ..clip import ClipError
from . import rolling
from .budget import nearest_within, whole
from .trajectory import Correction

LARGEST_ZOOM = 4.0  # a crop that would leave less than a quarter of each side is refused: something else is wrong
UNSEEN = 4e-4  # of the frame's width: a swing of the smoothing's period no farther than this is not seen


def zooms_to_fill(correction: Correction) -> NDArray[np.float64]:
    """(N,): the magnification that each frame alone needs so that its output shows nothing but source pixels.

    infinity where the correction moves the centre of the output out of the source: no magnification fills that.
    """
    return np.concatenate([np.ones(0), *(_zooms(correction, p) for p in geometry.pieces(len(correction.matrices)))])


def _zooms(correction: Correction, frames: slice) -> NDArray[np.float64]:
    width, height = correction.info.width, correction.info.height
    # Centres of the outermost pixels, not the outer edge: what is looked up between source pixels needs no border.
    corners = geometry.corners(max(width - 1, 0), max(height - 1, 0))
    back = geometry.inverse(correction.matrices[frames])  # output -> source
    if not corners.any():
        return np.ones(len(back))
    sides, added = shown(correction, frames)
    # Along the ray s * corner, the looked-up place (a s + b) / (c s + d) leaves the source where it meets an edge:
    # a s + b = edge * (c s + d), which is linear in s, for each corner, axis and side of the source.
    outward = corners + np.sign(corners) * added[:, None]  # (N or 1, 4, 2)
    direction = np.concatenate([outward, np.zeros((*outward.shape[:2], 1))], axis=2)
    a = direction @ back.swapaxes(-1, -2)  # (N, 4, 3)
    b = back[:, None, :, 2]  # (N, 1, 3)
    reach = np.full(len(back), np.inf)
    for axis, size in ((0, width), (1, height)):
        for sign, side in ((1, sides[:, 2 + axis, None]), (-1, sides[:, axis, None])):
            slope = a[..., axis] - side * a[..., 2]  # grows towards this edge when its sign is the edge's
            room = side * b[..., 2] - b[..., axis]
            toward = slope * sign if size > 1 else np.abs(slope)
            distance = room * sign if size > 1 else np.abs(room)
            s = np.where(toward > 1e-12, distance / np.where(toward > 1e-12, toward, 1), np.inf)
            reach = np.minimum(reach, np.where((toward <= 1e-12) & (distance < 0), -np.inf, s).min(axis=1))
    reach[~np.isfinite(back).all(axis=(1, 2))] = 0  # a correction without an inverse shows nothing of the source
    return np.where(reach > 0, np.maximum(1.0, 1 / np.where(reach > 0, reach, 1)), np.inf)


def shown(correction: Correction, frames: slice = slice(None)) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a rolling shutter leaves of the picture: the sides of what is there, and how far its rows reach out.

    (N or 1, 4): left, top, right and bottom of the rectangle in which the matrices find source pixels, between the
    centres of the outermost ones; (N or 1, 2): pixels across and down by which the output asks for more than its own
    size. One row stands for all frames where nothing bends.
    """
    sides, added = whole(correction.info)
    if correction.rows is None:
        return sides, added
    rows, found = correction.rows[frames], rolling.reach if correction.bends else rolling.shown
    each = np.concatenate([found(rows[part], correction.info) for part in geometry.pieces(len(rows))])
    return (sides, each) if correction.bends else (each, added)


def zoom_to_fill(correction: Correction) -> float:
    """The one magnification that serves every frame. Raises ClipError where that would leave next to nothing."""
    return float(_bearable(zooms_to_fill(correction)).max(initial=1.0))


def zoomed(correction: Correction, zoom: float | NDArray[np.float64]) -> Correction:
    """The same correction, enlarged about the centre of the output: all frames alike, or each by its own (N,)."""
    each = np.broadcast_to(zoom, len(correction.matrices))
    enlarge = np.stack([each, each, np.ones_like(each)], axis=-1)
    return replace(correction, matrices=enlarge[..., None] * correction.matrices)


def adaptive_zoom(correction: Correction, seconds: float = 2.0) -> Correction:
    """Zoom in only as far as each moment needs, and so slowly that it looks like a lens: from any frame's need to any
    other's it takes at least `seconds`, easing in and out. No border shows anywhere.

    Raises ClipError where a frame alone would need more than `LARGEST_ZOOM`.
    """
    need = np.log(_bearable(zooms_to_fill(correction)))
    half = max(1, round(seconds * float(correction.info.fps) / 4))
    eased = np.empty_like(need)
    for shot in correction.shots:
        # The most over the neighbourhood, then means that reach no farther: no lower anywhere than the frame needs.
        most = _windows(need[shot], 2 * half).max(axis=1)
        for _ in range(2):
            most = _windows(most, half).mean(axis=1)
        eased[shot] = np.maximum(most, need[shot])  # means of equal numbers may round down
    return zoomed(correction, np.exp(eased))


def _bearable(zooms: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(zooms) and zooms.max() > LARGEST_ZOOM:
        raise ClipError(
            f"frame {zooms.argmax()} is moved so far that cropping would leave less than 1/{LARGEST_ZOOM:g} of each "
            "side: limit the zoom, smooth over fewer seconds, or choose a border that fills (fill, mirror, edge, wrap)"
        )
    return zooms


def limit_zoom(correction: Correction, most: float, *, seconds: float = 4.0) -> Correction:
    """The nearest corrections of which none needs more magnification than `most` to fill the frame (1.2 means 20 %).

    Nearest in the sense of budget.py: what is given up of a shot is as little and as smooth as the budget allows. Shots
    within it stay as they are.
    seconds: the period of the smoothing that asked for the correction; quicker swings of what is given up would be a
    shake of their own.
    """
    fits = zooms_to_fill(correction) <= most
    if fits.all():
        return correction
    nearest = correction.matrices.copy()
    for shot in correction.shots:
        if most > 1 and not fits[shot].all():
            asked = _part(correction, shot)
            found = _nearest(asked, most, seconds)
            nearest[shot] = found.matrices if (zooms_to_fill(found) <= most).all() else asked.matrices
    # What has no such solution (a view from beyond the horizon, or no budget at all) is held back frame by frame.
    return held_back(replace(correction, matrices=nearest), most)


def trimmed(correction: Correction, *, seconds: float = 4.0) -> Correction:
    """The corrections without the peaks that cost picture and buy nothing: one crop serves all frames, so the moment
    that is moved farthest decides what is cut off everywhere.

    Of the shot that needs most, as much is given up as can be without being seen, in the sense of limit_zoom; then of
    the next, down to what the first one needs. A path stays as smooth as it was: what is given up bends no more, for as
    long as a period anywhere, than a swing of the period as far as `UNSEEN`. That says nothing of what is given up at
    an even pace, so this is not for corrections whose place is a promise: a locked view, a level horizon.
    seconds: the period of the smoothing that asked for the corrections.
    """
    needs, least = zooms_to_fill(correction), 1.0
    matrices = correction.matrices.copy()
    for shot in sorted(correction.shots, key=lambda s: -needs[s].max()):
        low, high = least, needs[shot].max()
        if not low < high <= LARGEST_ZOOM:
            continue
        asked = _part(correction, shot)
        for _ in range(6):  # halves what may be saved each time: a sixty-fourth of it is a thousandth of the picture
            middle = (low + high) / 2
            found = _nearest(asked, middle, 2 * seconds)  # given up more slowly than the period is given up unseen
            if (zooms_to_fill(found) <= middle).all() and _bending(asked, found, seconds) <= UNSEEN:
                high, matrices[shot] = middle, found.matrices
            else:
                low = middle
        least = high
    return replace(correction, matrices=matrices)


def _bending(asked: Correction, found: Correction, seconds: float) -> float:
    """How uneven the way is from one shot's corrections to others, at worst: the root mean square acceleration of the
    frame's corners, over a period, as that of a swing of the period so many frame widths far.
    """
    period, info = seconds * float(asked.info.fps), asked.info
    corners = geometry.corners(info.width, info.height)
    moved = geometry.apply(geometry.normalized(found.matrices @ geometry.inverse(asked.matrices)), corners[None])
    # Over some frames: from each to the next, what the solver rounds away (budget.py) would be taken for a jolt.
    stride = max(1, min(round(period / 16), (len(moved) - 1) // 2))
    second = moved[2 * stride :] - 2 * moved[stride : len(moved) - stride] + moved[: max(0, len(moved) - 2 * stride)]
    squares = (second**2).sum(axis=-1).mean(axis=-1) / stride**4
    if not len(squares):
        return 0.0
    length = min(len(squares), max(1, round(period)))
    worst = np.convolve(squares, np.full(length, 1 / length), mode="valid").max()
    return float(np.sqrt(max(worst, 0.0))) * (period / (2 * np.pi)) ** 2 / max(info.width, 1)


def _part(correction: Correction, frames: slice) -> Correction:
    """That of these frames, all of one shot."""
    rows, one = None if correction.rows is None else correction.rows[frames], [slice(0, frames.stop - frames.start)]
    return replace(correction, matrices=correction.matrices[frames], shots=one, poses=None, rows=rows)


def _nearest(asked: Correction, most: float, seconds: float) -> Correction:
    """One shot's: a correction bends a frame and then shifts, turns and enlarges it, which is where it can give way."""
    tangents = geometry.to_tangents(asked.matrices)
    similar, bent = tangents[:, :4], tangents * [0, 0, 0, 0, 1, 1, 1, 1]
    bent = held_back(replace(asked, matrices=geometry.to_matrices_of(bent)), most**0.5).matrices
    period = seconds * float(asked.info.fps)
    wanted = geometry.inverse(geometry.to_matrices(similar))
    views = nearest_within(wanted, geometry.inverse(bent), asked.info, most, period, shown(asked))
    return replace(asked, matrices=geometry.normalized(geometry.inverse(views) @ bent))


def held_back(correction: Correction, most: float, *, seconds: float = 1.0) -> Correction:
    """Correct less where filling the frame would need more magnification than `most`; a share of all, in each frame.

    How much less changes slowly, over `seconds`: a correction that lets go suddenly is a jolt of its own. Simpler than
    `limit_zoom`, and as exact, but it gives the quick shake back with the slow one.
    """
    strength = strength_within(correction, most)
    if (strength == 1).all():
        return correction
    radius = max(1, round(seconds * float(correction.info.fps)))
    eased = np.empty_like(strength)
    for shot in correction.shots:
        # The least over the neighbourhood, then its mean: no higher anywhere than the frame itself allows.
        least = _windows(strength[shot], radius).min(axis=1)
        eased[shot] = _windows(least, radius).mean(axis=1)
    return weakened(correction, eased)


def strength_within(correction: Correction, most: float) -> NDArray[np.float64]:
    """(N,): the largest share of each correction, in [0, 1], that needs no more magnification than `most`."""
    parts = [_part(correction, frames) for frames in geometry.pieces(len(correction.matrices))]
    return np.concatenate([np.ones(0), *(_strengths(part, most) for part in parts)])


def _strengths(correction: Correction, most: float) -> NDArray[np.float64]:
    low, high = np.zeros(len(correction.matrices)), np.ones(len(correction.matrices))
    fits = zooms_to_fill(correction) <= most
    if fits.all():
        return high
    for _ in range(20):
        middle = (low + high) / 2
        inside = zooms_to_fill(weakened(correction, middle)) <= most
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return np.where(fits, 1.0, low)


def weakened(correction: Correction, strength: NDArray[np.float64]) -> Correction:
    """Each correction replaced by that share of it."""
    tangents = geometry.to_tangents(correction.matrices) * strength[:, None]
    matrices, rows = geometry.to_matrices_of(tangents), correction.rows
    if rows is not None:
        rows = geometry.to_matrices_of(geometry.to_tangents(rows) * strength[:, None, None])
    return replace(correction, matrices=matrices, rows=rows)


def _windows(values: NDArray[np.float64], radius: int) -> NDArray[np.float64]:
    """(n,) -> (n, 2 radius + 1): each value with its neighbours, the ends repeated."""
    padded = np.pad(values, radius, mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * radius + 1)
