"""Timestamps and durations of audio packets, as a file stores them."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from operator import add

import numpy as np

from .timeline import typical_gap

_MIN_AUDIO_STEP = Fraction(1, 2)  # seconds by which audio starts again before the video of the same part
_UNPACKETIZED_CODECS = ("pcm_", "adpcm_")  # codecs without packets of their own: containers split their data at will


@dataclass(frozen=True)
class AudioTrackInfo:
    """An audio track: codec, start, end and packet durations, in seconds.

    duration: sum of the packet durations. payload_units: amount of data, counted such that a stream copy in any
    container has as much: packets, as many containers round durations; bytes where containers split the data at will.
    end_uncertainty: possible error of `end`, where the file does not store packet durations.
    """

    codec: str
    start: Fraction
    end: Fraction
    duration: Fraction
    max_packet_duration: Fraction
    payload_units: int
    end_uncertainty: Fraction


@dataclass(frozen=True)
class PacketTimes:
    """Timestamps and durations of audio packets, in units of `time_base`, and sizes."""

    time_base: Fraction
    starts: array[int] = field(default_factory=lambda: array("q"))
    durations: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))
    part_starts: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    def append(self, start: int, duration: int, size: int, video_part: int, video_time: Fraction) -> None:
        """Add a packet.

        video_part, video_time: of the last video packet before it, in seconds.

        The packet is in a later part than the one before where its timestamp steps back, or fits the video of that.
        """
        if self.starts:
            step, part = (self.starts[-1] - start) * self.time_base, self._part
            if part < video_part:
                if start < self.starts[-1] - duration or abs(start * self.time_base - video_time) < abs(step):
                    self.part_starts.append((len(self.starts), video_part))
            elif step > _MIN_AUDIO_STEP:
                self.part_starts.append((len(self.starts), part + 1))
        self.starts.append(start)
        self.durations.append(duration)
        self.sizes.append(size)

    def split_at_own_steps(self, count: int) -> None:
        """Start a part where timestamps step back, if they do so `count` times.

        This is more reliable than a comparison with the video, beside which the packets of an earlier part may be in
        the file.
        """
        starts = np.asarray(self.starts)
        is_step = np.diff(starts) < -np.maximum(np.asarray(self.durations)[:-1], 1)
        if count and np.count_nonzero(is_step) == count:
            self.part_starts[:] = [(row + 1, n + 1) for n, row in enumerate(np.flatnonzero(is_step).tolist())]

    @property
    def _part(self) -> int:
        return self.part_starts[-1][1] if self.part_starts else 0

    def _parts(self) -> Iterator[tuple[int, slice]]:
        """Yield the number of each part and its packets."""
        bounds = [(0, 0), *self.part_starts]
        for (first, part), (end, _) in zip(bounds, [*bounds[1:], (len(self.starts), 0)], strict=True):
            yield part, slice(first, end)

    def part_range(self, number: int) -> tuple[Fraction, Fraction] | None:
        """Return the start and end of a part in seconds; None without packets."""
        for part, rows in self._parts():
            if part == number and len(self.starts[rows]):
                ends = map(add, self.starts[rows], self.durations[rows])
                return min(self.starts[rows]) * self.time_base, max(ends) * self.time_base
        return None

    def shifted(self, offsets: Sequence[Fraction]) -> PacketTimes:
        """Return the packets, later by the offsets of their parts."""
        if len(offsets) == 1:
            return self
        starts = array("q")
        for part, rows in self._parts():
            shift = round(offsets[min(part, len(offsets) - 1)] / self.time_base)
            starts.extend(start + shift for start in self.starts[rows])
        return PacketTimes(self.time_base, starts, self.durations, self.sizes)

    def select(self, start: Fraction, end: Fraction | float) -> PacketTimes:
        """Return the packets whose start is in [start, end), in seconds."""
        rows = [i for i, pts in enumerate(self.starts) if start <= pts * self.time_base < end]
        starts, durations, sizes = (
            array("q", [column[i] for i in rows]) for column in (self.starts, self.durations, self.sizes)
        )
        return PacketTimes(self.time_base, starts, durations, sizes)


def audio_track_info(codec: str, packets: PacketTimes, origin: Fraction) -> AudioTrackInfo:
    """Summarize the packets of a track. origin: the moment at which its times are 0."""
    time_base, typical = packets.time_base, _typical_duration(packets)
    durations = array("q", (total or typical for total in packets.durations))
    start, end = min(packets.starts), max(map(add, packets.starts, durations))
    payload_units = sum(packets.sizes) if codec.startswith(_UNPACKETIZED_CODECS) else len(packets.sizes)
    total, max_duration = sum(durations) * time_base, max(durations) * time_base
    return AudioTrackInfo(
        codec,
        start * time_base - origin,
        end * time_base - origin,
        total,
        max_duration,
        payload_units,
        end_uncertainty=typical * time_base,
    )


def _typical_duration(packets: PacketTimes) -> int:
    """Return the usual packet duration; 0 where the file stores each one."""
    if all(packets.durations) or len(packets.starts) < 2:
        return 0
    return typical_gap(np.asarray(packets.starts))
