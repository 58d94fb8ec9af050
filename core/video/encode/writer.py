"""A stream of frames as a video file: as many as came in, at the times of the source, in colours that are tagged."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from ...clip import ClipError, ClipInfo, Frames
from ...runtime.atomic_write import atomic_path
from ...runtime.prefetch import chain_first, close, write_behind
from ..decode import demux
from ..decode.convert import REFORMAT_THREADS, SWS_FLAGS, check_uniform, to_planar_frame
from ..decode.stream_format import FULL_RANGE, LIMITED_RANGE, NativeFrames, StreamFormat, bit_depth, is_rgb
from ..decode.timestamps import TimeRange, Timestamps, read_timestamps
from ..verify.verify import verify_output
from .codecs import CODECS, CONTAINERS, Codec, Container, Encoding, codec_for, container_for, open_output
from .encoder_options import add_video_stream
from .matroska_aspect import reserve_display_size, write_display_size
from .output_format import SWS_MATRIX, OutputFormat, has_transparency, probe_format
from .stream_copy import StreamCopier

if TYPE_CHECKING:
    from torch import Tensor

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
) -> int:
    """Write frames, as they come, to the video file `path`, and return how many. The size is that of the first frame.

    frames: RGB, or upright pictures of the source's pixel format, as `Recipe.pictures` gives them.
    info: its fps spaces the frames where there is no source.
    source: the video that the frames were made from, one for one. Its sound and subtitles are copied without
    re-encoding, and its timestamps, names, pixel aspect and colour description are kept.
    window: the part of the source that the frames are; what else is kept of it is cut to that.
    times: when the frames are shown, where they are a part of a clip; then nothing but the picture is written.
    The file appears under its name when all of it is written and was read again (contract.py); on any error or
    interrupt nothing appears, and `frames` is closed. A frame is brought into the file's format and encoded in a thread
    of its own while the next one is made in this one; none waits between them.
    4:2:0 needs even sizes: an odd picture gets one more column or row, a copy of the last, and the log says so.
    Raises ClipError for no frames, a change of size, alpha that the codec cannot keep, a number of frames that differs
    from the source's, and whatever the encoder or the disk refuses.
    """
    path, encoding = Path(path), encoding or Encoding()
    container = container_for(path)
    codec = codec_for(path, container, encoding)
    if source is not None and path.exists() and path.samefile(source):
        raise ClipError(f"{path}: this is the source itself; choose another name for the result")
    if not path.parent.is_dir():
        raise ClipError(f"{path}: the folder {path.parent} does not exist; create it first")
    with ExitStack() as appearance:
        with ExitStack() as stack:
            stack.callback(close, frames)  # Also where it fails early: threads that make them end then.
            first = next(frames, None)
            if first is None or len(first) == 0:
                raise ClipError(f"{path}: there are no frames to write")
            stored = probe_format(Path(source)) if source is not None else None
            look = OutputFormat.of(first, codec, encoding, stored, path)
            whole = times is None
            if source is not None and times is None:
                times = read_timestamps(Path(source), window)
            info = info.resized(look.width, look.height)
            partial = appearance.enter_context(atomic_path(path))
            sink = stack.enter_context(_output_container(path, partial, container))
            writer = _VideoWriter(path, sink, look, codec, encoding, info.fps, times, stored)
            marked = reserve_display_size(writer.stream, container, look.pixel_aspect)
            if source is not None and times is not None and whole:
                old = stack.enter_context(demux.open_media(source))
                writer.tracks = StreamCopier(old, sink, container.fallback_audio, times.origin, times.trim_duration)
            # The first goes the way of the others: what an encoder allocates when it begins stays, and would lie
            # scattered where frames have been.
            stream = chain_first([first], frames)
            del first  # A large frame, which would stay for as long as the file is written.
            write_behind(stream, writer.write, depth=1, name="encode")
            writer.finish()
        count = writer.count
        del writer, stream, sink  # With them goes the encoder, which holds dozens of frames, before others decode.
        if marked:
            write_display_size(partial, look.pixel_aspect)
        if whole:
            _verify(partial, path, source, count, info, window)
    return count


def _verify(
    partial: Path, path: Path, source: str | Path | None, count: int, info: ClipInfo, window: TimeRange | None
) -> None:
    try:
        verify_output(partial, source, frame_count=count, info=info, window=window)
    except ClipError as e:
        raise type(e)(str(e).replace(str(partial), str(path))) from e


class _VideoWriter:
    """Frames on their way into an open file. `count` of them are in."""

    def __init__(
        self,
        path: Path,
        sink: OutputContainer,
        output_format: OutputFormat,
        codec: Codec,
        encoding: Encoding,
        fps: Fraction,
        times: Timestamps | None,
        source_format: StreamFormat | None,
    ) -> None:
        self.count = 0
        self._received = 0
        self.tracks: StreamCopier | None = None
        self._path, self._sink, self._output_format, self._codec, self._times = path, sink, output_format, codec, times
        self._source_format = source_format
        self._time_base = times.time_base if times else 1 / fps
        self._reformatter = VideoReformatter()
        self.stream = add_video_stream(sink, output_format, codec, encoding, fps, self._time_base)
        if output_format.padded_size != (output_format.width, output_format.height):
            log.warning(
                "%s: %s needs even sizes, so %dx%d becomes %dx%d by repeating the last column or row",
                path, output_format.pixel_format, output_format.width, output_format.height, *output_format.padded_size,
            )  # fmt: skip

    def write(self, frames: Frames | NativeFrames) -> None:
        pictures = self._to_encoder_frames(frames)
        del frames  # Eight times as large.
        while pictures:
            self._encode(pictures.popleft())

    def _to_encoder_frames(self, frames: Frames | NativeFrames) -> deque[VideoFrame]:
        """Frames as the encoder wants them, in order."""
        look = self._output_format
        if isinstance(frames, list):
            return deque(self._convert_native(picture) for picture in frames)
        check_uniform(frames, (look.channels, look.height, look.width), self._received, self._path)
        if look.channels == 4 and not look.keeps_alpha:
            self._refuse_transparency(frames)
            frames = frames[:, :3]
        self._received += len(frames)
        return deque(self._frame_from_tensor(frame) for frame in frames)

    def finish(self) -> None:
        """Flush the encoder and the other tracks, and check that no frame was lost."""
        if self._times and self.count != len(self._times.starts):
            raise ClipError(
                f"{self._path}: {self.count} frames came, but the source has {len(self._times.starts)}; "
                "make one frame of each source frame, or write without the source"
            )
        self._encode(None)
        with _wrap_errors(self._path):
            if self.tracks:
                self.tracks.finish()

    def _refuse_transparency(self, frames: Frames) -> None:
        if has_transparency(frames):
            keep = [
                f"{name} ({', '.join(suffix for suffix, c in CONTAINERS.items() if name in c.codecs)})"
                for name, codec in CODECS.items()
                if codec.alpha_format
            ]
            raise ClipError(
                f"{self._path}: the frames have transparency, which {self._codec.encoder} "
                f"with {self._output_format.pixel_format} cannot keep; write {', '.join(keep)} or a folder of PNG"
            )
        if self._received == 0:
            log.info("%s: the alpha channel is opaque and is left out", self._path)

    def _frame_from_tensor(self, frame: Tensor) -> VideoFrame:
        """(C, H, W) -> a frame as the encoder wants it."""
        look = self._output_format
        width, height = look.padded_size
        rgb = to_planar_frame(frame, high_bit_depth=bit_depth(look.pixel_format) > 8, width=width, height=height)
        return self._reformat(rgb, src_color_range=FULL_RANGE)

    def _convert_native(self, frame: VideoFrame) -> VideoFrame:
        """A picture as the source stores it -> as the encoder wants it."""
        stored = self._source_format
        assert stored is not None, "pictures are written beside the source that they are stored as"
        if (
            frame.format.name == self._output_format.pixel_format
            and (frame.width, frame.height) == self._output_format.padded_size
        ):
            return self._tag_color(frame)
        matrix, limits = SWS_MATRIX.get(stored.matrix), FULL_RANGE if stored.full_range else LIMITED_RANGE
        return self._reformat(frame, src_colorspace=matrix, src_color_range=limits)

    def _reformat(self, frame: VideoFrame, **source_options: int | None) -> VideoFrame:
        look = self._output_format
        made = self._reformatter.reformat(
            frame,
            format=look.pixel_format,
            dst_colorspace=None if is_rgb(look.pixel_format) else SWS_MATRIX[look.matrix],
            dst_color_range=FULL_RANGE if look.full_range else LIMITED_RANGE,
            interpolation=SWS_FLAGS,
            threads=REFORMAT_THREADS,
            **source_options,
        )
        return self._tag_color(made)

    def _tag_color(self, frame: VideoFrame) -> VideoFrame:
        if not is_rgb(self._output_format.pixel_format):
            frame.colorspace = self._output_format.matrix_tag
            frame.color_range = FULL_RANGE if self._output_format.full_range else LIMITED_RANGE
        frame.color_primaries, frame.color_trc = self._output_format.primaries, self._output_format.transfer
        return frame

    def _encode(self, frame: VideoFrame | None) -> None:
        if frame is not None:
            if self._times and self.count >= len(self._times.starts):
                raise ClipError(
                    f"{self._path}: more frames came than the {self.count} that the source has; "
                    "make one frame of each source frame, or write without the source"
                )
            frame.pts = self._times.starts[self.count] if self._times else self.count
            frame.duration = self._times.durations[self.count] if self._times else 1
            frame.time_base = self._time_base
            self.count += 1
        with _wrap_errors(self._path, f"{self._codec.encoder} at {self.stream.width}x{self.stream.height}"):
            for packet in self.stream.encode(frame):
                _fix_dts(packet)
                if self.tracks and packet.dts is not None:
                    self.tracks.mux_until(packet.dts * packet.time_base)
                self._sink.mux(packet)


def _fix_dts(packet: av.Packet) -> None:
    """In a stream of one or two frames libx265 leaves the decoding time to chance (its delay has not passed yet).

    Such frames are not reordered, so they are decoded when they are shown. No encoder looks an hour ahead.
    """
    if packet.pts is None or packet.dts is None or packet.time_base is None:
        return
    ahead = (packet.pts - packet.dts) * packet.time_base
    if not 0 <= ahead <= 3600:
        packet.dts = packet.pts


@contextmanager
def _output_container(path: Path, partial: Path, container: Container) -> Iterator[OutputContainer]:
    """The open file; closing it writes its index, which is left out when there is an error already."""
    with _wrap_errors(path):
        sink = open_output(partial, container)
    try:
        yield sink
    except BaseException:  # of an interrupt too the file has to be closed, and its own error is the one that counts
        with suppress(FFmpegError, OSError):
            sink.close()
        raise
    with _wrap_errors(path):
        sink.close()


@contextmanager
def _wrap_errors(path: Path, component: str = "the file") -> Iterator[None]:
    """What the encoder, the container or the disk refuses, as a ClipError that says whose file it was."""
    try:
        yield
    except (FFmpegError, OSError, ValueError) as e:
        raise ClipError(
            f"{path}: writing failed in {component}: {demux.error_message(e)}; check the size, the options and the disk"
        ) from e
