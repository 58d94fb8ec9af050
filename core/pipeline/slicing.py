"""Render a range of frames of a pipeline on its own.

Ranges are frame numbers, as `range`. The frames of a range depend on the source and the pipeline only: every stage
starts anew, with as many frames around the range as it looks at (`Operation.temporal_context`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import compress
from math import inf

from ..clip import ClipError, Frames
from ..crop.border import Border, with_border_zoom
from ..path.trajectory import Correction
from ..video.decode.timestamps import TimeRange, frame_range, read_timestamps, trim_timestamps
from ..video.decode.video_clip import VideoClip
from .operation import Operation
from .pipeline import Pipeline
from .warp_op import WarpOp


def pipeline_shots(pipeline: Pipeline) -> list[slice]:
    """The shots of the pipeline's correction; none where nothing was measured."""
    return next((list(o.correction.shots) for o in pipeline.operations if isinstance(o, WarpOp)), list[slice]())


def resolve_zoom(pipeline: Pipeline, frame_count: int) -> Pipeline:
    """Return the pipeline with its crop zoom, which depends on the whole clip, fixed.

    Ranges of frames can then be rendered independently. Raises ClipError where a correction is not for `frame_count`
    frames.
    """
    operations: list[Operation] = []
    for operation, before in pipeline.iter_operations():
        if isinstance(operation, WarpOp):
            if len(operation.correction.matrices) != frame_count:
                raise ClipError(
                    f"the clip has {frame_count} frames, but motion was measured for "
                    f"{len(operation.correction.matrices)}: measure and correct the same frames"
                )
            border = Border(operation.border)
            fix = with_border_zoom(operation.correction.resized(before.width, before.height), border)
            # A zoomed crop samples a kernel's width past the edge at most, where EDGE gives the same pixels.
            crop = border in (Border.CROP, Border.CROP_ADAPTIVE)
            operation = replace(operation, correction=fix, border=Border.EDGE if crop else border)
        operations.append(operation)
    return replace(pipeline, operations=tuple(operations))


def trim_pipeline(pipeline: Pipeline, window: TimeRange) -> Pipeline:
    """Return a pipeline of the frames that are displayed in a time range.

    They are the same as in the result of the whole pipeline. The source must be a video file; only frames of that range
    are read. Raises ClipError where there are none.
    """
    clip = pipeline.source
    assert isinstance(clip, VideoClip), "a clip in memory is trimmed by slicing its tensor"
    file = read_timestamps(clip.path)
    before = frame_range(file, clip.window) if clip.window else range(len(file.starts))
    zero, file_end = file.starts[before.start], clip.window.to_ticks(file.time_base)[1] if clip.window else inf
    times = (
        trim_timestamps(file, clip.window, clip.path)
        if clip.window
        else replace(file, starts=[s - zero for s in file.starts])
    )
    trim_timestamps(times, window, clip.path)
    rows, (_, end) = frame_range(times, window), window.to_ticks(file.time_base)
    # A quarter of a time step more, so that rounding of the seconds leads back to the same step.
    first = (times.starts[rows.start] + zero + Fraction(1, 4)) * file.time_base
    end = min(end + zero, file_end)
    length = float((end + Fraction(1, 4)) * file.time_base - first) if end < inf else 0.0
    source = clip.trim(TimeRange(float(first), length))
    operations = [
        replace(o, correction=_slice_correction(o.correction, rows)) if isinstance(o, WarpOp) else o
        for o in resolve_zoom(pipeline, len(before)).operations
    ]
    return Pipeline(source, tuple(operations))


def source_range(pipeline: Pipeline, piece: range, frame_count: int) -> range:
    """The frames of the source that the frames `piece` of the result depend on."""
    first, stop = piece.start, piece.stop
    for operation in reversed(pipeline.operations):
        before, after = operation.temporal_context
        low, high = 0, frame_count
        if isinstance(operation, WarpOp):  # neighbors are taken from the same shot
            low = max((s.start for s in operation.correction.shots if s.start <= first), default=0)
            high = min((s.stop for s in operation.correction.shots if s.stop >= stop), default=frame_count)
        first, stop = max(low, first - before), min(high, stop + after)
    return range(first, stop)


def render_piece(
    pipeline: Pipeline, frames: Iterator[Frames], span: range, piece: range, *, on_device: bool = False
) -> Iterator[Frames]:
    """Run the pipeline for a piece of its result, frame by frame.

    piece: numbers of the frames to yield. pipeline: as `resolve_zoom` returns it. span: numbers of the source frames
    that this needs, see `source_range`. frames: these frames, one by one. on_device: leave the result on the device.
    """
    for operation, before in pipeline.iter_operations():
        if isinstance(operation, WarpOp):
            operation = replace(operation, correction=_slice_correction(operation.correction, span))
        run = operation.run_on_device if on_device else operation.run
        frames = run(frames, before, span.start)
    return _slice_frames(frames, piece.start - span.start, piece.stop - span.start)


def _slice_correction(correction: Correction, span: range) -> Correction:
    """The correction of these frames, numbered from 0."""
    shots = [
        slice(max(s.start, span.start) - span.start, min(s.stop, span.stop) - span.start)
        for s in correction.shots
        if s.start < span.stop and s.stop > span.start
    ]
    shot_bars = correction.shot_bars
    if shot_bars is not None:
        kept = (s.start < span.stop and s.stop > span.start for s in correction.shots)
        shot_bars = tuple(compress(shot_bars, kept))
    part = slice(span.start, span.stop)
    poses = None if correction.poses is None else correction.poses[part]
    info = replace(correction.info, length=len(span))
    rows = None if correction.rows is None else correction.rows[part]
    times = None if correction.times is None else correction.times[part]
    mesh = None if correction.mesh is None else correction.mesh[part]
    return replace(
        correction,
        matrices=correction.matrices[part],
        shots=shots,
        info=info,
        poses=poses,
        rows=rows,
        times=times,
        mesh=mesh,
        shot_bars=shot_bars,
    )


def _slice_frames(frames: Iterator[Frames], first: int, stop: int) -> Iterator[Frames]:
    """Yield frames first ... stop - 1 of a stream, which is not read any further."""
    position = 0
    for batch in frames:
        selected = batch[max(0, first - position) : max(0, stop - position)]
        position += len(batch)
        if len(selected):
            yield selected
        if position >= stop:
            return


def unbatch(frames: Iterator[Frames]) -> Iterator[Frames]:
    """The same frames, (1, C, H, W) each."""
    return (batch[i : i + 1] for batch in frames for i in range(len(batch)))
