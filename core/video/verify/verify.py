"""What every result owes its source, found out by reading both files, with nothing that the writing code knows.

As many frames, each at its time; every track of sound, beginning and ending where it did beside the picture; and the
same meaning of colours.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

from ...clip import ClipError, ClipInfo
from ...runtime.malloc import joined_crumbs
from ..decode.stream_format import BT601, BT709, BT2020
from ..decode.timestamps import Window
from .probe import TICK, UNTOLD, Facts, Look, facts_of

NARROW = 0.01  # of the shape of pixels: what nobody sees
_MATRICES = (BT709, 4, BT601, 7, BT2020)  # those that can be written; FCC is 4, SMPTE 240M is 7


class ContractError(ClipError):
    """A result is not what it has to be. The message lists in what."""


def check_contract(
    result: str | Path,
    source: str | Path | None,
    *,
    frames: int,
    info: ClipInfo,
    window: Window | None = None,
) -> None:
    """Raise ContractError, with all that is wrong, unless the file `result` is what was to become of `source`.

    source: the video whose frames were processed one for one; None where there was none, or pictures. frames: how many
    there were. info: the size that was asked for, and the rate where there is no source. window: the part of the source
    that was processed.
    A source may be damaged: each of its packets counts as the frame that was to be shown. A result may not.
    Every frame of the result is decoded. Raises ClipError for a file that cannot be read.
    """
    with joined_crumbs():  # A decoder's threads free what this one has allocated.
        new = facts_of(Path(result), decode=True)
        # What an edit list hides is kept where the result has such a list, and else has to be gone.
        old = facts_of(Path(source), decode=False, window=window, hidden=new.hides) if source is not None else None
    wrong = _picture(new, frames, info)
    wrong += _against(new, old) if old else _moved(new, lambda number: number / info.fps, TICK)
    if wrong:
        raise ContractError(f"{result}: the result breaks the contract: {'; '.join(wrong)}")


def _picture(new: Facts, frames: int, info: ClipInfo) -> list[str]:
    wrong = []
    if len(new.times) != frames:
        wrong.append(f"{len(new.times)} frames came out of {frames}")
    if new.damaged:
        wrong.append(f"{new.damaged} frames are damaged")
    size, asked = (new.look.width, new.look.height), (info.width, info.height)
    if any(side - want not in (0, 1) for side, want in zip(size, asked, strict=True)):  # 4:2:0 needs even sizes
        wrong.append(f"frames are {size[0]}x{size[1]} instead of {asked[0]}x{asked[1]}")
    return wrong


def _against(new: Facts, old: Facts) -> list[str]:
    wrong = []
    if len(new.times) != len(old.times):
        wrong.append(f"the source has {len(old.times)} frames, the result {len(new.times)}")
    else:
        earliest = min([old.start(0), *(s.begin for s in old.sounds)]) if old.times else Fraction(0)
        wrong += _moved(new, old.start, max(TICK, old.tick), earliest)
    if len(new.sounds) != len(old.sounds):
        wrong.append(f"the source has {len(old.sounds)} tracks of sound, the result {len(new.sounds)}")
    for number, (after, before) in enumerate(zip(new.sounds, old.sounds, strict=False), start=1):
        again = after.codec != before.codec
        # An encoder begins a packet early and fills its last one, and is not given what lies before the clock's begin;
        # nor what a decoder, as that of WMA, makes of its first packet: nothing.
        slack = old.frame + (2 * after.packet + before.packet if again else 0)
        begins, ends = max(before.begin, Fraction(0)) if again else before.begin, before.end
        parts = Fraction(after.amount, before.amount)  # of the copied sound
        more = after.length - (ends - begins) if again else (parts - 1) * (ends - begins)
        unsure = after.unsure + before.unsure
        for what, off, allowed in (
            ("begins {:+.3f} s late", (after.begin - new.start(0)) - (begins - old.start(0)), slack),
            ("ends {:+.3f} s late", (after.end - new.start(0)) - (ends - old.start(0)), slack + unsure),
            ("is {:+.3f} s too long", more, slack + unsure if again else slack),
        ):
            if abs(off) > allowed:
                wrong.append(f"track {number} of sound {what.format(float(off))}")
    return wrong + _shape(new.look, old.look) + _colours(new.look, old.look)


def _moved(
    new: Facts, wanted: Callable[[int], Fraction], slack: Fraction, earliest: Fraction = Fraction(0)
) -> list[str]:
    """Frames that are shown at another time than they should be. Where something begins before the clock does, a file
    may count all its times from there.
    """
    slack = max(slack, new.tick)
    shift = new.start(0) - wanted(0)
    if earliest >= 0 or abs(shift + earliest) > slack:
        shift = Fraction(0)
    late, worst, most = 0, 0, Fraction(0)
    for number in range(len(new.times)):
        off = abs(new.start(number) - wanted(number) - shift)
        late += off > slack
        if off > most:
            worst, most = number, off
    return [f"{late} frames are shown at another time, frame {worst} by {float(most):.3f} s"] if late else []


def _shape(new: Look, old: Look) -> list[str]:
    off = abs(new.pixel_aspect / old.pixel_aspect - 1)
    if off <= max(NARROW, 1 / min(new.width, new.height)):  # containers count the sides of a display in whole pixels
        return []
    return [f"pixels were {float(old.pixel_aspect):.3f} times as wide as high and are {float(new.pixel_aspect):.3f}"]


def _colours(new: Look, old: Look) -> list[str]:
    pairs = {"primaries": (old.primaries, new.primaries), "transfer": (old.transfer, new.transfer)}
    wrong = [name for name, (before, after) in pairs.items() if before not in UNTOLD and before != after]
    if not new.rgb and not old.rgb:  # numbers of RGB need no matrix, and use their full range
        pairs |= {"matrix": (old.matrix, new.matrix), "full range": (old.full_range, new.full_range)}
        wrong += ["matrix"] if old.matrix in _MATRICES and old.matrix != new.matrix else []
        wrong += ["full range"] if old.full_range != new.full_range else []
    return [f"the colours' {name} was {pairs[name][0]} and is {pairs[name][1]}" for name in wrong]
