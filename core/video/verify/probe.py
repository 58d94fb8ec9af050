"""Probe a video file independently of the code that writes files."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from operator import add
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ...clip import ClipError
from ..decode import demux
from ..decode.stream_format import BT601, FULL_RANGE, SMPTE170M, Orientation, resolve_matrix
from ..decode.timestamps import TimeRange

MILLISECOND = Fraction(1, 1000)  # time base of Matroska, and of the start of a track in MP4
# Audio may be off by one frame, but by no more than this, which is visible as bad lip sync.
MAX_FRAME_SECONDS = Fraction(1, 20)
UNSPECIFIED_TAGS = (0, 2)  # values of primaries and transfer that mean: unknown
_UNPACKETIZED_CODECS = ("pcm_", "adpcm_")  # codecs without packets of their own: containers split their data at will
_EQUIVALENT_MATRICES = {SMPTE170M: BT601}  # one matrix with two constants


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
class ProbedFormat:
    """Frame size and color tags of a video stream, as FFmpeg's constants.

    matrix: the one that players use, tagged or not. pixel_aspect: width of a pixel / its height, as displayed.
    """

    width: int
    height: int
    is_rgb: bool
    matrix: int
    full_range: bool
    primaries: int
    transfer: int
    pixel_aspect: Fraction


@dataclass(frozen=True)
class ProbeResult:
    """Timestamps, video format and audio tracks of a file.

    times: timestamps of the frames, in order, in units of `time_base` seconds from `origin` on. stream_time_base: the
    time base of the file. frame_duration: the usual duration of a frame. corrupt_count: frames that the decoder reports
    as corrupt. has_skipped_audio: whether the edit list skips audio.
    """

    times: Sequence[int]
    time_base: Fraction
    origin: Fraction
    stream_time_base: Fraction
    frame_duration: Fraction
    corrupt_count: int
    video_format: ProbedFormat
    audio_tracks: list[AudioTrackInfo]
    has_skipped_audio: bool = False

    def frame_time(self, number: int) -> Fraction:
        """Return the timestamp of a frame, in seconds."""
        return self.times[number] * self.time_base - self.origin


def probe(path: Path, *, decode: bool, window: TimeRange | None = None, include_skipped: bool = True) -> ProbeResult:
    """Probe a file, or the given part of it.

    decode: decode all frames, and raise an error for a damaged file. Without it, timestamps are those of the packets,
    if they are usable. include_skipped: whether audio packets count that the edit list skips. Raises ClipError.
    """
    observer = None if decode else demux.IgnoreDecodeErrors()
    try:
        with demux.open_media(path) as container:
            stream = demux.video_stream(container, path, demux.NO_PIXEL_LIMIT)
            first = next(demux.decode_frames(container, stream, observer), None)
            if first is None:
                raise ClipError(f"{path}: its video stream has no frames")
            video_format = _probe_format(stream, first)
        with demux.open_media(path) as container:
            stream = demux.video_stream(container, path, demux.NO_PIXEL_LIMIT)
            stream_time_base = stream.time_base or MILLISECOND
            rate = stream.average_rate or stream.guessed_rate or Fraction(24)
            origin = _clock_origin(container)
            pts, audio, has_skipped = _scan_packets(container, stream, observer, include_skipped)
        corrupt = 0
        if decode or not pts.usable:
            del pts
            corrupt, pts = _scan_frames(path, observer)
    except FFmpegError as e:
        raise ClipError(f"{path}: cannot be read ({demux.error_message(e)})") from e
    times, time_base, zero_time = pts.sorted_pts(), stream_time_base, origin
    if not pts.usable:
        # Players space frames evenly where timestamps are unusable.
        times, time_base = array("q", range(pts.count)), 1 / rate
        zero_time = Fraction(0)
        if pts.first_known:  # The first frame that has a timestamp keeps it.
            known_index, known_pts = pts.first_known
            start = known_pts * stream_time_base - origin - known_index * time_base
            zero_time, origin = -max(start, Fraction(0)), origin + min(start, Fraction(0))
    del pts
    if window is not None:
        first, end = window.to_ticks(stream_time_base)
        first, end = first * stream_time_base, end * stream_time_base
        times = array("q", [t for t in times if first <= t * time_base - zero_time < end])
        start = (times[0] * time_base - zero_time if times else 0) + origin
        audio = [(codec, packets.select(start, end + origin)) for codec, packets in audio]
        zero_time, origin = (times[0] * time_base if times else zero_time), start
    frame_duration = min(_median_low(np.diff(times)) * time_base if len(times) > 1 else 1 / rate, MAX_FRAME_SECONDS)
    tracks = [_audio_track_info(codec, packets, origin) for codec, packets in audio if len(packets.starts)]
    return ProbeResult(
        times, time_base, zero_time, stream_time_base, frame_duration, corrupt, video_format, tracks, has_skipped
    )


def _probe_format(stream: VideoStream, first: VideoFrame) -> ProbedFormat:
    """Read the format from a frame or, where the frame has no tag, from its container.

    Some decoders do not pass the container's tags on to the frames.
    """
    context = stream.codec_context
    transpose = Orientation.of(first, context.codec.name).transpose
    width, height = (first.height, first.width) if transpose else (first.width, first.height)
    matrix, primaries, transfer = (
        frame_tag if frame_tag not in UNSPECIFIED_TAGS else container_tag
        for frame_tag, container_tag in (
            (first.colorspace, context.colorspace),
            (first.color_primaries, context.color_primaries),
            (first.color_trc, context.color_trc),
        )
    )
    resolved = resolve_matrix(matrix, first.height)
    full_range = FULL_RANGE in (first.color_range, context.color_range) or first.format.name.startswith("yuvj")
    aspect = Fraction(stream.sample_aspect_ratio or 1)
    aspect = 1 / aspect if transpose else aspect
    return ProbedFormat(
        width,
        height,
        first.format.is_rgb,
        _EQUIVALENT_MATRICES.get(resolved, resolved),
        full_range,
        primaries,
        transfer,
        aspect,
    )


@dataclass(frozen=True)
class _PacketTimes:
    """Timestamps and durations of audio packets, in units of `time_base`, and sizes."""

    time_base: Fraction
    starts: array[int] = field(default_factory=lambda: array("q"))
    durations: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))

    def append(self, start: int, duration: int, size: int) -> None:
        self.starts.append(start)
        self.durations.append(duration)
        self.sizes.append(size)

    def select(self, start: Fraction, end: Fraction | float) -> _PacketTimes:
        """Return the packets whose start is in [start, end), in seconds."""
        rows = [i for i, pts in enumerate(self.starts) if start <= pts * self.time_base < end]
        columns = (array("q", [column[i] for i in rows]) for column in (self.starts, self.durations, self.sizes))
        return _PacketTimes(self.time_base, *columns)


class _PtsCollector:
    """Collects timestamps, 8 bytes each, because clips can be long.

    count: number of frames, also of those without a timestamp. first_known: index and timestamp of the first that has
    one.
    """

    def __init__(self) -> None:
        self.count, self._pts = 0, array("q")
        self.first_known: tuple[int, int] | None = None

    def append(self, pts: int | None) -> None:
        self.count += 1
        if pts is not None:
            self.first_known = self.first_known or (self.count - 1, pts)
            self._pts.append(pts)

    def sorted_pts(self) -> array[int]:
        """Return the known timestamps in ascending order."""
        np.asarray(self._pts).sort()  # in place
        return self._pts

    @property
    def usable(self) -> bool:
        """Whether each frame has a timestamp and no two are equal."""
        return len(self._pts) == self.count and all(a < b for a, b in pairwise(self.sorted_pts()))


def _median_low(values: NDArray[np.int64]) -> int:
    """Return the median; of two middle values the lower."""
    middle = (len(values) - 1) // 2
    return int(np.partition(values, middle)[middle])


def _scan_packets(
    container: InputContainer, stream: VideoStream, observer: demux.DecodeObserver | None, include_skipped: bool
) -> tuple[_PtsCollector, list[tuple[str, _PacketTimes]], bool]:
    """Read the timestamps of all packets.

    Returns those of the frames, the codec and packet times of each audio track, and whether the edit list skips audio.
    """
    has_skipped = False
    audio = [s for s in container.streams.audio if s.codec_context is not None]
    pts, packet_times = _PtsCollector(), {s.index: _PacketTimes(s.time_base or MILLISECOND) for s in audio}
    for packet in demux.demux_packets(container, stream, *audio, observer=observer):
        if not packet.size:
            continue
        if packet.stream_index == stream.index:
            if not packet.is_discard:
                pts.append(packet.pts)
        elif packet.pts is not None:
            is_skipped = demux.is_edit_list_skipped(packet)
            has_skipped = has_skipped or is_skipped
            if include_skipped or not is_skipped:
                packet_times[packet.stream_index].append(packet.pts, demux.packet_duration(packet), packet.size)
    return pts, [(s.codec_context.name, packet_times[s.index]) for s in audio], has_skipped


def _audio_track_info(codec: str, packets: _PacketTimes, origin: Fraction) -> AudioTrackInfo:
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


def _typical_duration(packets: _PacketTimes) -> int:
    """Return the usual packet duration; 0 where the file stores each one."""
    if all(packets.durations) or len(packets.starts) < 2:
        return 0
    return _median_low(np.diff(np.sort(np.asarray(packets.starts))))


def _scan_frames(path: Path, observer: demux.DecodeObserver | None) -> tuple[int, _PtsCollector]:
    """Decode all frames; return the number of corrupt ones and the timestamps."""
    corrupt, pts = 0, _PtsCollector()
    with demux.open_media(path) as container:
        for frame in demux.decode_frames(
            container, demux.video_stream(container, path, demux.NO_PIXEL_LIMIT), observer
        ):
            corrupt += frame.is_corrupt
            pts.append(frame.pts)
    return corrupt, pts


def _clock_origin(container: InputContainer) -> Fraction:
    """Return the start time of a broadcast, whose clock does not start at 0."""
    broadcast = container.format.name in ("mpegts", "mpeg") and container.start_time is not None
    return Fraction(container.start_time or 0, av.time_base) if broadcast else Fraction(0)
