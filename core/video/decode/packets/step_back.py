"""Find where the timestamps of a stream start again, as in joined recordings."""

from __future__ import annotations

from bisect import insort
from fractions import Fraction
from typing import Any

from av.packet import Packet
from av.stream import Stream

MAX_REORDERED_FRAMES = 16  # that a frame may precede in the file and follow on the screen, in every codec
_FORMATS_WITHOUT_DTS = ("matroska", "webm", "matroska,webm")  # FFmpeg guesses the decoding timestamps of these


class StepBackDetector:
    """Tells a step back of a stream's timestamps from the order of B-frames.

    Pass each packet to `is_step_back`, in the order of the file. A step back of up to a packet's duration is none: that
    is a repeated or an inexact timestamp.
    """

    def __init__(self, stream: Stream, format_name: str, frame_duration: int = 0) -> None:
        self._has_dts = format_name not in _FORMATS_WITHOUT_DTS
        self._is_video = stream.type == "video"
        self._frame_duration = frame_duration
        self._last_dts: int | None = None
        self._highest_pts: list[int] = []  # the MAX_REORDERED_FRAMES + 1 highest since the last step back, ascending

    def is_step_back(self, packet: Packet[Any]) -> bool:
        """Whether a new part of the stream starts with this packet."""
        found = self._is_behind(packet)
        if found:
            self._last_dts, self._highest_pts = None, []
        if packet.dts is not None:
            self._last_dts = packet.dts if self._last_dts is None else max(packet.dts, self._last_dts)
        if packet.pts is not None:
            insort(self._highest_pts, packet.pts)
            del self._highest_pts[: -MAX_REORDERED_FRAMES - 1]
        return found

    def _is_behind(self, packet: Packet[Any]) -> bool:
        least = max(packet.duration or 0, self._frame_duration)
        dts, pts = packet.dts, packet.pts
        if self._has_dts and dts is not None and self._last_dts is not None and dts < self._last_dts - least:
            return pts is None or not self._highest_pts or pts < self._highest_pts[-1]
        if pts is None or not self._highest_pts or pts >= self._highest_pts[-1] - least:
            return False
        # Frames that precede a key frame in the file precede it on the screen, too.
        is_unordered = packet.is_keyframe or not self._is_video
        return is_unordered or (len(self._highest_pts) > MAX_REORDERED_FRAMES and pts < self._highest_pts[0])


def frame_ticks(rate: Fraction, time_base: Fraction) -> int:
    """Return the duration of a frame in units of `time_base`; at least 1."""
    return max(1, round(1 / (rate * time_base)))
