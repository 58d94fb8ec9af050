"""A few frames out of the middle of a clip, for a preview: of a recipe, no more is run than they need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from typing import Any, cast

from ..clip import Clip, ClipError, Frames
from ..video.decode.video_clip import VideoClip
from .pipeline import Recipe
from .slicing import made, one_by_one, settled, window
from .warp_op import Steady


def excerpt(clip: Clip, numbers: range) -> Iterator[Frames]:
    """Yield the frames of these numbers, (1, C, H, W) each, as `clip.frames` would: those that there are.

    A recipe's networks run on these frames alone, and its zooms and fills are those of the whole clip; flicker is taken
    out as if the clip began a few frames before. What comes before in a file is decoded and dropped.
    Raises ClipError where the clip ends before the first of them, and what the recipe raises.
    """
    if numbers.start < 0 or numbers.step != 1:
        raise ValueError(f"frames are counted from 0 and taken in a row, got {numbers}")
    done = 0
    with closing(cast(Any, _some(clip, numbers))) as frames:
        for frame in frames:
            done += 1
            yield frame
    if not done and numbers:
        length = clip.info.length
        told = "fewer frames" if length is None else f"{length} frames, the last of which is number {length - 1}"
        raise ClipError(f"there is no frame {numbers.start}: the clip has {told}; choose an earlier one")


def one_frame(clip: Clip, number: int) -> Frames:
    """The frame of that number, (1, C, H, W). Raises ClipError as `excerpt` does."""
    return next(iter(excerpt(clip, range(number, number + 1))))


def _some(clip: Clip, numbers: range) -> Iterator[Frames]:
    recipe = clip if isinstance(clip, Recipe) else Recipe(clip)
    counts = [len(o.correction.matrices) for o in recipe.operations if isinstance(o, Steady)]
    count = counts[0] if counts else numbers.stop
    piece = range(min(numbers.start, count), min(numbers.stop, count))
    if not piece:
        return
    plan = settled(recipe, count)
    seen = window(plan, piece, count)
    with closing(cast(Any, _from(plan.source, seen.start))) as stream:
        yield from one_by_one(made(plan, islice(stream, len(seen)), seen, piece))


def _from(clip: Clip, first: int) -> Iterator[Frames]:
    """The frames from that one on, one by one."""
    frames = clip.frames(first=first) if isinstance(clip, VideoClip) else islice(clip.frames(), first, None)
    yield from one_by_one(frames)
