"""When each frame of a video is shown, and parts of a video: a window in seconds is a run of frames."""

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

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame

from ...clip import ClipError
from .corruption import CorruptionReport, OnDamage, decode_checked
from .demux import NO_PIXEL_LIMIT, IgnoreDecodeErrors, demux_packets, open_media, video_stream

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TimeRange:
    """A part of a video, in seconds of its clock: from `start` on, `duration` long, or to the end where that is 0.

    Frames belong to it by when they begin to be shown, and as ComfyUI's own trims count: both ends are rounded down to
    the steps that the file counts time in, and a frame that begins at the end is not a part.
    """

    start: float = 0.0
    duration: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.start < inf and 0 <= self.duration < inf):
            raise ClipError(f"a part of a video cannot begin at {self.start} s and last {self.duration} s")

    def to_ticks(self, time_base: Fraction) -> tuple[int, float]:
        """The first time that belongs to it and the first after it that does not, in units of `base` seconds."""
        return int(self.start / time_base), int((self.start + self.duration) / time_base) if self.duration else inf


@dataclass(frozen=True)
class Timestamps:
    """When each frame of a source is shown: starts[i], durations[i] in units of `base` seconds, in order of display.

    origin: the moment of the source's clock that is 0 here, in seconds. within: seconds from 0 on that are a part of
    the source; None for all of it. told: whether the source says when each frame is shown, so that it is not a guess.
    """

    starts: Sequence[int]
    durations: Sequence[int]
    time_base: Fraction
    origin: Fraction
    trim_duration: Fraction | float | None = None
    is_exact: bool = True


def read_timestamps(path: Path, window: TimeRange | None = None) -> Timestamps:
    """Read the packets of the video at `path` without decoding them, and tell when each frame is shown.

    Where packets do not tell (AVI has no such field, interlaced streams put two packets into a frame), it decodes.
    What is damaged is no error here. window: only that part, whose first frame is shown at 0. Raises ClipError.
    """
    with open_media(path) as container:
        stream = video_stream(container, path, NO_PIXEL_LIMIT)
        base = stream.time_base or Fraction(1, 90_000)
        rate = stream.average_rate or stream.guessed_rate or Fraction(24)
        origin = _clock_origin(container)
        coming = demux_packets(container, stream, observer=IgnoreDecodeErrors())
        shown = _PtsSummary.of(packet for packet in coming if packet.size and not packet.is_discard)
    told = shown.usable
    if not told:
        with open_media(path) as container:
            stream = video_stream(container, path, NO_PIXEL_LIMIT)
            shown = _PtsSummary.of(decode_checked(path, container, stream, OnDamage.KEEP, CorruptionReport()))
    starts, last, zero = shown.starts, shown.last_duration, round(origin / base)
    if not shown.usable:
        log.warning("%s has no usable timestamps: its frames are spaced evenly at %s fps", path, rate)
        number, known = shown.first_known or (
            0,
            zero,
        )  # What has a time is shown then, beside the sound that is played then.
        begin = known - round(number / (rate * base))
        starts, last = (begin + round(i / (rate * base)) for i in range(shown.count)), 0
        if begin < zero:
            origin, zero = begin * base, begin  # No file shows what comes before its begin.
    starts = array("q", (start - zero for start in starts))
    # The distance to the next frame is how long a frame is seen, whatever its packet says; only the last has no next.
    gaps, last = (b - a for a, b in pairwise(starts)), last or max(1, round(1 / (rate * base)))
    durations = array("q", chain(gaps, [last] if starts else []))
    times = Timestamps(starts, durations, base, origin, is_exact=told)
    return trim_timestamps(times, window, path) if window else times


def trim_timestamps(times: Timestamps, window: TimeRange, path: Path) -> Timestamps:
    """The times of the frames in a window, of which the first is shown at 0. Raises ClipError where there are none."""
    rows = frame_range(times, window)
    if not rows:
        whole_length = float((times.starts[-1] + times.durations[-1]) * times.time_base) if times.starts else 0.0
        raise ClipError(
            f"{path}: no frame begins within {window.start:g} s and {window.start + window.duration:g} s of its "
            f"{whole_length:g} s; choose another part"
        )
    first, (_, end) = times.starts[rows.start], window.to_ticks(times.time_base)
    starts = array("q", (start - first for start in times.starts[rows.start : rows.stop]))
    durations = array("q", times.durations[rows.start : rows.stop])
    durations[-1] = int(min(durations[-1], end - first - starts[-1]))
    within = (end - first) * times.time_base if end < inf else inf
    return Timestamps(
        starts, durations, times.time_base, times.origin + first * times.time_base, within, times.is_exact
    )


def frame_range(times: Timestamps, window: TimeRange) -> range:
    """The numbers of the frames in a window."""
    first, end = window.to_ticks(times.time_base)
    return range(bisect_left(times.starts, first), bisect_left(times.starts, end))


@dataclass(frozen=True)
class _PtsSummary:
    """When frames are shown, in order, of those that tell it; how many there are; how long the last one lasts; and the
    first that tells, as it came: its number, and when.
    """

    starts: array[int]
    count: int
    last_duration: int
    first_known: tuple[int, int] | None

    @staticmethod
    def of(items: Iterable[Packet | VideoFrame]) -> _PtsSummary:
        starts, count, last, known = array("q"), 0, (-inf, 0), None
        with suppress(FFmpegError):  # what comes after that cannot be read by anybody
            for item in items:
                count += 1
                if item.pts is not None:
                    known = known or (count - 1, item.pts)
                    starts.append(item.pts)
                    last = max(last, (item.pts, item.duration or 0))
        np.asarray(starts).sort()  # in place: a list of numbers takes five times as much
        return _PtsSummary(starts, count, last[1], known)

    @property
    def usable(self) -> bool:
        """Whether each frame has a time, and no two have the same."""
        return len(self.starts) == self.count and all(a < b for a, b in pairwise(self.starts))


def _clock_origin(container: InputContainer) -> Fraction:
    """A broadcast's clock has run for hours when a recording begins; every other file's clock begins with the file."""
    if container.format.name in ("mpegts", "mpeg") and container.start_time is not None:
        return Fraction(container.start_time, av.time_base)
    return Fraction(0)
