"""When the frames of a source must be displayed, and what a result may change.

This shares no code with the decoder's side, nor its frame rate. A frame is displayed at the timestamp that its packet
has, except:

- a repeated timestamp: the frame is anywhere between its neighbors;
- a missing timestamp among others: the same;
- a step back (joined recordings): all that follows in the file, in each stream, is later by one offset, by which it
  starts where the longest stream of the part before ended;
- leading frames, before the first key frame or displayed before it without being one: they may be gone;
- no timestamps at all: frames are spaced evenly, at the rate that the file states or else at 24 fps;
- the time base of the result: each timestamp may be rounded to it, or to a millisecond;
- a track that starts before 0: all tracks may start later by that;
- the last frame: its end may be off by two fifths of a frame where MP4 states it, else by a frame. Without a stored one
  it lasts as long as most frames.

Audio packets are played at their timestamps too, off by a frame of the video at most; those from before 0 may be gone
where the container has no edit list, and gaps may be filled where audio is encoded anew.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

NONE = np.iinfo(np.int64).min  # stands for no timestamp
_DEFAULT_RATE, _MAX_RATE = Fraction(24), 1000  # frames per second; FFmpeg takes a time base for a higher rate
_FORMATS_WITH_GUESSED_DTS = ("matroska,webm", "matroska", "webm")


@dataclass
class RawTrack:
    """The packets of a video in the order of the file: timestamps or NONE.

    part_starts: the packets from which on timestamps start again; 0 first.
    """

    time_base: Fraction
    pts: array[int] = field(default_factory=lambda: array("q"))
    last_dts: tuple[int, int] = NONE, NONE
    keys: bytearray = field(default_factory=bytearray)
    part_starts: list[int] = field(default_factory=lambda: [0])

    def append(self, pts: int | None, dts: int | None, is_key: bool) -> None:
        self.pts.append(NONE if pts is None else pts)
        self.last_dts = self.last_dts[1], NONE if dts is None else dts
        self.keys.append(is_key)


def nominal_rate(stream: VideoStream) -> Fraction:
    """Return the rate that FFmpeg reports, for a file without timestamps."""
    rates = [Fraction(rate) for rate in (stream.average_rate, stream.guessed_rate) if rate]
    return next((rate for rate in rates if 0 < rate < _MAX_RATE), _DEFAULT_RATE)


def typical_gap(values: NDArray[np.int64]) -> int:
    """Return the median distance of different timestamps; 0 where there is none."""
    gaps = np.diff(np.sort(values[values != NONE]))
    gaps = gaps[gaps > 0]
    if not len(gaps):
        return 0
    middle = (len(gaps) - 1) // 2
    gaps.partition(middle)  # in place
    return int(gaps[middle])


def starts_part(track: RawTrack, highest: int, frame_ticks: int, format_name: str) -> bool:
    """Whether timestamps start again with the last packet of a video so far.

    They do where decoding timestamps, which must ascend, descend by more than a frame; or where a key frame is to be
    displayed before a frame that precedes it in the file. highest: timestamp of the part so far.
    """
    pts, (before, dts) = track.pts[-1], track.last_dts
    if highest == NONE or pts == NONE or pts >= highest - frame_ticks:
        return False
    if track.keys[-1]:
        return True
    return format_name not in _FORMATS_WITH_GUESSED_DTS and NONE not in (dts, before) and dts < before - frame_ticks


def leading_range(track: RawTrack, first_part_end: int) -> tuple[int, int]:
    """Return how many frames at the start may be gone: at least, and at most."""
    pts, keys = np.asarray(track.pts)[:first_part_end], np.frombuffer(track.keys, np.uint8)[:first_part_end]
    if not keys.any():
        return 0, 0
    first_key = int(keys.argmax())
    after = pts[first_key + 1 :]
    leading = int(((after < pts[first_key]) & (after != NONE) & (keys[first_key + 1 :] == 0)).sum())
    return first_key, first_key + leading


@dataclass(frozen=True)
class Timeline:
    """When frames must be displayed, in ticks; free: rows with a range instead."""

    times: array[int]
    free: dict[int, tuple[int, int]]


def display_timeline(parts: Sequence[NDArray[np.int64]], offsets: Sequence[int], frame_ticks: int) -> Timeline:
    """Assemble the parts; frames that repeat a timestamp or have none are free."""
    for part, offset in zip(parts, offsets, strict=True):
        part[part != NONE] += offset  # in place: clips can be long
    pts = np.concatenate(parts) if len(parts) > 1 else parts[0]
    if (np.diff(pts) > 0).all() and pts[0] != NONE:
        return Timeline(array("q", pts.tobytes()), {})
    known = pts != NONE
    rows = np.flatnonzero(known)
    rows = rows[np.append(True, np.diff(pts[rows]) > 0)]
    fixed = pts[rows]
    times = np.interp(np.arange(len(pts)), rows, fixed).round().astype(np.int64)
    times[: rows[0]] = fixed[0] - frame_ticks * np.arange(rows[0], 0, -1)
    times[rows[-1] + 1 :] = fixed[-1] + frame_ticks * np.arange(1, len(pts) - rows[-1])
    free: dict[int, tuple[int, int]] = {}
    other_rows: list[int] = np.setdiff1d(np.arange(len(pts)), rows).tolist()
    for row in other_rows:
        place = int(np.searchsorted(rows, row))
        low = int(fixed[place - 1]) if place else int(times[row]) - frame_ticks
        high = int(fixed[place]) if place < len(rows) else int(times[row]) + frame_ticks
        free[row] = low, high
    return Timeline(array("q", times.tobytes()), free)
