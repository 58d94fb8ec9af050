"""Detect letterbox and pillarbox bars.

Bars are black and end in a straight line that no camera moves. The evidence is the maximum of each pixel over many
frames: a dark scene becomes brighter in some frame, or its edges smear with the motion of the camera.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import astuple
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bars import Bars
from ..clip import Clip, ClipInfo
from .estimate import luma_frames

MAX_BLACK = 0.09  # luma of a bar: black of the limited range, if it was decoded as the full range, with noise
CONTENT_RISE = 0.07  # luma above that of the bars, which content has in some frame
CONTENT_SHARE = 0.85  # of the pixels of a line of content; subtitles over a whole clip cover less of a bar
EDGE_SHARE = 0.05  # of the pixels of a bar's inner line: a lit strip that crosses the edge belongs to a dark scene
EDGE_PIXELS = 3  # compression blurs an edge over so many; the darkest of these lines counts
MIN_ACTIVE_SHARE = 0.3  # of each side that is not bars
MIN_FRAMES, ENOUGH_FRAMES, MAX_FRAMES = 8, 48, 240  # that are looked at; the first is the least evidence


def find_bars(clip: Clip) -> Bars | None:
    """Detect black bars in the first frames of a clip; None if there are none.

    A clip without bars is known after a few frames; a dark one may take `MAX_FRAMES`. The frames have to agree,
    whatever their shots; `find_shot_bars` detects those of each shot. The width is even, so that no pixel of subsampled
    chroma belongs to both.
    """
    found, brightest, count = None, np.ones((1, 1), np.float32), 0
    with closing(luma_frames(clip, max(clip.info.size))) as frames:
        for count, luma in enumerate(frames, 1):
            plane = np.asarray(luma[0, 0], np.float32)
            brightest = plane if count == 1 else np.maximum(brightest, plane)
            if not _may_have_bars(brightest):
                return None
            if count == ENOUGH_FRAMES:
                found = detect_bars(brightest)
            if count == MAX_FRAMES or (count >= ENOUGH_FRAMES and found is not None):
                break
    found = detect_bars(brightest) if count >= MIN_FRAMES else None
    if found is None:
        return None
    return to_frame_size(found, brightest.shape, clip.info)


def to_frame_size(bars: Bars, shape: tuple[int, ...], info: ClipInfo) -> Bars:
    """Convert bars of gray frames to those of a clip, of even width.

    shape: (h, w) of the gray frames; those of a pipeline that upscales are smaller than its own.
    """
    scale_x, scale_y = info.width / shape[1], info.height / shape[0]
    even = (2 * ceil(n * s / 2 - 1e-6) for n, s in zip(astuple(bars), (scale_x, scale_y) * 2, strict=True))
    return Bars(*even)


def _may_have_bars(brightest: NDArray[np.float32]) -> bool:
    """Whether a side is dark enough for a bar."""
    sides = (brightest[0], brightest[-1], brightest[:, 0], brightest[:, -1])
    return any(float(np.quantile(side, 0.2)) <= MAX_BLACK for side in sides)


def detect_bars(brightest: NDArray[np.float32]) -> Bars | None:
    """Find the bars around the content.

    brightest: (h, w), the maximum luma of each pixel over many frames. None where there are none, or where they may be
    those of a dark scene.
    """
    content = brightest > MAX_BLACK + CONTENT_RISE
    columns = content.mean(axis=0) > MIN_ACTIVE_SHARE
    if not columns.any():
        return None
    left, right = _extent(columns)
    top, bottom = _extent(content[:, left:right].mean(axis=1) > CONTENT_SHARE)
    left, right = _extent(content[top:bottom].mean(axis=0) > CONTENT_SHARE)
    height, width = content.shape
    if bottom - top < MIN_ACTIVE_SHARE * height or right - left < MIN_ACTIVE_SHARE * width:
        return None
    rows, dark_rows = content[:, left:right].mean(axis=1), np.quantile(brightest[:, left:right], 0.2, axis=1)
    cols, dark_cols = content[top:bottom].mean(axis=0), np.quantile(brightest[top:bottom], 0.2, axis=0)
    bars = Bars(
        _bar(cols[:left][::-1], dark_cols[:left]),
        _bar(rows[:top][::-1], dark_rows[:top]),
        _bar(cols[right:], dark_cols[right:]),
        _bar(rows[bottom:], dark_rows[bottom:]),
    )
    return bars if bars != Bars() else None


def _extent(flags: NDArray[np.bool_]) -> tuple[int, int]:
    """First and last + 1 of the set flags; (0, 0) if there is none."""
    where = np.flatnonzero(flags)
    return (int(where[0]), int(where[-1]) + 1) if len(where) else (0, 0)


def _bar(shares: NDArray[np.floating[Any]], darkness: NDArray[np.floating[Any]]) -> int:
    """The number of lines that form a bar, all or 0.

    shares: of content in each line, from the active area outwards. darkness: luma of its dark part.
    """
    if not len(shares) or darkness.max() > MAX_BLACK or shares[:EDGE_PIXELS].min() > EDGE_SHARE:
        return 0
    return len(shares)
