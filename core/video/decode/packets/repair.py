"""Repair the timestamps of single frames: repeated ones and missing ones."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from ....clip import ClipError

MISSING = -(2**63)  # stands for a timestamp that the file does not have
_MAX_REFINEMENT = 1000  # times by which the time base is made finer, to place frames between neighbors


def needs_repair(pts: Sequence[int]) -> bool:
    """Whether timestamps, in the order of display, are missing or do not ascend."""
    values = np.asarray(pts)
    return bool((values == MISSING).any() or (np.diff(values) <= 0).any())


def repair_pts(path: Path, pts: Sequence[int], frame_duration: int, time_base: Fraction) -> tuple[array[int], int]:
    """Return ascending timestamps, and how many of their units `time_base` has.

    pts: in the order of display, MISSING where there is none. All that are given stay. A frame that repeats the one
    before goes between its neighbors, a frame duration later if there is room; one without a timestamp, evenly between
    them. No frame moves by more than `frame_duration`: several equal ones share that, if none is then further than that
    from its place at even distances either. Else ClipError is raised.
    """
    # A decoder may output two frames in another order than that of their timestamps.
    known = np.asarray(pts)
    has_pts = known != MISSING
    given = np.sort(known[has_pts])
    rows = np.flatnonzero(has_pts)
    is_first = np.append(True, np.diff(given) > 0)
    anchors, values = rows[is_first], given[is_first]
    scale = _refinement(path, anchors, values, time_base)
    fixed = array("q", bytes(8 * len(known)))
    result = np.asarray(fixed)
    result[anchors] = values * scale
    duration = frame_duration * scale
    result[: anchors[0]] = result[anchors[0]] - duration * np.arange(anchors[0], 0, -1)
    ends = [*anchors[1:].tolist(), len(known)]
    for first in np.flatnonzero(np.diff(anchors, append=len(known)) > 1).tolist():
        start, end = int(anchors[first]), ends[first]
        even = (result[end] - result[start]) / (end - start) if end < len(known) else duration
        is_repeat = bool(has_pts[start + 1 : end].any())
        step = min(even, duration) if is_repeat else even
        last = int(has_pts[start:end].nonzero()[0][-1])
        moved = int(step * last)
        if is_repeat and duration + scale < moved <= 2 * duration + scale:
            step, moved = duration / last, duration
        result[start + 1 : end] = result[start] + np.floor(step * np.arange(1, end - start)).astype(np.int64)
        if is_repeat and moved > duration + scale:
            seconds = float(values[first] * time_base)
            raise ClipError(
                f"{path}: {int(has_pts[start:end].sum())} frames from frame {start} on have one timestamp "
                f"({seconds:.3f} s), so that one would have to move by {float(moved / scale * time_base):.3f} s, more "
                "than the duration of a frame; write the file anew with a constant frame rate first, for instance with "
                "FFmpeg's option -fps_mode cfr"
            )
    return fixed, scale


def _refinement(path: Path, anchors: np.ndarray, values: np.ndarray, time_base: Fraction) -> int:
    """Return how much finer the time base must be, so that no two frames are equal."""
    if len(anchors) < 2:
        return 1
    needed = -(-np.diff(anchors) // np.diff(values))
    worst = int(needed.argmax())
    if needed[worst] > _MAX_REFINEMENT:
        raise ClipError(
            f"{path}: between frame {anchors[worst]} ({float(values[worst] * time_base):.3f} s) and frame "
            f"{anchors[worst + 1]} there is no room for the timestamps of those between; write the file anew with a "
            "constant frame rate first"
        )
    return int(needed[worst])
