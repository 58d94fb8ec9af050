"""What a run will come to, told before and during it: frames, size and memory at once, time when it has been measured.

Nothing here guesses a speed: the time is that of the first frames of this very run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ..runtime.format import spoken
from .pipeline import Recipe

T = TypeVar("T")

AHEAD = 6  # frames at once between decoder, stages and encoder: what is read ahead, worked on, and written behind
LONG = 5.0  # seconds after which the first frame alone is worth an estimate, though it also loads and checks
ENOUGH = 2.0  # seconds of frames after the first that make a good one


def memory_needed(recipe: Recipe) -> float:
    """Bytes that running a recipe takes at the most, roughly, beside the networks' weights and what the program holds.

    Frames on their way, the tensors of the largest stage, and of networks what they say of themselves or are guessed
    to take for the tiles that are chosen by the memory which is free now. Encoders hold up to 32 MB more, or 8 frames.
    """
    info = recipe.source.info
    frames, most = AHEAD * info.frame_bytes, 0.0
    for operation, before in recipe.steps():
        after = operation.info(before)
        frames += AHEAD * after.frame_bytes / 2
        most = max(most, operation.memory(before))
    return frames + most


def plan_line(recipe: Recipe, held: bool = False) -> str:
    """What a run comes to, for people: "48 frames, 640x360 to 2560x1440, about 0.6 GB of memory".

    held: the result stays in memory as a whole.
    """
    before, after = recipe.source.info, recipe.info
    count = f"{after.length} frames" if after.length else "frames of unknown number"
    size = f"{after.width}x{after.height}"
    if (before.width, before.height) != (after.width, after.height):
        size = f"{before.width}x{before.height} to {size}"
    needed = memory_needed(recipe) + (after.frame_bytes * (after.length or 0) if held else 0.0)
    return f"{count}, {size}, about {_sized(needed)} of memory"


def _sized(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(10, round(size / 1e7) * 10)} MB"


def _length(frames: Any) -> int:
    return len(frames)


def announced(
    stream: Iterator[T],
    recipe: Recipe,
    tell: Callable[[str], None],
    *,
    held: bool = False,
    kept: int = 0,
    count: Callable[[T], int] = _length,
) -> Iterator[T]:
    """A stream that makes the frames of `recipe`, and passes through; `tell` hears the plan at once, and again with the
    time that it will take.

    The time is measured between items as they are asked for, so that it includes whoever writes them. It is told where
    the first frame alone takes long, and again when a few more are done; a run over by then is not worth a word.
    held: the result stays in memory as a whole. kept: how many of the frames an earlier run has made. count: how many
    frames an item holds.
    """
    plan = plan_line(recipe, held)
    tell(plan)
    total, done, first = max(0, (recipe.info.length or 0) - kept), 0, 0
    begun = started = time.monotonic()
    settled = False
    for item in stream:
        now = time.monotonic()
        done += count(item)
        if not first:
            first, started = done, now
            if total > done and now - begun > LONG:
                whole = (now - begun) / done * total
                tell(f"{plan}; by the first frame, which also loads, at most about {spoken(whole)} in all")
        elif not settled and total and now - started > ENOUGH:
            settled = True
            each = (now - started) / (done - first)
            left = each * max(0, total - done)
            tell(f"{plan}; about {spoken(now - begun + left)} in all, at {each:.2g} s a frame")
        yield item
        del item
