"""Render a range of frames of a pipeline by itself.

Ranges are frame numbers, as `range`. The frames of a range depend on the source and the pipeline only: every stage
starts anew, with as many frames around the range as it looks at (`Operation.context`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from math import inf

from ..clip import ClipError, Frames
from ..path.border import Border, framed
from ..path.trajectory import Correction
from ..video.decode.timestamps import Window, part, rows_of, timing
from ..video.decode.video_clip import VideoClip
from .pipeline import Recipe
from .warp_op import Steady


def shots_of(recipe: Recipe) -> list[slice]:
    """The shots that the recipe knows of; none where nothing was measured."""
    return next((list(o.correction.shots) for o in recipe.operations if isinstance(o, Steady)), [])


def settled(recipe: Recipe, count: int) -> Recipe:
    """The same recipe, with all that depends on the whole clip, such as the zoom of a crop, worked out once.

    Raises ClipError where a correction is not for `count` frames.
    """
    done = []
    for operation, before in recipe.steps():
        if isinstance(operation, Steady):
            if len(operation.correction.matrices) != count:
                raise ClipError(
                    f"the clip has {count} frames, but motion was measured for "
                    f"{len(operation.correction.matrices)}: measure and correct the same frames"
                )
            border = Border(operation.border)
            fix = framed(operation.correction.resized(before.width, before.height), border)
            # A framed crop looks a kernel's width past the edge at most, where it finds what EDGE shows.
            crop = border in (Border.CROP, Border.CROP_ADAPTIVE)
            operation = replace(operation, correction=fix, border=Border.EDGE if crop else border)
        done.append(operation)
    return replace(recipe, operations=tuple(done))


def part_of(recipe: Recipe, window: Window) -> Recipe:
    """The recipe of the frames alone that its result shows in that part of its time, with what it does to each of them.

    Its source is a video file, and only those frames of it are read. Raises ClipError where there are none.
    """
    clip = recipe.source
    assert isinstance(clip, VideoClip), "a part of what lies in memory is a slice of it"
    file = timing(clip.path)
    before = rows_of(file, clip.window) if clip.window else range(len(file.starts))
    zero, file_end = file.starts[before.start], clip.window.ticks(file.base)[1] if clip.window else inf
    times = part(file, clip.window, clip.path) if clip.window else replace(file, starts=[s - zero for s in file.starts])
    part(times, window, clip.path)
    rows, (_, end) = rows_of(times, window), window.ticks(file.base)
    # A quarter of a step, so that the seconds lead back to the same step, whatever their last digits.
    first = (times.starts[rows.start] + zero + Fraction(1, 4)) * file.base
    end = min(end + zero, file_end)
    length = float((end + Fraction(1, 4)) * file.base - first) if end < inf else 0.0
    source = clip.cut(Window(float(first), length))
    operations = [
        replace(o, correction=_part(o.correction, rows)) if isinstance(o, Steady) else o
        for o in settled(recipe, len(before)).operations
    ]
    return Recipe(source, tuple(operations))


def window(recipe: Recipe, piece: range, count: int) -> range:
    """The frames of the source that the frames `piece` of the result look at.

    An operation that looks at neighbours and is none of ours says so by `context`: how many frames before and after.
    """
    first, stop = piece.start, piece.stop
    for operation in reversed(recipe.operations):
        before, after = operation.context
        low, high = 0, count
        if isinstance(operation, Steady):  # neighbours are looked for within the shot
            low = max((s.start for s in operation.correction.shots if s.start <= first), default=0)
            high = min((s.stop for s in operation.correction.shots if s.stop >= stop), default=count)
        first, stop = max(low, first - before), min(high, stop + after)
    return range(first, stop)


def made(recipe: Recipe, frames: Iterator[Frames], seen: range, piece: range) -> Iterator[Frames]:
    """The frames `piece` of the result. recipe: as `settled` gives it. frames: those of the source that are in `seen`,
    one by one.
    """
    for operation, before in recipe.steps():
        if isinstance(operation, Steady):
            operation = replace(operation, correction=_part(operation.correction, seen))
        frames = operation.run(frames, before, seen.start)
    return _between(frames, piece.start - seen.start, piece.stop - seen.start)


def _part(correction: Correction, seen: range) -> Correction:
    """The correction of these frames, numbered from 0."""
    shots = [
        slice(max(s.start, seen.start) - seen.start, min(s.stop, seen.stop) - seen.start)
        for s in correction.shots
        if s.start < seen.stop and s.stop > seen.start
    ]
    part = slice(seen.start, seen.stop)
    poses = None if correction.poses is None else correction.poses[part]
    info = replace(correction.info, length=len(seen))
    rows = None if correction.rows is None else correction.rows[part]
    return replace(correction, matrices=correction.matrices[part], shots=shots, info=info, poses=poses, rows=rows)


def _between(frames: Iterator[Frames], first: int, stop: int) -> Iterator[Frames]:
    """Frames first ... stop - 1 of a stream, which is not read any further."""
    at = 0
    for batch in frames:
        wanted = batch[max(0, first - at) : max(0, stop - at)]
        at += len(batch)
        if len(wanted):
            yield wanted
        if at >= stop:
            return


def one_by_one(frames: Iterator[Frames]) -> Iterator[Frames]:
    """The same frames, (1, C, H, W) each."""
    return (batch[i : i + 1] for batch in frames for i in range(len(batch)))
