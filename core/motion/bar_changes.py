"""Detect bars that change at a cut.

While motion is measured, thumbnails (transitions.py) tell which sides of a frame are black. Only where the shots differ
in that, the clip is read once more, and the bars of each shot are detected at full resolution.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..bars import NO_BARS, Bars, bar_sections
from ..clip import Clip
from ..path.motion import Motion
from .bar_detection import CONTENT_RISE, MAX_BLACK, MIN_FRAMES, detect_bars, to_frame_size
from .estimate import luma_frames

CUT_FRAMES = 1  # at both ends of a shot, which may show something of the next one


def have_bars_changed(motion: Motion, known: Bars | None = None) -> bool:
    """Return whether some shots have bars that others, or the known bars, do not have.

    Bars of at least a ninth of the height above and below, or a sixteenth of the width on both sides. A dark shot says
    nothing. known: those that all of the first frames have.
    """
    bars = known or NO_BARS
    kinds: set[tuple[bool, bool]] = set()
    for shot in motion.shots:
        if motion.dark_sides is None or shot.stop - shot.start < MIN_FRAMES + 2 * CUT_FRAMES:
            continue
        dark: NDArray[np.bool_] = np.all(motion.dark_sides[shot.start + CUT_FRAMES : shot.stop - CUT_FRAMES], axis=0)
        if not dark.all():
            kinds.add((bool(dark[0] and dark[2]), bool(dark[1] and dark[3])))
    are_new = any((columns and not bars.left) or (rows and not bars.top) for columns, rows in kinds)
    return are_new or len(kinds) > 1


class _Shot(NamedTuple):
    """What is known of a shot: its bars, or how bright its rows and columns become."""

    bars: Bars | None
    rows: NDArray[np.float32]
    columns: NDArray[np.float32]


def find_shot_bars(clip: Clip, motion: Motion) -> tuple[Bars, ...]:
    """Detect the bars of each shot; `NO_BARS` for one without.

    A shot that is too short or too dark to tell has the bars of the nearest shot whose bars are black in it as well.
    """
    mixed = np.zeros(len(motion.steps), bool)
    for dissolve in motion.dissolves:
        mixed[dissolve] = True
    found: list[_Shot] = []
    with closing(luma_frames(clip, max(clip.info.size))) as frames:
        for shot in motion.shots:
            margin = CUT_FRAMES if shot.stop - shot.start > 2 * CUT_FRAMES else 0
            brightest, count = np.zeros((1, 1), np.float32), 0
            for number in range(shot.start, shot.stop):
                luma = next(frames, None)
                if luma is None:
                    break
                if shot.start + margin <= number < shot.stop - margin and not mixed[number]:
                    plane = np.asarray(luma[0, 0], np.float32)
                    brightest, count = np.maximum(brightest, plane), count + 1
            found.append(_describe(brightest, count, clip))
    return tuple(_resolve(found, index) for index in range(len(found)))


def _describe(brightest: NDArray[np.float32], count: int, clip: Clip) -> _Shot:
    bars = detect_bars(brightest) if count >= MIN_FRAMES else None
    if bars is not None:
        bars = to_frame_size(bars, brightest.shape, clip.info)
    is_known = bars is None and count >= MIN_FRAMES and float(np.median(brightest)) > MAX_BLACK + CONTENT_RISE
    rows, columns = (np.quantile(brightest, 0.98, axis=axis).astype(np.float32) for axis in (1, 0))
    return _Shot(NO_BARS if is_known else bars, rows, columns)


def _resolve(shots: Sequence[_Shot], index: int) -> Bars:
    """The bars of a shot, or those of the nearest one that fit it."""
    shot = shots[index]
    if shot.bars is not None:
        return shot.bars
    for other in sorted(range(len(shots)), key=lambda i: abs(i - index)):
        bars = shots[other].bars
        if bars is not None and bars != NO_BARS and _are_black(bars, shot):
            return bars
    return NO_BARS


def _are_black(bars: Bars, shot: _Shot) -> bool:
    height, width = len(shot.rows), len(shot.columns)
    inner_rows, inner_columns = bars.area(height, width)
    outside = [shot.rows[: inner_rows.start], shot.rows[inner_rows.stop :]]
    outside += [shot.columns[: inner_columns.start], shot.columns[inner_columns.stop :]]
    return all(lines.max(initial=0.0) <= MAX_BLACK for lines in outside)


def bars_of_new_shots(
    motion: Motion, shots: Sequence[slice], shot_bars: Sequence[Bars]
) -> tuple[Motion, tuple[Bars, ...]]:
    """Assign known bars to the shots of a motion that was measured again.

    shots, shot_bars: before. Returns the motion, in which a shot starts wherever the bars change, and their bars.
    """
    starts = [shot.start for shot in shots]
    confidence = motion.confidence.copy()
    confidence[[frames.start for frames, _ in bar_sections(shots, shot_bars)]] = 0
    motion = replace(motion, confidence=confidence)
    return motion, tuple(shot_bars[bisect_right(starts, shot.start) - 1] for shot in motion.shots)
