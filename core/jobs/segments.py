"""A long clip in pieces: where it is cut, and each piece of a recipe's result by itself.

Pieces are runs of frame numbers, as `range`. What a piece shows depends on the source, the recipe and its own numbers,
and on no piece before it: every stage starts anew, with as many frames around the piece as it looks at.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from math import inf
from typing import TYPE_CHECKING

from ..clip import ClipError, Frames
from ..operations.steady import Steady
from ..path.trajectory import Correction
from ..recipe import Recipe
from ..video.reader import VideoClip
from ..video.timing import Window, part, rows_of, timing
from ..warping.border import Border, framed

if TYPE_CHECKING:
    from torch import Tensor

SECONDS = 10.0  # of a piece: little to lose, and long enough that an encoder's fresh start costs nothing that shows


def cut(starts: Sequence[int], base: Fraction, seconds: float, shots: Sequence[slice] = ()) -> list[range]:
    """Pieces of a clip, in order and without gaps, each at most `seconds` long and of at least one frame.

    starts: when each frame is shown, in units of `base` seconds, ascending. Where a shot begins in the second half of
    a piece, the piece ends there: neighbours are then looked for on the same side of the cut.
    """
    longest = Fraction(seconds).limit_denominator(1_000_000) / base
    edges = sorted(shot.start for shot in shots)
    pieces, start = [], 0
    while start < len(starts):
        stop = max(start + 1, bisect_left(starts, starts[start] + longest))
        if stop < len(starts):
            soonest = max(start + 1, bisect_left(starts, starts[start] + longest / 2))
            last = bisect_right(edges, stop) - 1
            if last >= 0 and edges[last] >= soonest:
                stop = edges[last]
        pieces.append(range(start, stop))
        start = stop
    return pieces


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


class Reading:
    """One reading of a clip from its frame `first` on, of which runs are taken one after the other.

    frames: of 1 frame each. A run may begin within the one before, as far back as that was told.
    """

    def __init__(self, frames: Iterator[Tensor], first: int = 0) -> None:
        self._frames, self._next = frames, first
        self._kept: dict[int, _Packed] = {}

    def run(self, numbers: range, keep: int) -> Iterator[Tensor]:
        """Yield the frames of these numbers. Those from `keep` on are there for the next run too.

        Raises ClipError where the clip ends before.
        """
        for number in [n for n in self._kept if n < numbers.start]:
            del self._kept[number]
        for number in numbers:
            frame = self._kept[number].frame() if number in self._kept else self._read(number)
            if number < keep:
                self._kept.pop(number, None)
            elif number not in self._kept:
                self._kept[number] = _Packed(frame)
            yield frame

    def end(self) -> None:
        """Raise ClipError where the clip goes on."""
        if next(self._frames, None) is not None:
            raise ClipError(
                f"the clip has more frames than the {self._next} that its packets tell of; copy or repair the file"
            )

    def _read(self, number: int) -> Tensor:
        assert number >= self._next, f"frame {number} is gone: the run before was not told to keep it"
        while (frame := next(self._frames, None)) is not None:
            self._next += 1
            if self._next > number:
                return frame
        raise ClipError(
            f"the clip ended after {self._next} frames, where its packets tell of more; copy or repair the file"
        )


class _Packed:
    """A frame that waits; in a quarter of the memory where it comes from 8 bits, and always the same to the bit."""

    def __init__(self, frame: Tensor) -> None:
        levels = (frame * 255).round_().byte()
        self._whole = (levels.float() / 255).equal(frame)
        self._levels = levels if self._whole else frame.clone()

    def frame(self) -> Tensor:
        return self._levels.float() / 255 if self._whole else self._levels


def one_by_one(frames: Iterator[Frames]) -> Iterator[Frames]:
    """The same frames, (1, C, H, W) each."""
    return (batch[i : i + 1] for batch in frames for i in range(len(batch)))
