"""Durations and decoding timestamps of encoded packets."""

from __future__ import annotations

from bisect import bisect_left
from fractions import Fraction
from typing import Any

from av.packet import Packet

from ..decode.step_back import MAX_REORDERED_FRAMES, frame_ticks
from ..decode.timestamps import Timestamps


class PacketClock:
    """Sets what encoders leave out or get wrong in the packets of one file; pass each packet to `fix`, in their order.

    times: of all frames, in units of `time_base`; None where frame n is displayed at n.
    """

    def __init__(self, times: Timestamps | None, time_base: Fraction, fps: Fraction) -> None:
        self._times, self._time_base = times, time_base
        self._frame_duration = frame_ticks(fps, time_base)
        self._count, self._delay, self._last_dts = 0, 0, None

    def is_long_last(self, number: int) -> bool:
        """Whether this is the last frame, and displayed for much longer than a frame."""
        times = self._times
        if times is None or number != len(times.starts) - 1:
            return False
        return 2 * times.durations[number] > 3 * self._frame_duration

    def fix(self, packet: Packet[Any]) -> None:
        """Set the duration of the packet, and correct its decoding timestamp.

        Encoders derive those of the first packets from how far the next frames are apart, which may be an hour: they
        become a frame duration each. In a stream of one or two frames those of libx265 are undefined, as its delay has
        not passed yet; such frames are not reordered, so they are decoded when they are presented. A timestamp that
        does not ascend, which no container accepts, becomes the earliest that does.
        """
        if packet.pts is None or packet.time_base != self._time_base:
            return
        if self._times is not None:
            row = bisect_left(self._times.starts, packet.pts)
            if row < len(self._times.starts) and self._times.starts[row] == packet.pts:
                packet.duration = self._times.durations[row]
        if packet.dts is None:
            return  # the muxer fills it in
        if self._count == 0:
            self._delay = self._reorder_delay(packet.pts - packet.dts)
        first = self._start(0) or 0
        if packet.dts < first - MAX_REORDERED_FRAMES * self._frame_duration:
            frames_ahead = self._delay - self._count
            packet.dts = first - frames_ahead * self._frame_duration if frames_ahead > 0 else packet.pts
        packet.dts = min(packet.dts, packet.pts)
        if self._last_dts is not None and packet.dts <= self._last_dts < packet.pts:
            packet.dts = self._last_dts + 1
        self._last_dts, self._count = packet.dts, self._count + 1

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
