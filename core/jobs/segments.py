"""A long clip in pieces: where it is cut, and each piece of a recipe's result by itself.

Pieces are runs of frame numbers, as `range`. What a piece shows depends on the source, the recipe and its own numbers,
and on no piece before it: every stage starts anew, with as many frames around the piece as it looks at.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from ..clip import ClipError

if TYPE_CHECKING:
    from torch import Tensor

SEGMENT_SECONDS = (
    10.0  # of a piece: little to lose, and long enough that an encoder's fresh start costs nothing that shows
)


def split_clip(
    starts: Sequence[int], time_base: Fraction, max_seconds: float, shots: Sequence[slice] = ()
) -> list[range]:
    """Pieces of a clip, in order and without gaps, each at most `seconds` long and of at least one frame.

    starts: when each frame is shown, in units of `base` seconds, ascending. Where a shot begins in the second half of
    a piece, the piece ends there: neighbours are then looked for on the same side of the cut.
    """
    longest = Fraction(max_seconds).limit_denominator(1_000_000) / time_base
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


class FrameReader:
    """One reading of a clip from its frame `first` on, of which runs are taken one after the other.

    frames: of 1 frame each. A run may begin within the one before, as far back as that was told.
    """

    def __init__(self, frames: Iterator[Tensor], first: int = 0) -> None:
        self._frames, self._next = frames, first
        self._cache: dict[int, _CompactFrame] = {}

    def read_range(self, numbers: range, keep: int) -> Iterator[Tensor]:
        """Yield the frames of these numbers. Those from `keep` on are there for the next run too.

        Raises ClipError where the clip ends before.
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
        """Raise ClipError where the clip goes on."""
        if next(self._frames, None) is not None:
            raise ClipError(
                f"the clip has more frames than the {self._next} that its packets tell of; copy or repair the file"
            )

    def _read_frame(self, number: int) -> Tensor:
        assert number >= self._next, f"frame {number} is gone: the run before was not told to keep it"
        while (frame := next(self._frames, None)) is not None:
            self._next += 1
            if self._next > number:
                return frame
        raise ClipError(
            f"the clip ended after {self._next} frames, where its packets tell of more; copy or repair the file"
        )


class _CompactFrame:
    """A frame that waits; in a quarter of the memory where it comes from 8 bits, and always the same to the bit."""

    def __init__(self, frame: Tensor) -> None:
        levels = (frame * 255).round_().byte()
        self._is_8_bit = (levels.float() / 255).equal(frame)
        self._data = levels if self._is_8_bit else frame.clone()

    def unpack(self) -> Tensor:
        return self._data.float() / 255 if self._is_8_bit else self._data
