"""Write a stream of frames as a video file."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from ...clip import ClipError, ClipInfo, Frames
from ...runtime.files.atomic_write import atomic_path
from ...runtime.threads.prefetch import chain_first, close, write_behind
from ...runtime.typed_av import encode_video, mux
from ..decode.packets import demux
from ..decode.semi_planar import to_semi_planar
from ..decode.timestamps import TimeRange, Timestamps, log_notes, read_timestamps
from ..format.source_description import SourceDescription
from ..format.stream_format import NativeFrames, StreamFormat
from ..verify.verify import verify_output
from .codecs import Container, Encoding, codec_for, codec_name, container_for, open_output
from .encoder_options import EncoderSetup, add_video_stream
from .frame_converter import FrameConverter
from .hardware_encoders import choose_encoder
from .logged_errors import logged_errors
from .matroska_aspect import reserve_display_size, write_display_size
from .output_format import OutputFormat, probe_format
from .packet_clock import PacketClock
from .stream_copy import StreamCopier, copy_metadata, copy_video_metadata

log = logging.getLogger(__name__)


def write_video(
    path: str | Path,
    frames: Iterator[Frames | NativeFrames],
    info: ClipInfo,
    *,
    encoding: Encoding | None = None,
    source: str | Path | None = None,
    times: Timestamps | None = None,
    window: TimeRange | None = None,
    bits: int | None = None,
    frames_format: StreamFormat | None = None,
    description: SourceDescription | None = None,
) -> int:
    """Write frames to the video file `path`; return their number.

    The size is that of the first frame. frames: RGB, or frames in the source's pixel format in display orientation, as
    `Pipeline.native_frames` yields them. info: its fps spaces the frames where there is no source.
    source: the video from which the frames were computed, one by one. Its audio and subtitles are copied without
    re-encoding; its timestamps, metadata, pixel aspect ratio and color tags are kept.
    window: the part of the source from which the frames are; its other streams are trimmed to that.
    times: timestamps of the frames. With a source, these are a part of its clip; only the video stream is written then.
    bits: bit depth that the frames have where there is no source, 8 by default; with a source it is the source's.
    frames_format: storage format of `frames` that are not RGB; None takes that of the source.
    description: what is kept of a source that cannot be opened here, such as a pipe or images.
    The file appears under its name when it is complete and verified; on any error or interrupt nothing appears, and
    `frames` is closed. Frames are converted and encoded in a thread, while the next one is computed in this one.
    4:2:0 needs even sizes: odd ones are padded by repeating the last column or row, which is logged.
    Raises ClipError for no frames, a change of size, alpha that the codec cannot keep, a number of frames that differs
    from the source's, and errors of the encoder or the disk.
    """
    path, encoding = Path(path), encoding or Encoding()
    container = container_for(path)
    codec = codec_for(path, container, encoding)
    if source is not None and path.exists() and path.samefile(source):
        raise ClipError(f"{path}: this is the source itself; choose another name for the result")
    if not path.parent.is_dir():
        raise ClipError(f"{path}: the folder {path.parent} does not exist; create it first")
    with ExitStack() as output_stack:
        with ExitStack() as stack:
            stack.callback(close, frames)  # Also on an early error, so that the threads behind `frames` end.
            first = next(frames, None)
            if first is None or len(first) == 0:
                raise ClipError(f"{path}: there are no frames to write")
            described_format = description.stream_format if description else None
            source_format = probe_format(Path(source)) if source is not None else described_format
            is_srgb = description is not None and description.is_srgb
            output_format = OutputFormat.of(first, codec, encoding, source_format, path, bits, is_srgb=is_srgb)
            pixel_format, size, name = (
                output_format.pixel_format,
                output_format.padded_size,
                codec_name(container, encoding),
            )
            setup = choose_encoder(path, name, codec, encoding, pixel_format, size)
            output_format = output_format.with_stored_chroma_location(
                name, container.muxer, is_hardware=setup.is_hardware
            )
            is_full_clip = times is None or source is None
            if source is not None and times is None:
                times = read_timestamps(Path(source), window)
                log_notes(Path(source), times)
            info = info.resized(output_format.width, output_format.height)
            partial = output_stack.enter_context(atomic_path(path))
            sink = stack.enter_context(_output_container(path, partial, container))
            writer = _VideoWriter(path, sink, output_format, setup, info.fps, times, frames_format or source_format)
            has_reserved_size = reserve_display_size(writer.stream, container, output_format.pixel_aspect)
            if source is not None and times is not None and is_full_clip:
                old = stack.enter_context(demux.open_media(source))
                writer.tracks = StreamCopier(
                    old, sink, container.fallback_audio, times.origin, times.trim_duration, shifts=times.shifts
                )
            elif description is not None:
                copy_metadata(description.metadata, sink)
                copy_video_metadata(description.video_metadata, sink)
            # The first frame is encoded in the thread too: with it the encoder allocates long-lived memory, which would
            # fragment the memory of frames if it were allocated here.
            stream = chain_first([first], frames)
            del first  # Frames are large; this reference would live until the file is complete.
            write_behind(stream, writer.write, depth=1, name="encode")
            writer.finish()
        count = writer.count
        del writer, stream, sink  # Frees the encoder, which holds dozens of frames, before verification decodes.
        if has_reserved_size:
            write_display_size(partial, output_format.pixel_aspect)
        if is_full_clip:
            _verify(partial, path, source, count, info, window, times if source is None else None)
    return count


def _verify(
    partial: Path,
    path: Path,
    source: str | Path | None,
    count: int,
    info: ClipInfo,
    window: TimeRange | None,
    times: Timestamps | None,
) -> None:
    def start(number: int) -> Fraction:
        assert times is not None
        return times.starts[number] * times.time_base

    moment = start if times is not None else None
    try:
        verify_output(partial, source, frame_count=count, info=info, window=window, moment=moment)
    except ClipError as e:
        raise type(e)(str(e).replace(str(partial), str(path))) from e


class _VideoWriter:
    """Encodes frames into an open file; `count` frames are encoded."""

    def __init__(
        self,
        path: Path,
        sink: OutputContainer,
        output_format: OutputFormat,
        setup: EncoderSetup,
        fps: Fraction,
        times: Timestamps | None,
        source_format: StreamFormat | None,
    ) -> None:
        self.count = 0
        self.tracks: StreamCopier | None = None
        self._path, self._sink, self._setup, self._times = path, sink, setup, times
        self._converter = FrameConverter(path, output_format, setup, source_format)
        self._time_base = times.time_base if times else 1 / fps
        self._clock = PacketClock(times, self._time_base, fps)
        self._reformatter = VideoReformatter()
        self.stream = add_video_stream(sink, output_format, setup, fps, self._time_base)
        if output_format.padded_size != (output_format.width, output_format.height):
            log.warning(
                "%s: %s needs even sizes, so %dx%d becomes %dx%d by repeating the last column or row",
                path, output_format.pixel_format, output_format.width, output_format.height, *output_format.padded_size,
            )  # fmt: skip

    def write(self, frames: Frames | NativeFrames) -> None:
        converted = self._converter.convert(frames)
        del frames  # Eight times as large as the converted ones.
        while converted:
            self._encode(converted.popleft())

    def finish(self) -> None:
        """Flush the encoder and the other tracks, and check the number of frames."""
        for frame in self._converter.finish():
            self._encode(frame)
        if self._times and self.count != len(self._times.starts):
            raise ClipError(
                f"{self._path}: {self.count} frames were received, but the source has {len(self._times.starts)}; "
                "compute one frame for each source frame, or write without the source"
            )
        self._encode(None)
        with _wrap_errors(self._path):
            if self.tracks:
                self.tracks.finish()

    def _encode(self, frame: VideoFrame | None) -> None:
        if frame is not None:
            if frame.format.name != self._setup.pixel_format:
                frame = to_semi_planar(frame, self._reformatter)
            if self._times and self.count >= len(self._times.starts):
                raise ClipError(
                    f"{self._path}: more frames were received than the {self.count} of the source; "
                    "compute one frame for each source frame, or write without the source"
                )
            frame.pts = self._times.starts[self.count] if self._times else self.count
            frame.duration = self._times.durations[self.count] if self._times else 1
            frame.time_base = self._time_base
            if self._clock.has_odd_end(self.count):
                # A key frame is decoded last, too: containers take the end of the file from the last packet.
                frame.pict_type = 1  # FFmpeg's constant for I
            self.count += 1
        with _wrap_errors(self._path, f"{self._setup.name} at {self.stream.width}x{self.stream.height}"):
            packets = encode_video(self.stream, frame)
        for packet in packets:
            for complete in self._clock.push(packet):
                self._mux(complete)
        if frame is None:
            for packet in self._clock.flush():
                self._mux(packet)

    def _mux(self, packet: av.Packet[Any]) -> None:
        if self.tracks and packet.dts is not None:
            self.tracks.mux_until(packet.dts * packet.time_base)
        with _wrap_errors(self._path, f"{self._setup.name} at {self.stream.width}x{self.stream.height}"):
            mux(self._sink, packet)


@contextmanager
def _output_container(path: Path, partial: Path, container: Container) -> Generator[OutputContainer, None, None]:
    """Open the output file; closing it writes its index, unless an error was raised."""
    with _wrap_errors(path):
        sink = open_output(partial, container)
    try:
        yield sink
    except BaseException:  # The file must be closed on an interrupt too; the first error is the one to report.
        with suppress(FFmpegError, OSError):
            sink.close()
        raise
    with _wrap_errors(path), logged_errors():
        sink.close()


@contextmanager
def _wrap_errors(path: Path, component: str = "the file") -> Generator[None, None, None]:
    """Raise errors of the encoder, the container or the disk as ClipError."""
    try:
        yield
    except (FFmpegError, OSError, ValueError) as e:
        raise ClipError(
            f"{path}: writing failed in {component}: {demux.error_message(e)}; check the size, the options and the disk"
        ) from e
