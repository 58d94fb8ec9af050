"""Find black frames between visible ones: a fade to black, or a cut to it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_BLACK, MAX_BLACK_CONTRAST = 26.0, 0.75  # mean and standard deviation of a black thumbnail, in 8-bit levels
MIN_CONTRAST = 4.0  # of a visible one: without any nearby, a scene is dark and not faded
LOOK_SECONDS = 0.5  # before and after the black frames, in which a scene is visible
MIN_CORRELATION = 0.5  # of the views before and after, if they are of one scene


class BlackRun(NamedTuple):
    """Black frames from `start` to before `stop`.

    is_one_scene: whether one scene is on both sides.
    """

    start: int
    stop: int
    is_one_scene: bool


def find_black_runs(thumbnails: NDArray[np.uint8], fps: float) -> list[BlackRun]:
    """Find runs of black frames next to visible ones.

    thumbnails: (N, 144), of the frames of a clip.
    """
    contrast, look = thumbnails.std(axis=1), max(1, round(LOOK_SECONDS * fps))
    black = (contrast < MAX_BLACK_CONTRAST) & (thumbnails.mean(axis=1) < MAX_BLACK)
    edges = np.flatnonzero(np.diff(black, prepend=False, append=False)).reshape(-1, 2)
    runs: list[BlackRun] = []
    for start, stop in edges.tolist():
        sides = [range(max(0, start - look), start), range(stop, min(stop + look, len(thumbnails)))]
        best = [max(side, key=contrast.__getitem__) for side in sides if side]
        visible = [frame for frame in best if contrast[frame] >= MIN_CONTRAST]
        if visible:
            is_one_scene = len(visible) < 2 or _correlation(*thumbnails[visible]) >= MIN_CORRELATION
            runs.append(BlackRun(start, stop, is_one_scene))
    return runs


def _correlation(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    a, b = (values - values.mean() for values in (first, second))
    return float(a @ b) / float(np.linalg.norm(a) * np.linalg.norm(b))
