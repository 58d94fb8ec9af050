"""Find dissolves: one scene fades into another within a second.

In a dissolve the thumbnails of the frames (transitions.py) lie on a straight line: each is a mixture of those before
and after it, by least squares, whose share grows from 0 to 1. Shake and noise cancel in blocks of a sixteenth of the
frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ... import geometry

THUMBNAIL = (9, 16)  # rows and columns
MAX_SECONDS = 1.1  # longer mixtures are not looked for
LENGTHS = (1.0, 0.7, 0.45, 0.3)  # of the windows, relative to the longest: a moving camera needs a short one
MAX_CORRELATION = 0.5  # of the frames before and after, which show two scenes
MIN_CONTRAST, MIN_CONTRAST_RATIO = 2.0, 0.2  # 8-bit levels; and of the fainter scene to the other: no fade to black
MAX_RESIDUAL = 0.25  # of the mixture, relative to the difference of the two scenes
MAX_STEP, MAX_BACKWARD_STEP = 0.4, 0.08  # of the share from frame to frame: more is a cut, or no mixture
MIN_MIXED_FRAMES, MIXED = 3, (0.08, 0.92)  # frames with a share between these

Array = NDArray[np.float32]


class Dissolve(NamedTuple):
    """A dissolve.

    first, last: the mixed frames. middle: the first frame that mostly shows the second scene. residual: of the fit.
    """

    first: int
    middle: int
    last: int
    residual: float

    @classmethod
    def of(cls, shares: Array, residual: float, start: int) -> Dissolve | None:
        """The dissolve with given shares of its second scene, or None.

        shares: (n,). None if they do not grow from 0 to 1, or the residual is too large. start: number of the first
        frame.
        """
        steps = np.diff(shares)
        mixed = np.flatnonzero((shares > MIXED[0]) & (shares < MIXED[1]))
        if len(mixed) < MIN_MIXED_FRAMES or steps.max() > MAX_STEP or steps.min() < -MAX_BACKWARD_STEP:
            return None
        if residual > MAX_RESIDUAL:
            return None
        middle = int((shares >= 0.5).argmax())
        return cls(start + int(mixed[0]), start + middle, start + int(mixed[-1]), residual)


def window_lengths(fps: float) -> list[int]:
    """Distances in frames between a frame before and one after a dissolve."""
    longest = ceil(MAX_SECONDS * fps)
    return sorted({max(MIN_MIXED_FRAMES, round(longest * share)) + 1 for share in LENGTHS})


def has_two_contrasts(first: Array, second: Array) -> NDArray[np.bool_]:
    """Whether contrasts (n,) are of two visible scenes."""
    smaller, larger = np.minimum(first, second), np.maximum(first, second)
    return (smaller >= MIN_CONTRAST) & (smaller >= MIN_CONTRAST_RATIO * larger)


def fit_shares(frames: Array, first: Array, last: Array, used: NDArray[np.bool_]) -> tuple[Array, float]:
    """Fit thumbnails (n, 144) as mixtures of two, in the used blocks.

    first, last: (n, 144), the two scenes. Returns the share (n,) of the last, and the largest residual relative to the
    difference of the scenes.
    """
    difference = np.where(used, last - first, 0)
    power = np.maximum(np.square(difference).sum(axis=1), 1e-6)
    shares = ((frames - first) * difference).sum(axis=1) / power
    errors = np.where(used, frames - first - shares[:, None] * difference, 0)
    return shares, float(np.sqrt((np.square(errors).sum(axis=1) / power).max()))


def find_dissolves(thumbnails: NDArray[np.uint8], fps: float) -> list[Dissolve]:
    """Find the dissolves of a clip, in order.

    thumbnails: (N, 144), of its frames.
    """
    candidates = [found for length in window_lengths(fps) for found in _find_with_length(thumbnails, length)]
    return choose_separate(candidates, lambda dissolve: dissolve.residual)


def choose_separate(candidates: Iterable[Dissolve], cost: Callable[[Dissolve], float]) -> list[Dissolve]:
    """Choose those of the lowest cost that do not overlap, in order."""
    chosen: list[Dissolve] = []
    for candidate in sorted(candidates, key=cost):
        if all(candidate.first > other.last + 1 or candidate.last < other.first - 1 for other in chosen):
            chosen.append(candidate)
    return sorted(chosen)


def _find_with_length(thumbnails: NDArray[np.uint8], length: int) -> Iterator[Dissolve]:
    """Yield the dissolves between frames that are `length` apart.

    The same one may come several times.
    """
    for part in geometry.chunks(max(0, len(thumbnails) - length)):
        own = thumbnails[part.start : part.stop + length].astype(np.float32)
        first, last = own[:-length], own[length:]
        a, b = first - first.mean(axis=1, keepdims=True), last - last.mean(axis=1, keepdims=True)
        contrast_a, contrast_b = np.sqrt(np.square(a).mean(axis=1)), np.sqrt(np.square(b).mean(axis=1))
        is_candidate = has_two_contrasts(contrast_a, contrast_b)
        is_candidate &= (a * b).mean(axis=1) < MAX_CORRELATION * contrast_a * contrast_b
        for start in np.flatnonzero(is_candidate):
            found = _fit_mixture(own[start : start + length + 1], part.start + int(start))
            if found is not None:
                yield found


def _fit_mixture(frames: Array, start: int) -> Dissolve | None:
    """Return the dissolve from the first to the last thumbnail.

    None unless the thumbnails (n, 144) are mixtures of these two. start: number of the first frame.
    """
    first, last = (np.broadcast_to(frame, frames.shape) for frame in (frames[0], frames[-1]))
    return Dissolve.of(*fit_shares(frames, first, last, np.ones(frames.shape, np.bool_)), start)
