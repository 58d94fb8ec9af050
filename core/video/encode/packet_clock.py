"""Durations and decoding timestamps of encoded packets."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from fractions import Fraction
from typing import Any

import numpy as np
from av.packet import Packet

from ..decode.packets.step_back import MAX_REORDERED_FRAMES, frame_ticks
from ..decode.timestamps import Timestamps

_MAX_ROUNDING = 2  # units of the time base by which the durations of even frames may differ
_SMALL_SHARE = 20  # a twentieth of a frame is not worth a key frame


def end_duration(packet: Packet[Any], lead: int, times: Timestamps) -> int:
    """Return the duration of the packet that is decoded last.

    FFmpeg takes the time from the first decoding timestamp to its end for the duration of an MP4, so that should be as
    long as all frames are displayed. lead: from the first decoding timestamp to the first frame.
    """
    end = times.starts[-1] + times.durations[-1]
    missing = end - lead - (packet.dts or 0)
    return min(max(missing, times.durations[-1]), end - (packet.pts or 0))


class PacketClock:
    """Sets the times of packets that encoders leave out or get wrong; see `push`.

    times: of all frames, in units of `time_base`; None where frame n is displayed at n.
    """

    def __init__(self, times: Timestamps | None, time_base: Fraction, fps: Fraction) -> None:
        self._times, self._time_base = times, time_base
        self._frame_duration = frame_ticks(fps, time_base)
        if times is not None and not times.is_growing and len(times.durations) > 1:
            self._frame_duration = max(1, int(np.median(np.asarray(times.durations)[:-1])))
        self._count, self._delay, self._lead, self._last_dts = 0, 0, 0, None
        self._waiting: deque[Packet[Any]] = deque()
        self._is_flushed = False

    def has_odd_end(self, number: int) -> bool:
        """Whether this is the last frame, displayed for longer or shorter than usual.

        The difference exceeds the rounding of timestamps.
        """
        times = self._times
        if times is None or times.is_growing or number != len(times.starts) - 1:
            return False
        difference = abs(times.durations[number] - self._frame_duration)
        return difference > max(_MAX_ROUNDING, self._frame_duration // _SMALL_SHARE)

    def push(self, packet: Packet[Any]) -> list[Packet[Any]]:
        """Take a packet; return those that are complete, in their order.

        Encoders derive the decoding timestamps of the first packets from how far the next frames are apart, which may
        be an hour. In a stream of one or two frames those of libx265 are undefined, as its delay has not passed yet;
        such frames are not reordered, so they are decoded when they are presented. A timestamp that does not ascend,
        which no container accepts, becomes the earliest that does.
        """
        if packet.pts is None or packet.time_base != self._time_base:
            return [*self.flush(), packet]
        row = self._row(packet.pts)
        if row is not None and self._times is not None:
            packet.duration = self._times.durations[row]
        if packet.dts is None:
            return [*self.flush(), packet]  # the muxer fills it in
        if self._count == 0:
            self._delay = self._reorder_delay(packet.pts - packet.dts)
        first = self._start(0) or 0
        if packet.dts < first - MAX_REORDERED_FRAMES * self._frame_duration:
            frames_ahead = self._delay - self._count
            packet.dts = first - frames_ahead * self._frame_duration if frames_ahead > 0 else packet.pts
        packet.dts = min(packet.dts, packet.pts)
        self._count += 1
        self._waiting.append(packet)
        return [self._pop()] if len(self._waiting) > MAX_REORDERED_FRAMES else []

    def flush(self) -> list[Packet[Any]]:
        """Return the packets that are left, of which the last one ends the file."""
        self._is_flushed = True
        return [self._pop() for _ in range(len(self._waiting))]

    def _pop(self) -> Packet[Any]:
        """Return the next packet, decoded not much earlier than it must be.

        Encoders delay it by some frames. After a frame that is displayed for long that would be far too early, and MP4
        takes the distance of decoding timestamps for the duration.
        """
        packet = self._waiting[0]
        pts, dts = packet.pts or 0, packet.dts or 0
        if self._times is not None and self._times.is_growing and (row := self._row(pts)) is not None:
            packet.duration = self._times.durations[row]  # known by now
        latest = min((p.pts or 0) - n for n, p in enumerate(self._waiting))
        is_last = len(self._waiting) == 1 and self._times is not None
        if is_last and self._times is not None:
            packet.dts = max(dts, min(latest, self._times.starts[-1] - self._lead))
        else:
            packet.dts = max(dts, latest - self._delay * self._frame_duration)
        if self._last_dts is None:
            self._lead = pts - packet.dts
        elif self._is_flushed and self._times is not None:
            limit = self._times.starts[-1] - self._lead - (len(self._waiting) - 1)
            packet.dts = limit if packet.dts > limit + _MAX_ROUNDING else packet.dts
        if self._last_dts is not None and packet.dts <= self._last_dts < pts:
            packet.dts = self._last_dts + 1
        if is_last and self._times is not None:
            packet.duration = end_duration(packet, self._lead, self._times)
        self._last_dts = packet.dts
        return self._waiting.popleft()

    def _row(self, pts: int) -> int | None:
        """Return the number of the frame with that timestamp."""
        if self._times is None:
            return pts
        row = bisect_left(self._times.starts, pts)
        return row if row < len(self._times.starts) and self._times.starts[row] == pts else None

    def _reorder_delay(self, distance: int) -> int:
        """Return by how many frames the encoder delays decoding; 0 where it is unknown.

        distance: of the timestamps of the first packet.
        """
        for frames in range(1, MAX_REORDERED_FRAMES + 1):
            start = self._start(frames)
            if start is not None and start - (self._start(0) or 0) == distance:
                return frames
        return 0

    def _start(self, number: int) -> int | None:
        if self._times is None:
            return number
        return self._times.starts[number] if number < len(self._times.starts) else None
