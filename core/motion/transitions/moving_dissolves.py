"""Find dissolves between two scenes that may move evenly: during a pan or a tilt.

Beyond the fit of dissolves.py, the thumbnails before and after the mixture are first moved to where the camera has
turned by then: at the speed that was measured before, and at that after it. One scene alone agrees with itself that
way, and two scenes do not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ... import geometry
from ...path.motion import Motion
from ...path.trajectory import is_reliable
from .dissolves import (
    MAX_CORRELATION,
    THUMBNAIL,
    Dissolve,
    choose_separate,
    find_dissolves,
    fit_shares,
    has_two_contrasts,
    window_lengths,
)

SPEED_FRAMES, MIN_STEPS = 6, 3  # whose median is the speed, and how many of them have to be known
MIN_SHIFT = 0.5  # blocks, of one of the scenes during the mixture: less is found without compensation
MIN_BLOCKS = 48  # of 144, that both scenes cover
SAME_SCENE_CORRELATION = 0.8  # of the frames before and after, the first moved to the second
MIDDLE_SHARES = (0.15, 0.85)  # of the mixture in the middle of a window

Array = NDArray[np.float32]
Points = NDArray[np.float64]


def find_moving_dissolves(motion: Motion) -> list[Dissolve]:
    """Find the dissolves of a motion with thumbnails, in order.

    Those of scenes that stand are among them.
    """
    thumbnails, fps = motion.thumbnails, float(motion.info.fps)
    assert thumbnails is not None
    speeds = _speeds(motion)
    candidates = [found for found in find_dissolves(thumbnails, fps) if not _is_one_scene(thumbnails, speeds, found)]
    for length in window_lengths(fps):
        for start in range(len(thumbnails) - length):
            stop = start + length + 1
            before, after = _median_speed(speeds, stop=start + 1), _median_speed(speeds, start=stop)
            if before is None or after is None or max(_largest(before), _largest(after)) * length < MIN_SHIFT:
                continue
            found = _fit(thumbnails[start:stop].astype(np.float32), before, after, start)
            if found is not None and not _is_one_scene(thumbnails, speeds, found):
                candidates.append(found)
    # A short part of a mixture fits well without compensation, or with too much; the whole one explains more frames.
    return choose_separate(candidates, lambda dissolve: dissolve.residual / (dissolve.last - dissolve.first + 1))


def _is_one_scene(thumbnails: NDArray[np.uint8], speeds: Points, found: Dissolve) -> bool:
    """Whether the frames on both sides of a dissolve show one scene, moved.

    Light that changes during a pan looks like a mixture otherwise.
    """
    start, stop = max(0, found.first - 1), min(found.last + 1, len(thumbnails) - 1)
    own = speeds[start + 1 : stop + 1]
    known = own[~np.isnan(own[:, 0])]
    if len(known) < MIN_STEPS:
        return False
    moved, used = _moved(thumbnails[start].astype(np.float32), known.mean(axis=0, keepdims=True) * len(own))
    if used.sum() < MIN_BLOCKS:  # of a whip through one scene the frames show nothing in common
        return True
    a, b = (values - values.mean() for values in (moved[0][used[0]], thumbnails[stop][used[0]].astype(np.float32)))
    return float(a @ b) >= SAME_SCENE_CORRELATION * float(np.linalg.norm(a) * np.linalg.norm(b))


def _speeds(motion: Motion) -> Points:
    """(N, 2): blocks by which the content moves to each frame, in x and y.

    NaN where it is unknown.
    """
    center = np.zeros((1, 1, 2))
    moved = geometry.transform_points(motion.steps, center)[:, 0] / motion.info.size * THUMBNAIL[::-1]
    return np.where(is_reliable(motion.confidence, motion.steps)[:, None], moved, np.nan)


def _median_speed(speeds: Points, start: int | None = None, stop: int | None = None) -> Points | None:
    """(2,): median of the known speeds from `start` on, or before `stop`.

    None if there are too few.
    """
    own = speeds[start : start + SPEED_FRAMES] if start is not None else speeds[:stop][-SPEED_FRAMES:]
    known = own[~np.isnan(own[:, 0])]
    return np.median(known, axis=0) if len(known) >= MIN_STEPS else None


def _largest(speed: Points) -> float:
    return float(np.abs(speed).max())


def _fit(frames: Array, before: Points, after: Points, start: int) -> Dissolve | None:
    """Return the dissolve from the first to the last thumbnail (n, 144).

    None if they are no mixtures of these two, moved. before, after: speeds of the scenes. start: number of the first
    frame.
    """
    count = np.arange(len(frames))
    middle = slice(len(frames) // 2, len(frames) // 2 + 1)
    for part in (middle, slice(None)):  # the middle first: it rejects most windows
        first, is_first = _moved(frames[0], before * count[part, None])
        last, is_last = _moved(frames[-1], after * (count[part, None] - len(frames) + 1))
        used = is_first & is_last
        if used.sum(axis=1).min() < MIN_BLOCKS or not _show_two_scenes(first, last, used):
            return None
        shares, residual = fit_shares(frames[part], first, last, used)
        if part is middle and not (MIDDLE_SHARES[0] < shares[0] < MIDDLE_SHARES[1]):
            return None
        found = Dissolve.of(shares, residual, start) if part is not middle else None
    return found


def _show_two_scenes(first: Array, last: Array, used: NDArray[np.bool_]) -> bool:
    """Whether thumbnails (n, 144) are unrelated in all frames, and not faint."""
    counts = used.sum(axis=1, keepdims=True)
    a, b = (np.where(used, each - (each * used).sum(axis=1, keepdims=True) / counts, 0) for each in (first, last))
    contrast_a, contrast_b = (np.sqrt(np.square(each).sum(axis=1) / counts[:, 0]) for each in (a, b))
    correlated = (a * b).sum(axis=1) / counts[:, 0] >= MAX_CORRELATION * contrast_a * contrast_b
    return bool(has_two_contrasts(contrast_a, contrast_b).all()) and not correlated.any()


def _moved(thumbnail: Array, shifts: Points) -> tuple[Array, NDArray[np.bool_]]:
    """Move a thumbnail (144,) by shifts (n, 2) in x and y, linearly.

    Returns the results (n, 144), and where they show the thumbnail.
    """
    rows, columns = THUMBNAIL
    x, y = np.arange(columns) - shifts[:, :1], np.arange(rows) - shifts[:, 1:]
    is_inside = ((y >= 0) & (y <= rows - 1))[:, :, None] & ((x >= 0) & (x <= columns - 1))[:, None]
    x, y = x.clip(0, columns - 1), y.clip(0, rows - 1)
    left, top = np.minimum(x.astype(np.intp), columns - 2), np.minimum(y.astype(np.intp), rows - 2)
    along_x, along_y = (x - left)[:, None], (y - top)[:, :, None]
    grid = thumbnail.reshape(rows, columns).astype(np.float64)
    left, top = left[:, None], top[:, :, None]
    upper = grid[top, left] * (1 - along_x) + grid[top, left + 1] * along_x
    lower = grid[top + 1, left] * (1 - along_x) + grid[top + 1, left + 1] * along_x
    values = upper * (1 - along_y) + lower * along_y
    return values.reshape(len(shifts), -1).astype(np.float32), is_inside.reshape(len(shifts), -1)
