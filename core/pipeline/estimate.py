"""What a run will come to, told before and during it: frames, size and memory at once, time when it has been measured.

Nothing here guesses a speed: the time is that of the first frames of this very run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ..runtime.format import format_duration
from .pipeline import Pipeline

T = TypeVar("T")

FRAMES_IN_FLIGHT = (
    6  # frames at once between decoder, stages and encoder: what is read ahead, worked on, and written behind
)
SLOW_FIRST_FRAME_SECONDS = (
    5.0  # seconds after which the first frame alone is worth an estimate, though it also loads and checks
)
MIN_SAMPLE_SECONDS = 2.0  # seconds of frames after the first that make a good one


def estimate_memory(pipeline: Pipeline) -> float:
    """Bytes that running a recipe takes at the most, roughly, beside the networks' weights and what the program holds.

    Frames on their way, the tensors of the largest stage, and of networks what they say of themselves or are guessed
    to take for the tiles that are chosen by the memory which is free now. Encoders hold up to 32 MB more, or 8 frames.
    """
    info = pipeline.source.info
    frames, most = FRAMES_IN_FLIGHT * info.frame_bytes, 0.0
    for operation, before in pipeline.iter_operations():
        after = operation.output_info(before)
        frames += FRAMES_IN_FLIGHT * after.frame_bytes / 2
        most = max(most, operation.estimate_memory(before))
    return frames + most


def describe_run(pipeline: Pipeline, in_memory: bool = False) -> str:
    """What a run comes to, for people: "48 frames, 640x360 to 2560x1440, about 0.6 GB of memory".

    held: the result stays in memory as a whole.
    """
    before, after = pipeline.source.info, pipeline.info
    count = f"{after.length} frames" if after.length else "frames of unknown number"
    size = f"{after.width}x{after.height}"
    if (before.width, before.height) != (after.width, after.height):
        size = f"{before.width}x{before.height} to {size}"
    needed = estimate_memory(pipeline) + (after.frame_bytes * (after.length or 0) if in_memory else 0.0)
    return f"{count}, {size}, about {_format_bytes(needed)} of memory"


def _format_bytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(10, round(size / 1e7) * 10)} MB"


def _batch_length(frames: Any) -> int:
    return len(frames)


def with_estimate(
    stream: Iterator[T],
    pipeline: Pipeline,
    notify: Callable[[str], None],
    *,
    in_memory: bool = False,
    frames_done: int = 0,
    count_frames: Callable[[T], int] = _batch_length,
) -> Iterator[T]:
    """A stream that makes the frames of `recipe`, and passes through; `tell` hears the plan at once, and again with the
    time that it will take.

    The time is measured between items as they are asked for, so that it includes whoever writes them. It is told where
    the first frame alone takes long, and again when a few more are done; a run over by then is not worth a word.
    held: the result stays in memory as a whole. kept: how many of the frames an earlier run has made. count: how many
    frames an item holds.
    """
    plan = describe_run(pipeline, in_memory)
    notify(plan)
    total, done, first = max(0, (pipeline.info.length or 0) - frames_done), 0, 0
    begun = started = time.monotonic()
    settled = False
    for item in stream:
        now = time.monotonic()
        done += count_frames(item)
        if not first:
            first, started = done, now
            if total > done and now - begun > SLOW_FIRST_FRAME_SECONDS:
                whole = (now - begun) / done * total
                notify(f"{plan}; by the first frame, which also loads, at most about {format_duration(whole)} in all")
        elif not settled and total and now - started > MIN_SAMPLE_SECONDS:
            settled = True
            each = (now - started) / (done - first)
            left = each * max(0, total - done)
            notify(f"{plan}; about {format_duration(now - begun + left)} in all, at {each:.2g} s a frame")
        yield item
        del item
