"""Parts of a file whose timestamps start again: recordings joined byte by byte.

The video decides where a part starts. Each other stream follows: where its own timestamps step back or, if they do not,
where they fit the new clock better than the old one. The clock is the stream's own or, for subtitles, which have few
packets, the video's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeAlias

from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from . import demux
from .frame_rate import stated_rate
from .step_back import StepBackDetector, frame_ticks

Shifts: TypeAlias = Mapping[int, Sequence[tuple[int, Fraction]]]
"""By stream index: from which packet on (counted in the file, from 0) its timestamps are later by so many seconds."""

_MAX_UNEXPLAINED_STEP = Fraction(1, 2)  # seconds by which another stream than the video may step back on its own


@dataclass
class _Track:
    """A stream and the part of its packets; ranges: start and end of each, in ticks."""

    time_base: Fraction
    kind: str
    detector: StepBackDetector
    part: int = 0
    packets: int = 0
    last_pts: int | None = None
    last_end: int = 0
    starts: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    ranges: dict[int, tuple[int, int]] = field(default_factory=dict[int, tuple[int, int]])

    def append(self, packet: Packet[Any], part: int, duration: int) -> None:
        if part != self.part:
            self.part = part
            self.starts.append((self.packets, part))
        self.packets += 1
        if packet.pts is not None:
            first, end = self.ranges.get(part, (packet.pts, packet.pts))
            self.ranges[part] = min(first, packet.pts), max(end, packet.pts + duration)
            self.last_pts, self.last_end = packet.pts, packet.pts + duration


class PartTracker:
    """Assigns packets to the parts of a joined recording.

    Pass all packets of the video and of the copied streams, in their order.
    step: the first step back of an audio stream that the video does not make: seconds, moment and stream.
    """

    def __init__(self, container: InputContainer, video: VideoStream, others: Sequence[Stream]) -> None:
        self._video_index = video.index
        self._tracks: dict[int, _Track] = {}
        self.step: tuple[Fraction, Fraction, int] | None = None
        base = video.time_base or Fraction(1, 90_000)
        self._frame_duration = frame_ticks(stated_rate(video), base)
        for stream in (video, *others):
            least = self._frame_duration if stream is video else 0
            detector = StepBackDetector(stream, container.format.name, least)
            self._tracks[stream.index] = _Track(stream.time_base or base, stream.type, detector)

    def add(self, packet: Packet[Any]) -> int:
        """Return the part of a packet, counted from 0."""
        track, video = self._tracks[packet.stream_index], self._tracks[self._video_index]
        has_stepped, part = track.detector.is_step_back(packet), track.part
        if track is video:
            part += has_stepped
            track.append(packet, part, packet.duration or self._frame_duration)
            return part
        if part < video.part:
            if has_stepped or self._fits_video(track, packet):
                part = video.part
            elif track.kind == "subtitle":
                part = video.part - 1
        elif has_stepped and track.kind == "audio":
            step = ((track.last_pts or 0) - (packet.pts or 0)) * track.time_base
            if step > _MAX_UNEXPLAINED_STEP:
                part += 1
                self.step = self.step or (step, (track.last_pts or 0) * track.time_base, packet.stream_index)
        track.append(packet, part, demux.packet_duration(packet))
        return part

    @property
    def has_unexplained_step(self) -> bool:
        """Whether audio stepped back where the video did not follow."""
        return any(t.part > self._tracks[self._video_index].part for t in self._tracks.values())

    def offsets(self) -> list[Fraction]:
        """Return the shift of each part in seconds: it starts where the last one ends."""
        base = self._tracks[self._video_index].time_base
        tracks = [track for track in self._tracks.values() if track.kind in ("video", "audio")]
        offsets = [Fraction(0)]
        ends = {id(t): t.ranges[0][1] * t.time_base for t in tracks if 0 in t.ranges}
        for part in range(1, self._tracks[self._video_index].part + 1):
            present = [track for track in tracks if part in track.ranges]
            shift = max(
                (ends[id(t)] - t.ranges[part][0] * t.time_base for t in present if id(t) in ends), default=offsets[-1]
            )
            offsets.append(math.ceil(shift / base) * base)
            ends |= {id(t): t.ranges[part][1] * t.time_base + offsets[-1] for t in present}
        return offsets

    def shifts(self) -> Shifts:
        """Return by how much each part of each stream but the video is moved.

        For each stream index: (first packet of the part, seconds).
        """
        offsets = self.offsets()
        return {
            index: [(first, offsets[min(part, len(offsets) - 1)]) for first, part in track.starts]
            for index, track in self._tracks.items()
            if index != self._video_index and track.starts
        }

    def _fits_video(self, track: _Track, packet: Packet[Any]) -> bool:
        video = self._tracks[self._video_index]
        if packet.pts is None or video.last_pts is None:
            return False
        moment, base = packet.pts * track.time_base, video.time_base
        new = abs(moment - video.last_pts * base)
        if track.kind == "subtitle":
            before = video.ranges.get(video.part - 1)
            return before is None or new < abs(moment - before[1] * base)
        if track.last_pts is None:
            return True
        if abs(packet.pts - track.last_end) <= track.last_end - track.last_pts:
            return False  # it goes on, however late it is in the file
        return new < abs(packet.pts - track.last_pts) * track.time_base
