"""Presentation timestamps of a video, and time ranges as ranges of frames."""

from __future__ import annotations

import logging
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, pairwise
from math import inf
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame

from ...clip import ClipError
from ...runtime.deprecation import deprecated_property
from .corruption import CorruptionReport, OnDamage, decode_checked
from .demux import NO_PIXEL_LIMIT, IgnoreDecodeErrors, demux_packets, open_media, video_stream

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TimeRange:
    """A part of a video: from `start`, for `duration` seconds; 0 means to the end.

    Seconds are those of the video's clock. A frame belongs to the range if its timestamp does. As in ComfyUI's trims,
    both ends are rounded down to the time base of the file, and the end is exclusive.
    """

    start: float = 0.0
    duration: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.start < inf and 0 <= self.duration < inf):
            raise ClipError(
                f"a time range needs a start and a duration of 0 s or more, got {self.start} s and {self.duration} s"
            )

    ticks = deprecated_property("ticks", "to_ticks")

    def to_ticks(self, time_base: Fraction) -> tuple[int, float]:
        """Return the range as timestamps [first, end), in units of `time_base`."""
        return int(self.start / time_base), int((self.start + self.duration) / time_base) if self.duration else inf


@dataclass(frozen=True)
class Timestamps:
    """When each frame of a source is presented, in presentation order.

    starts, durations: per frame, in units of `time_base` seconds. origin: the moment of the source's clock, in seconds,
    that is 0 here. trim_duration: seconds from 0 that are a part of the source; None for all of it. is_exact: whether
    the source stores the timestamps, so that they are not estimated.
    """

    starts: Sequence[int]
    durations: Sequence[int]
    time_base: Fraction
    origin: Fraction
    trim_duration: Fraction | float | None = None
    is_exact: bool = True


def read_timestamps(path: Path, window: TimeRange | None = None) -> Timestamps:
    """Read the timestamps of all frames from the packets of a video.

    Packets are not decoded, except where they have no usable timestamps: AVI has no such field, and interlaced streams
    put two packets into a frame. Corruption is no error here. window: only that part, whose first frame gets the
    timestamp 0.
    Raises ClipError.
    """
    with open_media(path) as container:
        stream = video_stream(container, path, NO_PIXEL_LIMIT)
        base = stream.time_base or Fraction(1, 90_000)
        rate = stream.average_rate or stream.guessed_rate or Fraction(24)
        origin = _clock_origin(container)
        packets = demux_packets(container, stream, observer=IgnoreDecodeErrors())
        summary = _PtsSummary.of(packet for packet in packets if packet.size and not packet.is_discard)
    is_exact = summary.usable
    if not is_exact:
        with open_media(path) as container:
            stream = video_stream(container, path, NO_PIXEL_LIMIT)
            summary = _PtsSummary.of(decode_checked(path, container, stream, OnDamage.KEEP, CorruptionReport()))
    starts, last_duration, zero_pts = summary.starts, summary.last_duration, round(origin / base)
    if not summary.usable:
        log.warning("%s has no usable timestamps: its frames are spaced evenly at %s fps", path, rate)
        # The first frame that has a timestamp keeps it, so that it stays in sync with the audio.
        known_index, known_pts = summary.first_known or (0, zero_pts)
        first_pts = known_pts - round(known_index / (rate * base))
        starts, last_duration = (first_pts + round(i / (rate * base)) for i in range(summary.count)), 0
        if first_pts < zero_pts:
            origin, zero_pts = first_pts * base, first_pts  # No file presents frames from before its start.
    starts = array("q", (start - zero_pts for start in starts))
    # A frame is displayed until the next one, whatever its packet says; only the last frame needs its own duration.
    gaps, last_duration = (b - a for a, b in pairwise(starts)), last_duration or max(1, round(1 / (rate * base)))
    durations = array("q", chain(gaps, [last_duration] if starts else []))
    times = Timestamps(starts, durations, base, origin, is_exact=is_exact)
    return trim_timestamps(times, window, path) if window else times


def trim_timestamps(times: Timestamps, window: TimeRange, path: Path) -> Timestamps:
    """Return the timestamps of the frames in a window, of which the first becomes 0.

    Raises ClipError where the window has no frame.
    """
    rows = frame_range(times, window)
    if not rows:
        clip_seconds = float((times.starts[-1] + times.durations[-1]) * times.time_base) if times.starts else 0.0
        raise ClipError(
            f"{path}: no frame starts between {window.start:g} s and {window.start + window.duration:g} s of its "
            f"{clip_seconds:g} s; choose another time range"
        )
    first, (_, end) = times.starts[rows.start], window.to_ticks(times.time_base)
    starts = array("q", (start - first for start in times.starts[rows.start : rows.stop]))
    durations = array("q", times.durations[rows.start : rows.stop])
    durations[-1] = int(min(durations[-1], end - first - starts[-1]))
    trim_duration = (end - first) * times.time_base if end < inf else inf
    return Timestamps(
        starts, durations, times.time_base, times.origin + first * times.time_base, trim_duration, times.is_exact
    )


def frame_range(times: Timestamps, window: TimeRange) -> range:
    """Return the numbers of the frames in a window."""
    first, end = window.to_ticks(times.time_base)
    return range(bisect_left(times.starts, first), bisect_left(times.starts, end))


@dataclass(frozen=True)
class _PtsSummary:
    """The sorted timestamps of a stream of packets or frames.

    count: of all items, also of those without a timestamp. last_duration: of the item that is presented last.
    first_known: index and timestamp of the first item that has one, in stream order.
    """

    starts: array[int]
    count: int
    last_duration: int
    first_known: tuple[int, int] | None

    @staticmethod
    def of(items: Iterable[Packet[Any] | VideoFrame]) -> _PtsSummary:
        starts, count, last, first_known = array("q"), 0, (-inf, 0), None
        with suppress(FFmpegError):  # the rest of the file cannot be read
            for item in items:
                count += 1
                if item.pts is not None:
                    first_known = first_known or (count - 1, item.pts)
                    starts.append(item.pts)
                    last = max(last, (item.pts, item.duration or 0))
        np.asarray(starts).sort()  # in place: a list takes five times the memory
        return _PtsSummary(starts, count, last[1], first_known)

    @property
    def usable(self) -> bool:
        """Whether each item has a timestamp and no two are equal."""
        return len(self.starts) == self.count and all(a < b for a, b in pairwise(self.starts))


def _clock_origin(container: InputContainer) -> Fraction:
    """Return the start time of a broadcast, whose clock does not start at 0.

    The clock of every other file starts with the file.
    """
    if container.format.name in ("mpegts", "mpeg") and container.start_time is not None:
        return Fraction(container.start_time, av.time_base)
    return Fraction(0)
