"""Dissolves and fades: transitions that no two neighboring frames show.

They are found in thumbnails, which are recorded while motion is measured.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ...path.motion import Motion
from ...path.trajectory import MIN_CONFIDENCE
from ..fit.pose_graph import UNKNOWN
from ..optical_flow.gray_frame import Plane
from .dissolves import THUMBNAIL
from .fades import find_black_runs
from .moving_dissolves import find_moving_dissolves

DARK_SIDE = 23  # 8-bit luma of blocks within a bar
FADED_FRAMES = 3  # before and after black ones: what is visible there is too faint for the detection of cuts


def thumbnail(plane: Plane) -> NDArray[np.uint8]:
    """Reduce luma (1, 1, h, w) in [0, 1] to 8-bit means of blocks, (144,).

    Pixels that are no number count as black.
    """
    means = np.nan_to_num(np.asarray(plane[0, 0], np.float32), nan=0.0, posinf=1.0, neginf=0.0)
    for axis, count in enumerate(THUMBNAIL):
        edges = np.arange(count + 1) * means.shape[axis] // count
        sums = np.add.reduceat(means, edges[:-1], axis=axis)
        means = sums / np.expand_dims(np.maximum(np.diff(edges), 1), 1 - axis)
    return np.rint(means * 255).clip(0, 255).astype(np.uint8).ravel()


def resolve_transitions(motion: Motion) -> Motion:
    """Return the motion with one cut per transition between scenes.

    While nothing is visible, there is no motion. The cut of a dissolve is in its middle, that of a fade to another
    scene in the middle of the black frames; a fade of one scene has none. The result has no thumbnails.
    """
    if motion.thumbnails is None:
        return motion
    fps, steps, confidence = float(motion.info.fps), motion.steps.copy(), motion.confidence.copy()
    for run in find_black_runs(motion.thumbnails, fps):
        _remove_cuts(confidence, slice(run.start - FADED_FRAMES, run.stop + FADED_FRAMES + 1))
        hidden = slice(max(1, run.start), run.stop + 1)
        steps[hidden], confidence[hidden] = np.eye(3), MIN_CONFIDENCE
        if not run.is_one_scene:
            confidence[(run.start + run.stop) // 2] = 0.0
    dissolves = find_moving_dissolves(motion)
    for dissolve in dissolves:
        _remove_cuts(confidence, slice(dissolve.first, dissolve.last + 2))
        steps[dissolve.middle], confidence[dissolve.middle] = np.eye(3), 0.0
    dark_sides = find_dark_sides(motion.thumbnails)
    mixed = [slice(dissolve.first, dissolve.last + 1) for dissolve in dissolves]
    return replace(motion, steps=steps, confidence=confidence, thumbnails=None, dissolves=mixed, dark_sides=dark_sides)


def find_dark_sides(thumbnails: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return whether the blocks at the left, top, right and bottom are black, (N, 4).

    thumbnails: (N, 144).
    """
    blocks = thumbnails.reshape(-1, *THUMBNAIL)
    sides = (blocks[:, :, 0], blocks[:, 0], blocks[:, :, -1], blocks[:, -1])
    return np.stack([side.max(axis=1) <= DARK_SIDE for side in sides], axis=1)


def _remove_cuts(confidence: NDArray[np.float64], frames: slice) -> None:
    """Make steps of cuts unknown, in place, except at the first frame."""
    frames = slice(max(1, frames.start), frames.stop)
    confidence[frames] = np.where(confidence[frames] == 0, UNKNOWN, confidence[frames])
