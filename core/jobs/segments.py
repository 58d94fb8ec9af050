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
