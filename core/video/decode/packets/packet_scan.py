"""Read the timestamps of all packets of a video, and the joins of its audio."""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from ....clip import ClipError
from . import demux
from .ebml import is_complete_matroska
from .frame_rate import DEFAULT_RATE, has_stated_rate, stated_rate
from .joins import PartTracker, Shifts
from .leading import may_lead
from .repair import MISSING
from .step_back import frame_ticks

_LEAP_SECONDS = 1  # by which a stream goes on later without having been interrupted at most


@dataclass(frozen=True)
class PacketScan:
    """Timestamps and properties of the packets of a file, in its order.

    pts: of each packet of the video, in units of `time_base`; MISSING where it has none. part_starts: the first packet
    of each part whose timestamps start again. offsets: of each part, in seconds. shifts: of the other streams, by part.
    breaks: the packets before which the stream was interrupted: `part_starts`, and packets before which timestamps leap
    forward. may_have_leading: whether packets at the start may be leading ones. origin: the moment of the file's clock
    that is 0. rate: frames per second, as the file states. frame_duration, last_duration: the usual one, and that of
    the frame that is displayed last, in units of `time_base`.
    """

    pts: array[int]
    part_starts: list[int]
    offsets: Sequence[Fraction]
    shifts: Shifts
    may_have_leading: bool
    time_base: Fraction
    origin: Fraction
    rate: Fraction
    frame_duration: int
    last_duration: int
    breaks: list[int]

    @property
    def has_missing(self) -> bool:
        return bool((np.asarray(self.pts) == MISSING).any())

    def shifted(self, numbers: Sequence[int] | np.ndarray) -> array[int]:
        """Return the timestamps of these packets, shifted by the offset of their part."""
        rows = np.asarray(numbers, np.int64)
        pts = np.asarray(self.pts)[rows]
        ticks = np.array([round(offset / self.time_base) for offset in self.offsets], np.int64)
        parts = np.searchsorted(np.asarray(self.part_starts), rows, side="right") - 1
        return array("q", np.where(pts == MISSING, MISSING, pts + ticks[parts]).tobytes())

    def in_display_order(self, leading: frozenset[int]) -> array[int]:
        """Return the shifted timestamps without leading packets, sorted in each part."""
        result = array("q", self.pts) if len(self.offsets) == 1 else self.shifted(np.arange(len(self.pts)))
        for first, end in zip(self.part_starts, [*self.part_starts[1:], len(result)], strict=True):
            np.asarray(result)[first:end].sort()  # in place: clips can be long
        if not leading:
            return result
        gone = sorted(self.pts[number] for number in leading)
        return array("q", (pts for pts in result if not _take(gone, pts)))


def _take(values: list[int], value: int) -> bool:
    """Remove the first of the values if it is this one; return whether it was."""
    if not values or values[0] != value:
        return False
    del values[0]
    return True


def scan_packets(path: Path) -> PacketScan:
    """Read the packets of a file without decoding them.

    Corruption is no error here. Raises ClipError, also where audio steps back in time and the video does not.
    """
    with demux.open_media(path) as container:
        stream = demux.video_stream(container, path, demux.NO_PIXEL_LIMIT)
        base = stream.time_base or Fraction(1, 90_000)
        tracks = [s for s in container.streams if s.type in ("audio", "subtitle")]
        others = [s for s in tracks if s.codec_context is not None]  # pyright: ignore[reportUnnecessaryComparison]  # None for an unknown codec
        tracker = PartTracker(container, stream, others)
        pts, part_starts, part = array("q"), [0], 0
        leaps, leap = list[int](), round(_LEAP_SECONDS / base)
        has_leading, key_pts, has_key, last = False, None, False, (0, -(2**63), 0)
        for packet in demux.sized_packets(container, stream, *others):
            found = tracker.add(packet)
            if packet.stream_index != stream.index:
                continue
            if packet.is_keyframe and not has_key:
                has_key, key_pts = True, packet.pts
            if packet.is_discard:
                continue
            if found != part:
                part = found
                part_starts.append(len(pts))
            has_leading = has_leading or (part == 0 and may_lead(packet, has_key, key_pts))
            pts.append(MISSING if packet.pts is None else packet.pts)
            if packet.pts is not None:
                if packet.is_keyframe and part == last[0] and packet.pts - last[1] > leap and len(pts) > 1:
                    leaps.append(len(pts) - 1)
                last = max(last, (part, packet.pts, packet.duration or 0))
        if tracker.has_unexplained_step and tracker.step:
            step, moment, index = tracker.step
            raise ClipError(
                f"{path}: the timestamps of audio track {index} step back by {float(step):.3f} s at "
                f"{float(moment):.3f} s, and those of the video do not; convert that track anew, or remove it"
            )
        rate = stated_rate(stream)
        frame_duration = _typical_gap(pts, part_starts) or frame_ticks(rate, base)
        return PacketScan(
            pts,
            part_starts,
            tracker.offsets() if part else [Fraction(0)],
            tracker.shifts() if part else {},
            has_leading,
            base,
            _clock_origin(container),
            rate,
            frame_duration,
            _last_duration(path, container, stream, last, len(pts), frame_duration),
            sorted({*part_starts[1:], *leaps}),
        )


def _typical_gap(pts: array[int], part_starts: list[int]) -> int:
    """Return the median distance of different timestamps; 0 where there are none."""
    gaps: list[np.ndarray] = []
    for first, end in zip(part_starts, [*part_starts[1:], len(pts)], strict=True):
        known = np.sort(np.asarray(pts)[first:end])
        gaps.append(np.diff(known[np.searchsorted(known, MISSING, side="right") :]))
    values = np.concatenate(gaps) if len(gaps) > 1 else gaps[0]
    values = values[values > 0] if len(values) and values.min() <= 0 else values
    if not len(values):
        return 0
    middle = (len(values) - 1) // 2
    values.partition(middle)  # in place
    return int(values[middle])


def _last_duration(
    path: Path, container: InputContainer, stream: VideoStream, last: tuple[int, int, int], count: int, usual: int
) -> int:
    """Return how long the last frame is displayed, in units of the stream's time base.

    usual: the duration of the other frames. MP4 and Matroska store the end of the track elsewhere than in the packet of
    that frame.
    """
    base = stream.time_base or Fraction(1, 90_000)
    part, pts, duration = last
    if not has_stated_rate(stream) and duration <= 1 / ((stream.guessed_rate or DEFAULT_RATE) * base):
        duration = 0  # from the rate that FFmpeg guesses
    duration = duration or usual
    if part:
        return duration
    end = None
    if (
        "mp4" in container.format.name
        and stream.duration
        and count == sum(not e.is_discard for e in stream.index_entries)
    ):
        end = (stream.start_time or 0) + stream.duration
    elif "matroska" in container.format.name and is_complete_matroska(path):
        seconds = parse_duration(stream.metadata.get("DURATION", ""))
        end = None if seconds is None else round(seconds / base)
    if end is None or end <= pts:
        return duration
    return end - pts if "mp4" in container.format.name or end - pts > duration + 1 else duration


def parse_duration(text: str) -> Fraction | None:
    """Parse hh:mm:ss.fraction into seconds."""
    match = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", text)
    return 3600 * int(match[1]) + 60 * int(match[2]) + Fraction(match[3]) if match else None


def _clock_origin(container: InputContainer) -> Fraction:
    """Return the start time of a broadcast, whose clock does not start at 0.

    The clock of every other file starts with the file.
    """
    is_broadcast = container.format.name in ("mpegts", "mpeg")
    if is_broadcast and container.start_time is not None:  # pyright: ignore[reportUnnecessaryComparison]  # None where unknown
        return Fraction(container.start_time, av.time_base)
    return Fraction(0)
