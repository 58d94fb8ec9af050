"""What a run will come to, told before and during it: frames, size and memory at once, time when it has been measured.

Nothing here guesses a speed: the time is that of the first frames of this very run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch

from .clip import ClipInfo
from .jobs.segments import context_of
from .recipe import Enlarge, Operation, Recipe, Steady
from .upscaling.memory import choose_cut, guessed_bytes, layer_bytes
from .upscaling.precision import home_of
from .upscaling.stage import DEFAULT_HALO, trait
from .upscaling.tiles import window_pixels
from .upscaling.trial import spoken

T = TypeVar("T")

AHEAD = 6  # frames at once between decoder, stages and encoder: what is read ahead, worked on, and written behind
LONG = 5.0  # seconds after which the first frame alone is worth an estimate, though it also loads and checks
ENOUGH = 2.0  # seconds of frames after the first that make a good one


def memory_needed(recipe: Recipe) -> float:
    """Bytes that running a recipe takes at the most, roughly, beside the networks' weights and what the program holds.

    Frames on their way, the tensors of the largest stage, and of networks what they say of themselves or are guessed
    to take for the tiles that are chosen by the memory which is free now. Encoders hold up to 64 MB more.
    """
    info = recipe.source.info
    frames, most = AHEAD * _frame(info), 0.0
    for operation, before in recipe.steps():
        after = operation.info(before)
        frames += AHEAD * _frame(after) / 2
        most = max(most, stage_bytes(operation, before, after))
    return frames + most


def _frame(info: ClipInfo, channels: int = 3) -> float:
    return 4.0 * channels * info.width * info.height


def stage_bytes(operation: Operation, before: ClipInfo, after: ClipInfo) -> float:
    """Bytes that an operation holds while it works on a frame."""
    if isinstance(operation, Enlarge):
        return _network(operation, before) + 2 * _frame(after)  # its own result, and the last one for reuse
    look = sum(context_of(operation)) if isinstance(operation, Steady) else 1
    return (1 + look) * _frame(before) + 2 * _frame(after)


def _network(enlarge: Enlarge, before: ClipInfo) -> float:
    model, tiling = enlarge.model, enlarge.tiling
    device = home_of(model) if enlarge.device is None else torch.device(enlarge.device)
    each = guessed_bytes(model, int(model.scale))
    halo = int(trait(model, "halo", default=DEFAULT_HALO)) if tiling.halo is None else tiling.halo
    whole = bool(trait(model, "whole_frames", default=False))
    size = before.height, before.width
    cut = choose_cut(*size, 1, halo, device, tiling, each, layer=layer_bytes(model), whole=whole)
    return each * window_pixels(*size, cut.size, halo)


def plan_line(recipe: Recipe, held: bool = False) -> str:
    """What a run comes to, for people: "48 frames, 640x360 to 2560x1440, about 0.6 GB of memory".

    held: the result stays in memory as a whole.
    """
    before, after = recipe.source.info, recipe.info
    count = f"{after.length} frames" if after.length else "frames of unknown number"
    size = f"{after.width}x{after.height}"
    if (before.width, before.height) != (after.width, after.height):
        size = f"{before.width}x{before.height} to {size}"
    needed = memory_needed(recipe) + (_frame(after) * (after.length or 0) if held else 0.0)
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
