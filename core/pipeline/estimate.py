"""Estimates of a run: its frames, sizes and memory, then its time.

No speed is assumed: the time follows from the first frames of the same run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from math import sqrt
from typing import Any, TypeVar

from ..clip import ClipError
from ..runtime.device.main_memory import free_main_memory
from ..runtime.format import format_duration
from .pipeline import Pipeline

T = TypeVar("T")

FRAMES_IN_FLIGHT = 6  # frames between decoder, stages and encoder: prefetched, in work, and waiting to be encoded
SLOW_FIRST_FRAME_SECONDS = 5.0  # from then on the first frame alone gives an estimate, though its time includes loading
MIN_SAMPLE_SECONDS = 2.0  # duration of the frames after the first that are measured


def estimate_memory(pipeline: Pipeline) -> float:
    """The peak memory of running a pipeline, in bytes, roughly.

    This is the sum of the frames in flight and the tensors of the largest stage; networks state their memory, or it is
    estimated, for the tiles that the free memory allows. Not included are weights, other memory of the program, and
    encoders, which hold up to 32 MB or 8 frames.
    """
    info = pipeline.source.info
    frames, stage = FRAMES_IN_FLIGHT * info.frame_bytes, 0.0
    for operation, before in pipeline.iter_operations():
        after = operation.output_info(before)
        frames += FRAMES_IN_FLIGHT * after.frame_bytes / 2
        stage = max(stage, operation.estimate_memory(before))
    return frames + stage


def check_memory(pipeline: Pipeline) -> None:
    """Raise ClipError where the frames of a pipeline do not fit into the free memory.

    Call it before any work: the system kills a process that runs out of memory later. Tiles are not counted, because
    they shrink to fit into the memory that is left.
    """
    before, after = pipeline.source.info, pipeline.info
    frames, free = FRAMES_IN_FLIGHT * before.frame_bytes, free_main_memory()
    needed = frames + max((o.frame_memory(info) for o, info in pipeline.iter_operations()), default=0.0)
    for operation, info in pipeline.iter_operations():
        needed += FRAMES_IN_FLIGHT * operation.output_info(info).frame_bytes / 2
    if needed <= free:
        return
    # All but the source's frames grows with the area of the result.
    factor = sqrt(max(0.0, free - frames) / (needed - frames)) if needed > frames else 0.0
    width, height = (int(side * factor) // 2 * 2 for side in after.size)
    advice = f"choose a size of at most {width}x{height}" if min(width, height) >= 2 else "choose a smaller clip"
    raise ClipError(
        f"frames of {after.width}x{after.height} need about {_format_bytes(needed)} of memory, and "
        f"{_format_bytes(free)} are free: {advice}, or close other programs"
    )


def describe_run(pipeline: Pipeline, in_memory: bool = False) -> str:
    """A line on a run: "48 frames, 640x360 to 2560x1440, about 0.6 GB of memory".

    in_memory: the result is held in memory as a whole.
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
    """Yield the same items, and describe the run: its plan, then its time.

    stream: produces the frames of `pipeline`. notify: called with the plan before the first item, and again once the
    time can be estimated: after the first frame if that alone takes long, and when a few more are done. A run that is
    over by then is not described again. The time is measured between requests for items, so that it includes the
    consumer's.
    in_memory: the result is held in memory as a whole. frames_done: frames that an earlier run has finished.
    count_frames: the number of frames of an item.
    """
    plan = describe_run(pipeline, in_memory)
    notify(plan)
    total, done, first = max(0, (pipeline.info.length or 0) - frames_done), 0, 0
    start = first_done = time.monotonic()
    estimated = False
    for item in stream:
        now = time.monotonic()
        done += count_frames(item)
        if not first:
            first, first_done = done, now
            if total > done and now - start > SLOW_FIRST_FRAME_SECONDS:
                upper_bound = (now - start) / done * total
                notify(
                    f"{plan}; by the first frame, which also loads, at most about {format_duration(upper_bound)} in all"
                )
        elif not estimated and total and now - first_done > MIN_SAMPLE_SECONDS:
            estimated = True
            per_frame = (now - first_done) / (done - first)
            left = per_frame * max(0, total - done)
            notify(f"{plan}; about {format_duration(now - start + left)} in all, at {per_frame:.2g} s a frame")
        yield item
        del item
