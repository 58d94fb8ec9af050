"""Probe a video file independently of the code that writes files."""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ...clip import ClipError
from ..decode.packets import demux
from ..decode.packets.ebml import is_complete_matroska
from ..decode.timestamps import TimeRange
from ..format.stream_format import BT601, FULL_RANGE, SMPTE170M, Orientation, resolve_matrix
from .audio_packets import AudioTrackInfo, PacketTimes, audio_track_info
from .timeline import NONE, RawTrack, display_timeline, leading_range, nominal_rate, starts_part, typical_gap

MILLISECOND = Fraction(1, 1000)  # time base of Matroska, and of the start of a track in MP4
# Audio may be off by one frame, but by no more than this, which is visible as bad lip sync.
MAX_FRAME_SECONDS = Fraction(1, 20)
UNSPECIFIED_TAGS = (0, 2)  # values of primaries and transfer that mean: unknown
_EQUIVALENT_MATRICES = {SMPTE170M: BT601}  # one matrix with two constants


@dataclass(frozen=True)
class ProbedFormat:
    """Frame size and color tags of a video stream, as FFmpeg's constants.

    codec: the decoder. matrix: the one that players use, tagged or not. pixel_aspect: width of a pixel / its height, as
    displayed.
    """

    codec: str
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
    as corrupt. has_skipped_audio: whether the edit list skips audio. free: for frames that may be displayed at another
    moment, the range of it; see `timeline`. end: when the last frame ends, in seconds; None where it is not stored.
    is_end_certain: whether the index of an MP4 states it, and no timestamp is repaired.
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
    free: Mapping[int, tuple[int, int]] = field(default_factory=dict[int, tuple[int, int]])
    end: Fraction | None = None
    is_end_certain: bool = False

    def frame_range(self, number: int) -> tuple[Fraction, Fraction]:
        """Return the range of seconds in which a frame must be displayed."""
        low, high = self.free.get(number, (self.times[number],) * 2)
        return low * self.time_base - self.origin, high * self.time_base - self.origin

    def frame_time(self, number: int) -> Fraction:
        """Return the timestamp of a frame, in seconds."""
        return self.times[number] * self.time_base - self.origin


def probe(
    path: Path,
    *,
    decode: bool,
    window: TimeRange | None = None,
    include_skipped: bool = True,
    frame_count: int | None = None,
) -> ProbeResult:
    """Probe a file, or the given part of it.

    decode: decode all frames, and raise an error for a damaged file. Without it, timestamps are those of the packets,
    with the differences of `timeline`. include_skipped: whether audio packets count that the edit list skips.
    frame_count: of the result, which may lack leading frames. Raises ClipError.
    """
    observer = None if decode else demux.IgnoreDecodeErrors()
    try:
        with demux.open_media(path) as container:
            stream = demux.video_stream(container, path, demux.NO_PIXEL_LIMIT)
            first = next(demux.decode_frames(container, stream, observer), None)
            if first is None:
                raise ClipError(f"{path}: its video stream has no frames")
            video_format = _probe_format(stream, first)
            rate = nominal_rate(stream)
        with demux.open_media(path) as container:
            stream = demux.video_stream(container, path, demux.NO_PIXEL_LIMIT)
            stream_time_base = stream.time_base or MILLISECOND
            origin = _clock_origin(container)
            video, audio, has_skipped, last = _scan_packets(container, stream, observer, include_skipped)
            frame_ticks = typical_gap(np.asarray(video.pts)) or round(1 / (rate * stream_time_base))
            end, is_end_certain = _track_end(path, container, stream, last, len(video.pts), frame_ticks)
        corrupt, has_pts = 0, any(pts != NONE for pts in video.pts)
        leading = (0, 0)
        if decode or not has_pts or NONE in video.pts:
            del video
            corrupt, decoded = _scan_frames(path, observer)
            values = np.asarray(decoded)
            if decode and not (values == NONE).any():
                values.sort()  # in place
                parts = [values]
            else:
                parts = np.split(values, np.flatnonzero(_steps_back(values, frame_ticks)) + 1)
        else:
            bounds = video.part_starts
            leading = leading_range(video, bounds[1] if len(bounds) > 1 else len(video.pts))
            parts = np.split(np.asarray(video.pts), bounds[1:])
            for part in parts:
                part.sort()  # in place
    except FFmpegError as e:
        raise ClipError(f"{path}: cannot be read ({demux.error_message(e)})") from e
    if sum(map(len, parts)) == 0:
        raise ClipError(f"{path}: its video stream has no frames")
    offsets = _part_offsets(parts, audio, stream_time_base, frame_ticks)
    if any((part != NONE).any() for part in parts):
        ticks = [round(offset / stream_time_base) for offset in offsets]
        timeline, time_base, zero_time = display_timeline(parts, ticks, frame_ticks), stream_time_base, origin
        times, free = timeline.times, timeline.free
        gone = len(times) - frame_count if frame_count is not None and window is None else 0
        if leading[0] <= gone <= leading[1] and gone > 0:
            times, free = times[gone:], {row - gone: bound for row, bound in free.items() if row >= gone}
        elif leading[0] and window is not None:
            times, free = times[leading[1] :], {}
        if free and times[0] * time_base < origin:  # No file presents frames from before its start.
            zero_time = origin = times[0] * time_base
    else:
        # Players space frames evenly where there are no timestamps.
        times, free, time_base = array("q", range(sum(map(len, parts)))), {}, 1 / rate
        zero_time = Fraction(0)
    del parts
    end = None if end is None else end + offsets[-1] - origin
    audio = [(codec, packets.shifted(offsets)) for codec, packets in audio]
    if window is not None:
        first_tick, end_tick = window.to_ticks(stream_time_base)
        low, high = first_tick * stream_time_base, end_tick * stream_time_base
        kept = [i for i, t in enumerate(times) if low <= t * time_base - zero_time < high]
        end = min(Fraction(high), end) if high != float("inf") and end is not None else end
        end = end if end is not None and kept and kept[-1] == len(times) - 1 else None
        free = {row: free[i] for row, i in enumerate(kept) if i in free}
        times = array("q", [times[i] for i in kept])
        start = (times[0] * time_base - zero_time if times else 0) + origin
        audio = [(codec, packets.select(start, high + origin)) for codec, packets in audio]
        end = None if end is None else end - (start - origin)
        zero_time, origin = (times[0] * time_base if times else zero_time), start
    frame_duration = min(typical_gap(np.asarray(times)) * time_base or 1 / rate, MAX_FRAME_SECONDS)
    tracks = [audio_track_info(codec, packets, origin) for codec, packets in audio if len(packets.starts)]
    return ProbeResult(
        times, time_base, zero_time, stream_time_base, frame_duration, corrupt, video_format, tracks, has_skipped,
        free, end, is_end_certain and not free and len(offsets) == 1,
    )  # fmt: skip


def _track_end(
    path: Path, container: InputContainer, stream: VideoStream, last: tuple[int, int], count: int, frame_ticks: int
) -> tuple[Fraction | None, bool]:
    """Return when the last frame ends, in seconds of the file, and if that is certain.

    The end is None if not stored. last: timestamp and duration of the packet that is displayed last. count: of all
    packets. MP4 and Matroska store the end of a track, too, which is that of the frames only if the file is complete.
    """
    base = stream.time_base or MILLISECOND
    pts, duration = last
    if pts == NONE:
        return None, False
    if not stream.average_rate or not duration:
        duration = frame_ticks  # not in the file: FFmpeg guesses it
    end = (pts + duration) * base
    kept = sum(not e.is_discard for e in stream.index_entries) if "mp4" in container.format.name else 0
    if kept == count and stream.duration:
        end = ((stream.start_time or 0) + stream.duration) * base
        return end, end > pts * base
    match = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if match and "matroska" in container.format.name and is_complete_matroska(path):
        end = max(end, int(match[1]) * 3600 + int(match[2]) * 60 + Fraction(match[3]))
    return end, False


def _steps_back(values: NDArray[np.int64], frame_ticks: int) -> NDArray[np.bool_]:
    """Whether each displayed frame but the first has an earlier time than the last."""
    known = np.maximum.accumulate(np.where(values == NONE, values.min(), values))
    return (values[1:] != NONE) & (values[1:] < known[:-1] - frame_ticks)


def _part_offsets(
    parts: Sequence[NDArray[np.int64]], audio: list[tuple[str, PacketTimes]], base: Fraction, frame_ticks: int
) -> list[Fraction]:
    """Return by how much each joined part is later, so that no stream overlaps."""
    offsets, ends = [Fraction(0)], dict[int, Fraction]()
    for number, part in enumerate(parts):
        known = part[part != NONE]
        ranges = {-1: (int(known.min()) * base, (int(known.max()) + frame_ticks) * base)} if len(known) else {}
        ranges |= {i: found for i, (_, packets) in enumerate(audio) if (found := packets.part_range(number))}
        if number:
            needed = [ends[track] - start for track, (start, _) in ranges.items() if track in ends]
            offsets.append(-(-max(needed, default=offsets[-1]) // base) * base)
        ends |= {track: end + offsets[-1] for track, (_, end) in ranges.items()}
    return offsets


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
        context.codec.name,
        width,
        height,
        first.format.is_rgb,
        _EQUIVALENT_MATRICES.get(resolved, resolved),
        full_range,
        primaries,
        transfer,
        aspect,
    )


def _scan_packets(
    container: InputContainer, stream: VideoStream, observer: demux.DecodeObserver | None, include_skipped: bool
) -> tuple[RawTrack, list[tuple[str, PacketTimes]], bool, tuple[int, int]]:
    """Read the timestamps of all packets.

    Returns those of the video, the codec and packet times of each audio track, whether the edit list skips audio, and
    the timestamp and duration of the frame that is displayed last.
    """
    has_skipped, last, step, top, now = False, (NONE, 0), 0, NONE, Fraction(0)
    audio = [s for s in container.streams.audio if s.codec_context is not None]  # pyright: ignore[reportUnnecessaryComparison]  # None for an unknown codec
    video = RawTrack(stream.time_base or MILLISECOND)
    packet_times = {s.index: PacketTimes(s.time_base or MILLISECOND) for s in audio}
    usual = round(1 / (nominal_rate(stream) * video.time_base))
    for packet in demux.demux_packets(container, stream, *audio, observer=observer):
        if not packet.size:
            continue
        if packet.stream_index == stream.index:
            if not packet.is_discard:
                video.append(packet.pts, packet.dts, packet.is_keyframe)
                if packet.pts is not None:
                    if starts_part(video, top, packet.duration or usual, container.format.name):
                        step, last, top = step + 1, (NONE, 0), NONE
                        video.part_starts.append(len(video.pts) - 1)
                    now = packet.pts * video.time_base
                    last, top = max(last, (packet.pts, packet.duration or 0)), max(top, packet.pts)
        elif packet.pts is not None:
            is_skipped = demux.is_edit_list_skipped(packet)
            has_skipped = has_skipped or is_skipped
            if include_skipped or not is_skipped:
                duration = demux.packet_duration(packet)
                packet_times[packet.stream_index].append(packet.pts, duration, packet.size, step, now)
    for packets in packet_times.values():
        packets.split_at_own_steps(step)
    return video, [(s.codec_context.name, packet_times[s.index]) for s in audio], has_skipped, last


def _scan_frames(path: Path, observer: demux.DecodeObserver | None) -> tuple[int, array[int]]:
    """Decode all frames; return the number of corrupt ones, and timestamps or NONE."""
    corrupt, pts = 0, array("q")
    with demux.open_media(path) as container:
        for frame in demux.decode_frames(
            container, demux.video_stream(container, path, demux.NO_PIXEL_LIMIT), observer
        ):
            corrupt += frame.is_corrupt
            pts.append(NONE if frame.pts is None else frame.pts)
    return corrupt, pts


def _clock_origin(container: InputContainer) -> Fraction:
    """Return the start time of a broadcast, whose clock does not start at 0."""
    is_broadcast = container.format.name in ("mpegts", "mpeg")
    return Fraction(container.start_time or 0, av.time_base) if is_broadcast else Fraction(0)
