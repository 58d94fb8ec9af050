"""Concatenate video segments by stream copy, and add the audio of the source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from math import inf
from pathlib import Path
from statistics import median_low

from av.container import OutputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from ..clip import ClipError
from ..runtime.typed_av import mux
from ..video.decode.packets import demux
from ..video.decode.timestamps import Timestamps
from ..video.encode.codecs import Container, open_output
from ..video.encode.logged_errors import logged_errors
from ..video.encode.matroska_aspect import reserve_display_size, write_display_size
from ..video.encode.packet_clock import end_duration
from ..video.encode.remux import add_stream_copy
from ..video.encode.stream_copy import StreamCopier


@dataclass(frozen=True)
class Segment:
    """A file with the video stream of a range of frames of a clip.

    extradata_hash: hash of the decoder configuration; segments with equal hashes can be concatenated.
    """

    path: Path
    frame_range: range
    extradata_hash: str


def check_segment(path: Path, frame_range: range) -> Segment:
    """Return the segment in a file. Raises ClipError unless it holds these frames."""
    with demux.open_media(path) as container:
        stream = demux.video_stream(container, path, demux.NO_PIXEL_LIMIT)
        extradata_hash = sha256(stream.codec_context.extradata or b"").hexdigest()
    try:
        order = _display_order(path)
    except FFmpegError as e:
        raise ClipError(f"{path}: cannot be read after writing ({demux.error_message(e)}); check the disk") from e
    if sorted(order) != [*range(len(frame_range))]:
        raise ClipError(
            f"{path}: {len(frame_range)} frames were written, and {len({*order})} can be read; check the disk"
        )
    return Segment(path, frame_range, extradata_hash)


def concat_segments(
    segments: Sequence[Segment],
    target: Path,
    *,
    container: Container,
    times: Timestamps,
    fps: Fraction,
    source: Path | None = None,
) -> str:
    """Write all segments, in their order, into one file, without re-encoding.

    times: timestamps of all frames; those within the segments serve for the order alone, so that rounding and shifts of
    the container do not accumulate. fps: nominal frame rate of the file. source: the file whose audio and metadata are
    copied. Returns a hash of the content of all video packets, as `hash_video_packets` does.
    Raises ClipError for segments with different decoder configurations, and for errors of the container or the disk.
    """
    if len({segment.extradata_hash for segment in segments}) > 1:
        raise ClipError(
            f"{target}: the segments have different encoder settings and cannot be concatenated; delete the job"
        )
    try:
        with logged_errors(), open_output(target, container) as sink:
            copy = _add_stream_like(segments[0].path, sink, fps)
            aspect = copy.codec_context.sample_aspect_ratio or Fraction(1)
            has_reserved_size = reserve_display_size(copy, container, aspect)
            if source is None:
                digest = _mux_segments(segments, sink, copy, times, None)
            else:
                with demux.open_media(source) as source_container:
                    copier = StreamCopier(
                        source_container,
                        sink,
                        container.fallback_audio,
                        times.origin,
                        times.trim_duration,
                        shifts=times.shifts,
                    )
                    digest = _mux_segments(segments, sink, copy, times, copier)
                    copier.finish()
        if has_reserved_size:
            write_display_size(target, aspect)
    except (FFmpegError, OSError, ValueError) as e:
        raise ClipError(f"{target}: concatenating the segments failed: {demux.error_message(e)}; check the disk") from e
    return digest


def hash_video_packets(path: Path) -> str:
    """Return a hash of the content of all video packets, in their order.

    Raises ClipError.
    """
    digest = sha256()
    try:
        with demux.open_media(path) as container:
            stream = demux.video_stream(container, path, demux.NO_PIXEL_LIMIT)
            for packet in container.demux(stream):
                digest.update(packet)
    except FFmpegError as e:
        raise ClipError(f"{path}: cannot be read ({demux.error_message(e)})") from e
    return digest.hexdigest()


def _add_stream_like(path: Path, sink: OutputContainer, fps: Fraction) -> VideoStream:
    """Add a stream for the packets of such a segment, with its time base."""
    with demux.open_media(path) as container:
        stream = demux.video_stream(container, path, demux.NO_PIXEL_LIMIT)
        copy = add_stream_copy(stream, sink)
        copy.codec_context.framerate = fps
    return copy


def _mux_segments(
    segments: Sequence[Segment],
    sink: OutputContainer,
    output_stream: VideoStream,
    times: Timestamps,
    copier: StreamCopier | None,
) -> str:
    order = [rank + segment.frame_range.start for segment in segments for rank in _display_order(segment.path)]
    if sorted(order) != [*range(len(times.starts))]:
        raise ClipError(
            f"the segments hold {len(order)} frames instead of each of {len(times.starts)} once; delete the job"
        )
    decode_times = compute_dts(order, times)
    lead, decode_times = times.starts[0] - decode_times[0], iter(decode_times)
    numbers, left, digest = iter(order), len(order), sha256()
    for segment in segments:
        with demux.open_media(segment.path) as container:
            stream = demux.video_stream(container, segment.path, demux.NO_PIXEL_LIMIT)
            for packet in container.demux(stream):
                if not packet.size:
                    continue
                number = next(numbers)
                packet.time_base = times.time_base
                packet.pts, packet.duration = times.starts[number], times.durations[number]
                packet.dts = next(decode_times)
                left -= 1
                if left == 0:
                    packet.duration = end_duration(packet, lead, times)
                if copier:
                    copier.mux_until(packet.dts * times.time_base)
                packet.stream = output_stream
                digest.update(packet)
                mux(sink, packet)
    return digest.hexdigest()


def compute_dts(order: Sequence[int], times: Timestamps) -> list[int]:
    """Return ascending decoding timestamps, none after its presentation timestamp.

    order: the frame number of each packet; the result is in units of `times.time_base`. With even spacing, a packet is
    decoded when the frame is presented that precedes it by the reorder delay, as encoders do. After a frame with a long
    duration that would be far too early: FFmpeg takes the distance of decoding timestamps for the duration, and drops
    the last frames of an MP4 whose durations seem to exceed its end.
    """
    delay = max((index - number for index, number in enumerate(order)), default=0)
    frame_duration = max(1, median_low(times.durations))
    latest_dts, limit = [0] * len(order), inf
    for index in range(len(order) - 1, -1, -1):
        latest_dts[index] = int(min(times.starts[order[index]], limit))
        limit = latest_dts[index] - 1
    start_dts = [times.starts[0] - frame_duration * frames_ahead for frames_ahead in range(delay, 0, -1)]
    delayed = [*start_dts, *times.starts]
    result = [max(dts, latest - delay * frame_duration) for dts, latest in zip(delayed, latest_dts, strict=False)]
    # The last frames are decoded as long before they are presented as the first one is, so that FFmpeg finds the
    # duration and the rate of the frames in these timestamps, too.
    end = times.starts[-1] - (times.starts[0] - result[0])
    result[-1] = max(result[-1], min(latest_dts[-1], end))
    for index in range(len(order) - 1, 0, -1):
        limit = max(end - (len(order) - 1 - index), result[0] + index)
        if result[index] <= limit:
            break
        result[index] = limit
    return result


def _display_order(path: Path) -> list[int]:
    """Return for each packet of a file the presentation index of its frame."""
    with demux.open_media(path) as container:
        stream = demux.video_stream(container, path, demux.NO_PIXEL_LIMIT)
        all_pts = [packet.pts for packet in container.demux(stream) if packet.size]
    rank_of = {pts: rank for rank, pts in enumerate(sorted(pts for pts in all_pts if pts is not None))}
    return [rank_of[pts] for pts in all_pts if pts is not None]
