"""The frame rate of a video: as its file states, unless packets contradict that.

A browser's recording states no rate, and FFmpeg then takes the time base for it (1000 fps); raw DV is taken for 60000.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from . import demux
from .repair import MISSING
from .step_back import StepBackDetector, frame_ticks

DEFAULT_RATE = Fraction(24)
_MAX_STATED_RATE = 1000  # frames per second; from here on a stated rate is rather a time base
_COMMON_RATES = [
    *(Fraction(n * 1000, 1001) for n in (24, 30, 48, 60, 120)),
    *(Fraction(n) for n in (5, 8, 10, 12, 15, 20, 24, 25, 30, 48, 50, 60, 72, 90, 100, 120, 144, 240)),
]
_TOLERANCE = Fraction(1, 10)  # relative difference between a stated rate and that of the packets
_CHECKED_PACKETS, _MIN_CHECKED_PACKETS, _MAX_CHECKED_BYTES = 24, 12, 4_000_000
_REORDERED = 4  # frames at either end of a run of packets, between which others may be missing


def stated_rate(stream: VideoStream) -> Fraction:
    """Return the rate that the file states; DEFAULT_RATE without a credible one."""
    rates = (stream.average_rate, stream.guessed_rate)
    return next((Fraction(rate) for rate in rates if rate and 0 < rate < _MAX_STATED_RATE), DEFAULT_RATE)


def read_frame_rate(
    path: Path, container: InputContainer, stream: VideoStream, *, is_interlaced: bool = False
) -> tuple[Fraction, int | None]:
    """Return the frame rate of a video and, if counted, the number of its packets.

    All packets are read, and counted, only where the rate is not known otherwise; else the number is None.
    container: in which its first frames were read; the next packets are compared with the stated rate. A container that
    counts its frames (MP4, AVI) has computed its average rate from them. is_interlaced: two packets may be a frame.
    """
    is_counted = bool(stream.frames) and has_stated_rate(stream)
    if is_counted or (stream.average_rate and _agrees(demux.sized_packets(container, stream), stream)):
        return stated_rate(stream), None
    return _measure_rate(path, is_interlaced=is_interlaced)


def has_stated_rate(stream: VideoStream) -> bool:
    """Whether the file states a rate that can be true."""
    return bool(stream.average_rate) and 0 < (stream.average_rate or 0) < _MAX_STATED_RATE


def _measure_rate(path: Path, *, is_interlaced: bool) -> tuple[Fraction, int]:
    """Return the rate and the number of all packets of the video."""
    with demux.open_media(path) as whole:
        stream = demux.video_stream(whole, path, demux.NO_PIXEL_LIMIT)
        base = stream.time_base or Fraction(1, 90_000)
        detector = StepBackDetector(stream, whole.format.name, frame_ticks(stated_rate(stream), base))
        pts, part_starts, last_duration, count = array("q"), [0], 0, 0
        for packet in demux.sized_packets(whole, stream):
            count += not packet.is_discard
            if not packet.is_discard and packet.pts is not None:
                if detector.is_step_back(packet):
                    part_starts.append(len(pts))
                pts.append(packet.pts)
                last_duration = packet.duration or 0
        parts = part_ranges(pts, part_starts)
        return resolve_rate(stream, parts, base, last_duration, is_interlaced=is_interlaced), count


def part_ranges(pts: array[int], part_starts: list[int]) -> list[tuple[int, int, int]]:
    """Return (count, first, last) of the distinct timestamps of each part.

    pts: in the order of the file, MISSING where there is none. part_starts: index of the first timestamp of each part.
    Parts without timestamps are left out.
    """
    ranges: list[tuple[int, int, int]] = []
    for first, end in zip(part_starts, [*part_starts[1:], len(pts)], strict=True):
        known = np.sort(np.asarray(pts)[first:end])
        known = known[np.searchsorted(known, MISSING, side="right") :]
        if len(known):
            ranges.append((1 + int(np.count_nonzero(known[1:] != known[:-1])), int(known[0]), int(known[-1])))
    return ranges


def rate_of_first_frames(stream: VideoStream, frames: Sequence[VideoFrame]) -> Fraction:
    """Return the frame rate of a source that cannot be read twice."""
    pts = [frame.pts for frame in frames if frame.pts is not None]
    parts = [(len({*pts}), min(pts), max(pts))] if pts else []
    return resolve_rate(stream, parts, stream.time_base or Fraction(1, 90_000))


def resolve_rate(
    stream: VideoStream,
    parts: Sequence[tuple[int, int, int]],
    time_base: Fraction,
    last_duration: int = 0,
    *,
    is_interlaced: bool = False,
) -> Fraction:
    """Return the stated rate if timestamps agree, else (frames - 1) / (last - first).

    parts: number of frames, first and last timestamp in units of `time_base`; several where timestamps step back.
    last_duration: of the frame that is displayed last.
    """
    count = sum(frames - 1 for frames, _, _ in parts)
    span = sum(last - first for _, first, last in parts)
    if count == 0 or span <= 0:
        return stated_rate(stream)
    fastest = count / (span * time_base)
    # A container may divide the number of frames by a duration in which the last frame is displayed for long.
    slowest = min(fastest, (count + 1) / ((span + last_duration) * time_base))
    stated = stated_rate(stream)
    if stream.average_rate and (
        slowest * (1 - _TOLERANCE) <= stated <= fastest * (1 + _TOLERANCE)
        or (is_interlaced and abs(fastest / stated - 2) <= 2 * _TOLERANCE)
    ):
        return stated
    return snap_rate(count, span, time_base)


def snap_rate(count: int, span: int, time_base: Fraction) -> Fraction:
    """Return the rate of `count` frames in `span` time base units.

    It is a common rate only if rounding of the first and the last timestamp explains the difference.
    """
    exact = count / (span * time_base)
    nearest = min(_COMMON_RATES, key=lambda rate: abs(rate - exact))
    return nearest if abs(count / (nearest * time_base) - span) <= 1 else exact


def _agrees(packets: Iterable[Packet[Any]], stream: VideoStream) -> bool:
    """Whether the next packets have about the stated rate."""
    pts, size = array("q"), 0
    for packet in islice(packets, _CHECKED_PACKETS):
        if packet.pts is not None:
            pts.append(packet.pts)
            size += packet.size
        if size > _MAX_CHECKED_BYTES:
            break
    stated = stated_rate(stream)
    if len(pts) < _MIN_CHECKED_PACKETS:
        return stated == stream.average_rate
    inner = np.sort(np.asarray(pts))[_REORDERED:-_REORDERED]
    span = int(inner[-1] - inner[0]) * (stream.time_base or Fraction(1))
    return span > 0 and abs((len(inner) - 1) / span / stated - 1) <= _TOLERANCE
