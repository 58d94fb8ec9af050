"""Presentation timestamps of a video, and time ranges as ranges of frames."""

from __future__ import annotations

import logging
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import inf
from pathlib import Path

import numpy as np

from ...clip import ClipError
from ...runtime.deprecation import deprecated_property
from .corruption import decode_checked
from .corruption_report import CorruptionReport, OnDamage
from .packets.demux import NO_PIXEL_LIMIT, open_media, video_stream
from .packets.joins import Shifts
from .packets.leading import find_leading
from .packets.packet_scan import PacketScan, scan_packets
from .packets.repair import MISSING, needs_repair, repair_pts

log = logging.getLogger(__name__)

_MAX_LISTED = 8  # joins that a note lists


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

    starts, durations: per frame, in units of `time_base` seconds. origin: time on the source's clock, in seconds, that
    is 0 in `starts`. trim_duration: length of the trimmed part of the source, in seconds from 0; None for the whole
    source. is_exact: whether each frame has the timestamp that the source stores for it. shifts: offsets of audio and
    subtitles in joined parts (joins.py). notes: what was repaired, a sentence each. is_growing: whether frames are
    added while they are written, as by a live source; the duration of the last one is then a guess.
    """

    starts: Sequence[int]
    durations: Sequence[int]
    time_base: Fraction
    origin: Fraction
    trim_duration: Fraction | float | None = None
    is_exact: bool = True
    shifts: Shifts = field(default_factory=dict[int, Sequence[tuple[int, Fraction]]])
    notes: tuple[str, ...] = ()
    is_growing: bool = False


def read_timestamps(path: Path, window: TimeRange | None = None) -> Timestamps:
    """Read the timestamps of all displayed frames from the packets of a video.

    Packets are not decoded, except where some have no timestamp: then the decoder tells the order of the frames.
    Corruption is no error here. What was repaired is in `notes`: repeated and missing timestamps go between their
    neighbors, and where all timestamps start again, what follows is shifted; leading frames are
    left out. window: only that part, whose first frame gets the timestamp 0.
    Raises ClipError.
    """
    scan = scan_packets(path)
    base = scan.time_base
    leading = find_leading(path) if scan.may_have_leading else frozenset[int]()
    if scan.has_missing:
        order = _decoded_packets(path)
        pts = array(
            "q", [MISSING if number is None else pts for number, pts in zip(order, _known(scan, order), strict=True)]
        )
    else:
        pts = scan.in_display_order(leading)
    notes = [_describe_joins(scan, pts)] if len(scan.offsets) > 1 else []
    origin = scan.origin
    if not len(pts):
        return Timestamps(pts, array("q"), base, origin, is_exact=False)
    is_exact, scale = len(scan.offsets) == 1, 1
    if all(value == MISSING for value in pts):
        notes.append(f"it has no timestamps: its frames are spaced evenly at {scan.rate} fps")
        zero_pts = round(origin / base)
        pts, is_exact = array("q", (zero_pts + round(i / (scan.rate * base)) for i in range(len(pts)))), False
    elif needs_repair(pts):
        notes.append(_describe_repairs(pts, base))
        (pts, scale), is_exact = repair_pts(path, pts, scan.frame_duration, base), False
        base /= scale
    zero_pts = round(origin / base)
    if not is_exact and pts[0] < zero_pts:
        origin, zero_pts = pts[0] * base, pts[0]  # No file presents frames from before its start.
    starts = pts
    np.asarray(starts)[:] -= zero_pts  # in place: clips can be long
    # A frame is displayed until the next one, whatever its packet says; only the last frame needs its own duration.
    durations = array("q", np.diff(np.asarray(starts), append=starts[-1] + scan.last_duration * scale).tobytes())
    times = Timestamps(starts, durations, base, origin, is_exact=is_exact, shifts=scan.shifts, notes=tuple(notes))
    return trim_timestamps(times, window, path) if window else times


def log_notes(path: Path, times: Timestamps) -> None:
    """Log what was repaired, a line each; for code that writes these timestamps."""
    for note in times.notes:
        log.warning("%s: %s", path, note)


def _decoded_packets(path: Path) -> list[int | None]:
    """Decode a video; return for each frame the number of its packet."""
    numbers: list[int | None] = []
    with open_media(path) as container:
        stream = video_stream(container, path, NO_PIXEL_LIMIT)
        for _ in decode_checked(path, container, stream, OnDamage.KEEP, CorruptionReport(), packet_numbers=numbers):
            pass
    return numbers


def _known(scan: PacketScan, order: Sequence[int | None]) -> array[int]:
    return scan.shifted([number or 0 for number in order])


def _describe_joins(scan: PacketScan, pts: Sequence[int]) -> str:
    counts = [n - (len(scan.pts) - len(pts)) for n in scan.part_starts[1 : _MAX_LISTED + 1]]
    frames = ", ".join(
        f"{number} (+{float(offset):.3f} s)" for number, offset in zip(counts, scan.offsets[1:], strict=False)
    )
    more = len(scan.offsets) - 1 - len(counts)
    return (
        f"its timestamps start again at frame {frames}{f' and {more} more times' if more else ''}; it is read as "
        "joined recordings, and video, audio and subtitles that follow are shifted"
    )


def _describe_repairs(pts: Sequence[int], time_base: Fraction) -> str:
    values = np.asarray(pts)
    missing = values == MISSING
    count, known = int(missing.sum()), np.sort(values[~missing])
    repeated = known[1:][np.diff(known) == 0]
    parts = [f"frames without a timestamp: {count}"] if count else []
    if len(repeated):
        first = float(repeated[0] * time_base)
        parts.append(f"repeated timestamps: {len(repeated)} (the first at {first:.3f} s)")
    if not parts:
        return "frames are not in the order of timestamps, and take them in order"
    return f"{', '.join(parts)}; these frames are placed between their neighbors"


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
    return replace(
        times,
        starts=starts,
        durations=durations,
        origin=times.origin + first * times.time_base,
        trim_duration=trim_duration,
    )


def frame_range(times: Timestamps, window: TimeRange) -> range:
    """Return the numbers of the frames in a window."""
    first, end = window.to_ticks(times.time_base)
    return range(bisect_left(times.starts, first), bisect_left(times.starts, end))
