"""Segments of a picture become one file, packet by packet, and the sound of the source is put beside them, once."""

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
from ..video.decode import demux
from ..video.decode.timestamps import Timestamps
from ..video.encode.codecs import Container, open_output
from ..video.encode.matroska_aspect import reserve_display_size, write_display_size
from ..video.encode.remux import add_stream_copy
from ..video.encode.stream_copy import StreamCopier


@dataclass(frozen=True)
class Segment:
    """A file that shows a run of the frames of a clip, and nothing else.

    header: hash of what a decoder must know beforehand; segments go together where it is the same.
    """

    path: Path
    frame_range: range
    extradata_hash: str


def check_segment(path: Path, frame_range: range) -> Segment:
    """Read the packets of a segment, which is to hold these frames. Raises ClipError where it does not."""
    with demux.open_media(path) as container:
        header = sha256(
            demux.video_stream(container, path, demux.NO_PIXEL_LIMIT).codec_context.extradata or b""
        ).hexdigest()
    try:
        order = _display_order(path)
    except FFmpegError as e:
        raise ClipError(f"{path}: cannot be read again ({demux.error_message(e)}); check the disk") from e
    if sorted(order) != [*range(len(frame_range))]:
        raise ClipError(
            f"{path}: {len(frame_range)} frames were written, and {len({*order})} can be read; check the disk"
        )
    return Segment(path, frame_range, header)


def concat_segments(
    segments: Sequence[Segment],
    target: Path,
    *,
    container: Container,
    times: Timestamps,
    fps: Fraction,
    source: Path | None = None,
) -> None:
    """Write one file of all segments, which follow one another, and do not encode anything again.

    times: when each frame is shown; the segments' own times serve for the order alone, so that nothing which a
    container rounds, shifts or cuts adds up. fps: what the file claims. source: whose sound and names are taken over.
    Raises ClipError for segments that do not go together, and for what the container or the disk refuses.
    """
    if len({segment.extradata_hash for segment in segments}) > 1:
        raise ClipError(f"{target}: the segments were encoded in different ways and cannot be joined")
    try:
        with open_output(target, container) as sink:
            copy = _add_stream_like(segments[0].path, sink, fps)
            aspect = copy.codec_context.sample_aspect_ratio or Fraction(1)
            marked = reserve_display_size(copy, container, aspect)
            if source is None:
                _mux_segments(segments, sink, copy, times, None)
            else:
                with demux.open_media(source) as old:
                    tracks = StreamCopier(old, sink, container.fallback_audio, times.origin, times.trim_duration)
                    _mux_segments(segments, sink, copy, times, tracks)
                    tracks.finish()
        if marked:
            write_display_size(target, aspect)
    except (FFmpegError, OSError, ValueError) as e:
        raise ClipError(f"{target}: joining the segments failed: {demux.error_message(e)}; check the disk") from e


def _add_stream_like(path: Path, sink: OutputContainer, fps: Fraction) -> VideoStream:
    """A stream of the new file that will take the packets of such segments. It counts time as they do."""
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
    tracks: StreamCopier | None,
) -> None:
    order = [rank + segment.frame_range.start for segment in segments for rank in _display_order(segment.path)]
    if sorted(order) != [*range(len(times.starts))]:
        raise ClipError(f"the segments hold {len(order)} frames, and not each of {len(times.starts)} once")
    decoded = iter(compute_dts(order, times))
    numbers = iter(order)
    for segment in segments:
        with demux.open_media(segment.path) as container:
            stream = demux.video_stream(container, segment.path, demux.NO_PIXEL_LIMIT)
            for packet in container.demux(stream):
                if not packet.size:
                    continue
                number = next(numbers)
                packet.time_base = times.time_base
                packet.pts, packet.duration = times.starts[number], times.durations[number]
                packet.dts = next(decoded)
                if tracks:
                    tracks.mux_until(packet.dts * times.time_base)
                packet.stream = output_stream
                sink.mux(packet)


def compute_dts(order: Sequence[int], times: Timestamps) -> list[int]:
    """When each packet is decoded, in units of `times.base`: rising, and none later than its frame is shown.

    order: the number of the frame in each packet. Where frames are evenly spaced, a packet is decoded when the frame
    is shown that is as many places before it as frames wait for others at most, which is what encoders write. Where one
    stands for long, that would be far too early: FFmpeg takes the distance to the next packet for how long a frame is
    seen, and drops the last frames of an MP4 in which some stand beyond its end by that measure.
    """
    delay = max((at - number for at, number in enumerate(order)), default=0)
    usual = max(1, median_low(times.durations))
    due, latest = [0] * len(order), inf
    for at in range(len(order) - 1, -1, -1):
        due[at] = int(min(times.starts[order[at]], latest))
        latest = due[at] - 1
    before = [times.starts[0] - usual * ahead for ahead in range(delay, 0, -1)]
    return [max(early, late - delay * usual) for early, late in zip([*before, *times.starts], due, strict=False)]


def _display_order(path: Path) -> list[int]:
    """For each packet of a file, which place its frame has when they are shown."""
    with demux.open_media(path) as container:
        stream = demux.video_stream(container, path, demux.NO_PIXEL_LIMIT)
        shown = [packet.pts for packet in container.demux(stream) if packet.size]
    place = {pts: rank for rank, pts in enumerate(sorted(pts for pts in shown if pts is not None))}
    return [place[pts] for pts in shown if pts is not None]
