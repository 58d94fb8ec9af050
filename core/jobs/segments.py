"""Split a clip into segments, and read the frames of one segment after the other.

Segments are ranges of frame numbers. A segment depends on the source, the pipeline and its numbers only: every stage
starts anew, with its temporal context around the segment.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from ..clip import ClipError

if TYPE_CHECKING:
    from torch import Tensor

SEGMENT_SECONDS = 10.0  # little work to lose, and long enough that the extra key frames are not visible


def split_clip(
    starts: Sequence[int], time_base: Fraction, max_seconds: float, shots: Sequence[slice] = ()
) -> list[range]:
    """Split a clip into consecutive segments of at least one frame.

    Each lasts at most `max_seconds`. starts: timestamps of the frames, in units of `time_base` seconds, ascending.
    Where a shot begins in the second half of a segment, the segment ends there, so that temporal context comes from the
    same shot.
    """
    max_ticks = Fraction(max_seconds).limit_denominator(1_000_000) / time_base
    shot_starts = sorted(shot.start for shot in shots)
    segments: list[range] = []
    start = 0
    while start < len(starts):
        stop = max(start + 1, bisect_left(starts, starts[start] + max_ticks))
        if stop < len(starts):
            earliest = max(start + 1, bisect_left(starts, starts[start] + max_ticks / 2))
            last = bisect_right(shot_starts, stop) - 1
            if last >= 0 and shot_starts[last] >= earliest:
                stop = shot_starts[last]
        segments.append(range(start, stop))
        start = stop
    return segments


class FrameReader:
    """Reads ranges of frames from one pass over a clip.

    frames: one frame per item, starting with number `first`. A range may overlap the one before, as far as that kept
    its frames.
    """

    def __init__(self, frames: Iterator[Tensor], first: int = 0) -> None:
        self._frames, self._next = frames, first
        self._cache: dict[int, _CompactFrame] = {}

    def read_range(self, numbers: range, keep: int) -> Iterator[Tensor]:
        """Yield the frames of these numbers; those from `keep` on stay available.

        Raises ClipError where the clip is shorter.
        """
        for number in [n for n in self._cache if n < numbers.start]:
            del self._cache[number]
        for number in numbers:
            frame = self._cache[number].unpack() if number in self._cache else self._read_frame(number)
            if number < keep:
                self._cache.pop(number, None)
            elif number not in self._cache:
                self._cache[number] = _CompactFrame(frame)
            yield frame

    def expect_end(self) -> None:
        """Raise ClipError if the clip has more frames."""
        if next(self._frames, None) is not None:
            raise ClipError(f"the clip has more frames than its {self._next} packets; copy or repair the file")

    def _read_frame(self, number: int) -> Tensor:
        assert number >= self._next, f"frame {number} was not kept by the range before"
        while (frame := next(self._frames, None)) is not None:
            self._next += 1
            if self._next > number:
                return frame
        raise ClipError(f"the clip ended after {self._next} frames, but it has more packets; copy or repair the file")


class _CompactFrame:
    """A stored frame, restored bit-identically; uint8 where it comes from 8 bits."""

    def __init__(self, frame: Tensor) -> None:
        levels = (frame * 255).round_().byte()
        self._is_8_bit = (levels.float() / 255).equal(frame)
        self._data = levels if self._is_8_bit else frame.clone()

    def unpack(self) -> Tensor:
        return self._data.float() / 255 if self._is_8_bit else self._data
