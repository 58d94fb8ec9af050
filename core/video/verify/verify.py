"""Verify an output file against its source with an independent reader.

It needs as many frames, with equal timestamps; every audio track, with its start and end relative to the video; and
equal color tags.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

from ...clip import ClipError, ClipInfo
from ..decode.timestamps import TimeRange
from ..format.stream_format import BT601, BT709, BT2020
from .probe import MILLISECOND, UNSPECIFIED_TAGS, ProbedFormat, ProbeResult, probe

PIXEL_ASPECT_TOLERANCE = 0.01  # relative; too small to be visible
END_TOLERANCE = Fraction(2, 5)  # of a frame, for the end of the last one
_LIMITED_RANGE_CODECS = ("prores",)  # into which the full range is converted
_WRITABLE_MATRICES = (BT709, 4, BT601, 7, BT2020)  # matrices that can be written; FCC is 4, SMPTE 240M is 7


class VerificationError(ClipError):
    """An output file differs from what it must be. The message lists all differences."""


def verify_output(
    result: str | Path,
    source: str | Path | None,
    *,
    frame_count: int,
    info: ClipInfo,
    window: TimeRange | None = None,
    moment: Callable[[int], Fraction] | None = None,
    decode: bool = True,
) -> None:
    """Raise VerificationError, with all differences, unless `result` matches `source`.

    source: the video whose frames were processed one by one; None for images or no source. frame_count: how many frames
    were written. info: the expected size, and the frame rate where there is no source. window: the part of the source
    that was processed. moment: when each of the frames is displayed, in seconds, where there is no source; None for
    even timestamps.
    A source may be corrupt: each of its packets counts as a frame. The result may not be: every frame is decoded,
    unless `decode` is False because its frames were verified before they were copied; its packets are counted then.
    Raises ClipError for a file that cannot be read.
    """

    def expected(number: int) -> tuple[Fraction, Fraction]:
        at = moment(min(number, frame_count - 1)) if moment else number / info.fps
        return at, at

    result_probe = probe(Path(result), decode=decode)
    # Audio that an edit list skips must be kept if the result has an edit list too, else it must be gone.
    source_probe = (
        probe(
            Path(source),
            decode=False,
            window=window,
            include_skipped=result_probe.has_skipped_audio,
            frame_count=frame_count,
        )
        if source is not None
        else None
    )
    problems = _check_frames(result_probe, frame_count, info)
    problems += (
        _compare_source(result_probe, source_probe)
        if source_probe
        else _compare_times(result_probe, expected, MILLISECOND)
    )
    if problems:
        raise VerificationError(f"{result}: the result failed verification: {'; '.join(problems)}")


def _check_frames(new: ProbeResult, frame_count: int, info: ClipInfo) -> list[str]:
    problems: list[str] = []
    if len(new.times) != frame_count:
        problems.append(f"{len(new.times)} frames instead of {frame_count}")
    if new.corrupt_count:
        problems.append(f"{new.corrupt_count} frames are corrupt")
    size, expected = (new.video_format.width, new.video_format.height), (info.width, info.height)
    # 4:2:0 needs even sizes, so the file may be larger by one.
    if any(side - expected_side not in (0, 1) for side, expected_side in zip(size, expected, strict=True)):
        problems.append(f"frames are {size[0]}x{size[1]} instead of {expected[0]}x{expected[1]}")
    return problems


def _compare_source(new: ProbeResult, old: ProbeResult) -> list[str]:
    problems: list[str] = []
    if len(new.times) != len(old.times):
        problems.append(f"the source has {len(old.times)} frames, the result {len(new.times)}")
    else:
        earliest = min([old.frame_time(0), *(s.start for s in old.audio_tracks)]) if old.times else Fraction(0)
        problems += _compare_times(new, old.frame_range, max(MILLISECOND, old.stream_time_base), earliest)
        problems += _compare_end(new, old)
    if len(new.audio_tracks) != len(old.audio_tracks):
        problems.append(f"the source has {len(old.audio_tracks)} audio tracks, the result {len(new.audio_tracks)}")
    for number, (after, before) in enumerate(zip(new.audio_tracks, old.audio_tracks, strict=False), start=1):
        reencoded = after.codec != before.codec
        # An encoder starts a packet early and pads its last one. It gets nothing from before time 0, nor from the first
        # packet of decoders, such as WMA's, that do not output it.
        padding = 2 * after.max_packet_duration + before.max_packet_duration if reencoded else 0
        tolerance = old.frame_duration + padding
        start, end = max(before.start, Fraction(0)) if reencoded else before.start, before.end
        copied_share = Fraction(after.payload_units, before.payload_units)  # of a stream copy
        # Gaps may be filled where audio is encoded anew.
        shortest, longest = min(before.duration, end - start), max(before.duration, end - start)
        excess = max(after.duration - longest, 0) or min(after.duration - shortest, 0)
        excess = excess if reencoded else (copied_share - 1) * (end - start)
        end_tolerance = tolerance + after.end_uncertainty + before.end_uncertainty
        for what, off, allowed in (
            ("starts {:+.3f} s late", (after.start - new.frame_time(0)) - (start - old.frame_time(0)), tolerance),
            ("ends {:+.3f} s late", (after.end - new.frame_time(0)) - (end - old.frame_time(0)), end_tolerance),
            ("is {:+.3f} s too long", excess, end_tolerance if reencoded else tolerance),
        ):
            if abs(off) > allowed:
                problems.append(f"audio track {number} {what.format(float(off))}")
    return (
        problems
        + _compare_pixel_aspect(new.video_format, old.video_format)
        + _compare_color(new.video_format, old.video_format)
    )


def _compare_end(new: ProbeResult, old: ProbeResult) -> list[str]:
    """Report a last frame whose end differs by more than END_TOLERANCE.

    It may differ by a frame where it is not certain: some containers round it to the duration of the other frames or to
    their time base.
    """
    if old.end is None or new.end is None:
        return []
    error = (new.end - new.frame_time(0)) - (old.end - old.frame_time(0))
    share = END_TOLERANCE if old.is_end_certain else 1
    tolerance = share * old.frame_duration + max(MILLISECOND, new.stream_time_base, old.stream_time_base)
    return [f"the last frame ends {float(error):+.3f} s late"] if abs(error) > tolerance else []


def _compare_times(
    new: ProbeResult,
    expected: Callable[[int], tuple[Fraction, Fraction]],
    tolerance: Fraction,
    earliest: Fraction = Fraction(0),
) -> list[str]:
    """Report frames whose timestamps are not in the expected range of seconds.

    Where a track starts before time 0, a container may shift all timestamps such that it starts at 0.
    """
    tolerance = max(tolerance, new.stream_time_base)
    shift = new.frame_time(0) - expected(0)[0]
    if earliest >= 0 or abs(shift + earliest) > tolerance:
        shift = Fraction(0)
    count, worst, max_error = 0, 0, Fraction(0)
    for number in range(len(new.times)):
        low, high = expected(number)
        moment = new.frame_time(number) - shift
        error = max(low - moment, moment - high)
        count += error > tolerance
        if error > max_error:
            worst, max_error = number, error
    return (
        [f"the timestamps of {count} frames differ, that of frame {worst} by {float(max_error):.3f} s"] if count else []
    )


def _compare_pixel_aspect(new: ProbedFormat, old: ProbedFormat) -> list[str]:
    difference = abs(new.pixel_aspect / old.pixel_aspect - 1)
    # Containers store the display size in whole pixels.
    if difference <= max(PIXEL_ASPECT_TOLERANCE, 1 / min(new.width, new.height)):
        return []
    return [f"the pixel aspect ratio was {float(old.pixel_aspect):.3f} and is {float(new.pixel_aspect):.3f}"]


def _compare_color(new: ProbedFormat, old: ProbedFormat) -> list[str]:
    pairs = {"primaries": (old.primaries, new.primaries), "transfer": (old.transfer, new.transfer)}
    changed = [name for name, (before, after) in pairs.items() if before not in UNSPECIFIED_TAGS and before != after]
    if not new.is_rgb and not old.is_rgb:  # RGB has no matrix and always the full range
        pairs |= {"matrix": (old.matrix, new.matrix), "full range": (old.full_range, new.full_range)}
        changed += ["matrix"] if old.matrix in _WRITABLE_MATRICES and old.matrix != new.matrix else []
        is_lost = old.full_range != new.full_range and not (old.full_range and new.codec in _LIMITED_RANGE_CODECS)
        changed += ["full range"] if is_lost else []
    return [f"the color {name} was {pairs[name][0]} and is {pairs[name][1]}" for name in changed]
