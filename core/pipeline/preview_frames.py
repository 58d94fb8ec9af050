"""A few frames from the middle of a clip, for a preview.

Only the parts of a pipeline that these frames need are run.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from itertools import islice

from ..clip import Clip, ClipError, Frames
from ..video.decode.video_clip import VideoClip
from .pipeline import Pipeline
from .slicing import render_piece, resolve_zoom, source_range, unbatch
from .warp_op import WarpOp


def preview_frames(clip: Clip, frame_numbers: range) -> Generator[Frames, None, None]:
    """Yield the frames of these numbers that exist, (1, C, H, W) each.

    They are those of `clip.frames`: networks run on these frames alone, and zooms and fills are those of the whole
    clip. Deflickering starts a few frames before. Frames of a file before that are decoded and dropped.
    Raises ClipError where the clip ends before the first of them, and what the pipeline raises.
    """
    if frame_numbers.start < 0 or frame_numbers.step != 1:
        raise ValueError(f"frames are counted from 0 and taken in a row, got {frame_numbers}")
    done = 0
    with closing(_render_range(clip, frame_numbers)) as frames:
        for frame in frames:
            done += 1
            yield frame
    if not done and frame_numbers:
        length = clip.info.length
        known = "fewer frames" if length is None else f"{length} frames, the last of which is number {length - 1}"
        raise ClipError(f"there is no frame {frame_numbers.start}: the clip has {known}; choose an earlier one")


def read_frame(clip: Clip, frame_number: int) -> Frames:
    """The frame of that number, (1, C, H, W).

    Raises ClipError as `preview_frames` does.
    """
    return next(iter(preview_frames(clip, range(frame_number, frame_number + 1))))


def _render_range(clip: Clip, frame_numbers: range) -> Generator[Frames, None, None]:
    pipeline = clip if isinstance(clip, Pipeline) else Pipeline(clip)
    counts = [len(o.correction.matrices) for o in pipeline.operations if isinstance(o, WarpOp)]
    # Without a correction the length is not known, but networks may look at frames after the last one.
    count = counts[0] if counts else frame_numbers.stop + sum(o.temporal_context[1] for o in pipeline.operations)
    piece = range(min(frame_numbers.start, count), min(frame_numbers.stop, count))
    if not piece:
        return
    plan = resolve_zoom(pipeline, count)
    span = source_range(plan, piece, count)
    with closing(_frames_from(plan.source, span.start)) as stream:
        yield from unbatch(render_piece(plan, islice(stream, len(span)), span, piece))


def _frames_from(clip: Clip, start: int) -> Generator[Frames, None, None]:
    """Yield the frames from number `start` on, one by one."""
    frames = clip.frames(first=start) if isinstance(clip, VideoClip) else islice(clip.frames(), start, None)
    yield from unbatch(frames)
