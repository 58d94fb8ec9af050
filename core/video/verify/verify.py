"""What every result owes its source, found out by reading both files, with nothing that the writing code knows.

As many frames, each at its time; every track of sound, beginning and ending where it did beside the picture; and the
same meaning of colours.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

from ...clip import ClipError, ClipInfo
from ...runtime.malloc import disable_fastbins
from ..decode.stream_format import BT601, BT709, BT2020
from ..decode.timestamps import TimeRange
from .probe import MILLISECOND, UNSPECIFIED_TAGS, ProbedFormat, ProbeResult, probe

PIXEL_ASPECT_TOLERANCE = 0.01  # of the shape of pixels: what nobody sees
_WRITABLE_MATRICES = (BT709, 4, BT601, 7, BT2020)  # those that can be written; FCC is 4, SMPTE 240M is 7


class VerificationError(ClipError):
    """A result is not what it has to be. The message lists in what."""


def verify_output(
    result: str | Path,
    source: str | Path | None,
    *,
    frame_count: int,
    info: ClipInfo,
    window: TimeRange | None = None,
) -> None:
    """Raise ContractError, with all that is wrong, unless the file `result` is what was to become of `source`.

    source: the video whose frames were processed one for one; None where there was none, or pictures. frames: how many
    there were. info: the size that was asked for, and the rate where there is no source. window: the part of the source
    that was processed.
    A source may be damaged: each of its packets counts as the frame that was to be shown. A result may not.
    Every frame of the result is decoded. Raises ClipError for a file that cannot be read.
    """
    with disable_fastbins():  # A decoder's threads free what this one has allocated.
        new = probe(Path(result), decode=True)
        # What an edit list hides is kept where the result has such a list, and else has to be gone.
        old = (
            probe(Path(source), decode=False, window=window, include_skipped=new.has_skipped_audio)
            if source is not None
            else None
        )
    wrong = _check_frames(new, frame_count, info)
    wrong += _compare_source(new, old) if old else _compare_times(new, lambda number: number / info.fps, MILLISECOND)
    if wrong:
        raise VerificationError(f"{result}: the result breaks the contract: {'; '.join(wrong)}")


def _check_frames(new: ProbeResult, frame_count: int, info: ClipInfo) -> list[str]:
    wrong = []
    if len(new.times) != frame_count:
        wrong.append(f"{len(new.times)} frames came out of {frame_count}")
    if new.corrupt_count:
        wrong.append(f"{new.corrupt_count} frames are damaged")
    size, asked = (new.video_format.width, new.video_format.height), (info.width, info.height)
    if any(side - want not in (0, 1) for side, want in zip(size, asked, strict=True)):  # 4:2:0 needs even sizes
        wrong.append(f"frames are {size[0]}x{size[1]} instead of {asked[0]}x{asked[1]}")
    return wrong


def _compare_source(new: ProbeResult, old: ProbeResult) -> list[str]:
    wrong = []
    if len(new.times) != len(old.times):
        wrong.append(f"the source has {len(old.times)} frames, the result {len(new.times)}")
    else:
        earliest = min([old.frame_time(0), *(s.start for s in old.audio_tracks)]) if old.times else Fraction(0)
        wrong += _compare_times(new, old.frame_time, max(MILLISECOND, old.stream_time_base), earliest)
    if len(new.audio_tracks) != len(old.audio_tracks):
        wrong.append(f"the source has {len(old.audio_tracks)} tracks of sound, the result {len(new.audio_tracks)}")
    for number, (after, before) in enumerate(zip(new.audio_tracks, old.audio_tracks, strict=False), start=1):
        again = after.codec != before.codec
        # An encoder begins a packet early and fills its last one, and is not given what lies before the clock's begin;
        # nor what a decoder, as that of WMA, makes of its first packet: nothing.
        slack = old.frame_duration + (2 * after.max_packet_duration + before.max_packet_duration if again else 0)
        begins, ends = max(before.start, Fraction(0)) if again else before.start, before.end
        parts = Fraction(after.payload_units, before.payload_units)  # of the copied sound
        more = after.duration - (ends - begins) if again else (parts - 1) * (ends - begins)
        unsure = after.end_uncertainty + before.end_uncertainty
        for what, off, allowed in (
            ("begins {:+.3f} s late", (after.start - new.frame_time(0)) - (begins - old.frame_time(0)), slack),
            ("ends {:+.3f} s late", (after.end - new.frame_time(0)) - (ends - old.frame_time(0)), slack + unsure),
            ("is {:+.3f} s too long", more, slack + unsure if again else slack),
        ):
            if abs(off) > allowed:
                wrong.append(f"track {number} of sound {what.format(float(off))}")
    return (
        wrong
        + _compare_pixel_aspect(new.video_format, old.video_format)
        + _compare_color(new.video_format, old.video_format)
    )


def _compare_times(
    new: ProbeResult, expected: Callable[[int], Fraction], tolerance: Fraction, earliest: Fraction = Fraction(0)
) -> list[str]:
    """Frames that are shown at another time than they should be. Where something begins before the clock does, a file
    may count all its times from there.
    """
    tolerance = max(tolerance, new.stream_time_base)
    shift = new.frame_time(0) - expected(0)
    if earliest >= 0 or abs(shift + earliest) > tolerance:
        shift = Fraction(0)
    late, worst, most = 0, 0, Fraction(0)
    for number in range(len(new.times)):
        off = abs(new.frame_time(number) - expected(number) - shift)
        late += off > tolerance
        if off > most:
            worst, most = number, off
    return [f"{late} frames are shown at another time, frame {worst} by {float(most):.3f} s"] if late else []


def _compare_pixel_aspect(new: ProbedFormat, old: ProbedFormat) -> list[str]:
    off = abs(new.pixel_aspect / old.pixel_aspect - 1)
    if off <= max(
        PIXEL_ASPECT_TOLERANCE, 1 / min(new.width, new.height)
    ):  # containers count the sides of a display in whole pixels
        return []
    return [f"pixels were {float(old.pixel_aspect):.3f} times as wide as high and are {float(new.pixel_aspect):.3f}"]


def _compare_color(new: ProbedFormat, old: ProbedFormat) -> list[str]:
    pairs = {"primaries": (old.primaries, new.primaries), "transfer": (old.transfer, new.transfer)}
    wrong = [name for name, (before, after) in pairs.items() if before not in UNSPECIFIED_TAGS and before != after]
    if not new.is_rgb and not old.is_rgb:  # numbers of RGB need no matrix, and use their full range
        pairs |= {"matrix": (old.matrix, new.matrix), "full range": (old.full_range, new.full_range)}
        wrong += ["matrix"] if old.matrix in _WRITABLE_MATRICES and old.matrix != new.matrix else []
        wrong += ["full range"] if old.full_range != new.full_range else []
    return [f"the colours' {name} was {pairs[name][0]} and is {pairs[name][1]}" for name in wrong]
