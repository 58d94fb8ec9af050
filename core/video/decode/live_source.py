"""Frames of a pipe, a capture device or a file, decoded as they arrive.

`VideoClip` opens its file again for each pass and seeks in it; a live source can do neither. It is read once, in one
thread, without frame-parallel decoding, so that a frame is given out as soon as its data has arrived.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from ...clip import ClipError, ClipInfo, Frames
from ..format.source_description import SourceDescription, raw_format
from ..format.stream_format import StreamFormat, bit_depth, has_alpha
from .convert import to_level_planes
from .corruption_report import OnDamage
from .packets import demux
from .packets.frame_rate import has_stated_rate, rate_of_first_frames, read_frame_rate, stated_rate
from .packets.step_back import frame_ticks
from .timestamps import Timestamps

STDIN = "-"
DEVICE_FORMATS = ("v4l2", "avfoundation", "dshow")  # FFmpeg's capture devices of Linux, macOS and Windows
_MEASURED_FRAMES = 16  # of a pipe that states no frame rate, before the first one is given out
_Y4M = "yuv4mpegpipe"
_PIPED_MP4 = (
    "an MP4 or MOV file whose index is at its end cannot be read from a pipe: give the file name, or pipe Matroska or "
    "MPEG-TS"
)
PIPE_FORMATS = f"{demux.VIDEO_FORMATS},{_Y4M}"


class LiveSource:
    """An open source that is read once; `open_live_source` returns it.

    info: size and frame rate; the length is unknown. bit_depth: bits per channel. description: format and metadata, for
    a file that is written from it. time: timestamp of the frame that
    `frames` yielded last, in seconds; None where it has none. time_base: unit of the timestamps, in seconds. times:
    timestamps of all frames that `frames` has yielded, from the first one on; see `_append_time`.
    """

    def __init__(
        self, name: str, container: InputContainer, stream: VideoStream, decoded: Iterator[VideoFrame], fps: Fraction
    ) -> None:
        first = next(decoded)
        self._name, self._decoded = name, chain([first], decoded)
        self._format = StreamFormat.of(stream, first)
        width, height = first.width, first.height
        if self._format.orientation.transpose:
            width, height = height, width
        self.bit_depth = bit_depth(self._format.pixel_format)
        self.info = ClipInfo(width, height, fps)
        is_raw = _device(name) is not None or container.format.name == _Y4M
        self.description = SourceDescription(
            raw_format(self._format, height) if is_raw else self._format,
            dict(container.metadata),
            dict(stream.metadata),
        )
        self.time: float | None = None
        self.time_base = stream.time_base or Fraction(1, 90_000)
        self._starts, self._durations, self._zero_pts = array("q"), array("q"), 0
        self.times = Timestamps(self._starts, self._durations, self.time_base, Fraction(0), is_growing=True)

    def frames(self, stop: Callable[[], bool] = lambda: False) -> Iterator[Frames]:
        """Yield all frames in order, (1, 3 or 4, H, W), float32 in [0, 1].

        Ends with the source, or when `stop()` returns True. Raises ClipError for a change of size and where decoding
        fails.
        """
        from ...runtime.typed_torch import from_numpy

        reformatter, alpha = VideoReformatter(), has_alpha(self._format.pixel_format)
        for number, frame in enumerate(self._decoded):
            if stop():
                return
            planes = to_level_planes(frame, reformatter, alpha=alpha, chroma_location=self._format.chroma_location)
            planes = [
                self._format.orientation.apply(np.divide(plane, level, dtype=np.float32)) for plane, level in planes
            ]
            if planes[0].shape != (self.info.height, self.info.width):
                height, width = planes[0].shape
                raise ClipError(
                    f"{self._name}: frame {number} is {width}x{height}, those before are "
                    f"{self.info.width}x{self.info.height}; all frames must have one size"
                )
            self.time = None if frame.pts is None else float(frame.pts * self.time_base)
            self._append_time(frame.pts)
            yield from_numpy(np.stack(planes)[None])

    def _append_time(self, pts: int | None) -> None:
        """Append the timestamp of a frame to `times`, which ascend.

        A frame without one, and one from which on they start again, follow after the usual time; a repeated one, which
        the next frame must be after, follows earlier.
        """
        usual = frame_ticks(self.info.fps, self.time_base)
        if not self._starts:
            self._zero_pts, start = pts or 0, 0
        else:
            last = self._starts[-1]
            start = last + usual if pts is None else pts - self._zero_pts
            if start < last - usual:
                self._zero_pts, start = (pts or 0) - last - usual, last + usual
            start = max(start, last + max(1, usual // 2)) if start <= last else start
            self._durations[-1] = start - last
        self._starts.append(start)
        self._durations.append(usual)


@contextmanager
def open_live_source(
    name: str, *, max_pixels: int = demux.MAX_PIXELS, on_damage: OnDamage = OnDamage.FAIL
) -> Generator[LiveSource, None, None]:
    """Open a pipe, a capture device or a file, and decode its first frame.

    name: `-` (stdin: Y4M or any container); a device, /dev/video0 and the like, or its FFmpeg format and name
    (avfoundation:0, dshow:video=Camera); or a video file. on_damage: KEEP skips packets that cannot be decoded. Raises
    ClipError where no frame can be read.
    """
    with ExitStack() as stack:
        container = _open_container(name, stack)
        stream = demux.video_stream(container, name, max_pixels)
        stream.codec_context.thread_type = "SLICE"  # frame threads would delay the output by a frame each
        decoded = _decode(name, container, stream, on_damage)
        is_measured = _device(name) is None and not has_stated_rate(stream)
        first = list(islice(decoded, _MEASURED_FRAMES if is_measured else 1))
        if not first:
            advice = f"; {_PIPED_MP4}" if _is_piped_mp4(name, container) else ""
            raise ClipError(f"{name}: its video stream has no frames{advice}")
        fps = rate_of_first_frames(stream, first) if is_measured else stated_rate(stream)
        if name != STDIN and _device(name) is None:
            with demux.open_media(Path(name)) as again:
                fps, _ = read_frame_rate(Path(name), again, demux.video_stream(again, name, max_pixels))
        yield LiveSource(name, container, stream, chain(first, decoded), fps)


def _open_container(name: str, stack: ExitStack) -> InputContainer:
    codecs = f"{demux.VIDEO_DECODERS},{demux.AUDIO_SUBTITLE_DECODERS}"
    device = _device(name)
    if name != STDIN and device is None:
        return stack.enter_context(demux.open_media(Path(name)))
    try:
        if device is not None:
            return stack.enter_context(av.open(device[1], "r", format=device[0], options={"codec_whitelist": codecs}))
        # Unbuffered: a buffered reader would wait for more data than a small frame has.
        pipe = stack.enter_context(os.fdopen(os.dup(0), "rb", buffering=0))
        allow = {"format_whitelist": PIPE_FORMATS, "codec_whitelist": codecs}
        return stack.enter_context(av.open(pipe, "r", options=allow, metadata_errors="replace"))
    except (FFmpegError, OSError, ValueError) as e:
        what = "a video stream" if device is None else "a capture device"
        raise ClipError(f"{name}: not {what} that can be read ({demux.error_message(e)})") from e


def _device(name: str) -> tuple[str, str] | None:
    """(FFmpeg's format, the device's name) of a capture device; None for a file."""
    if name.startswith("/dev/video"):
        return "v4l2", name
    kind, _, device = name.partition(":")
    return (kind, device) if kind in DEVICE_FORMATS and device else None


def _decode(name: str, container: InputContainer, stream: VideoStream, on_damage: OnDamage) -> Iterator[VideoFrame]:
    observer = demux.IgnoreDecodeErrors() if on_damage is OnDamage.KEEP else None
    has_frames = False
    try:
        for frame in demux.decode_frames(container, stream, observer):
            has_frames = True
            yield frame
    except FFmpegError as e:
        if not has_frames and _is_piped_mp4(name, container):
            advice = _PIPED_MP4
        elif observer is None:
            advice = "--on-damage keep passes over it"
        else:
            advice = "nothing after it can be read: copy or export the source again"
        raise ClipError(f"{name}: decoding failed: {demux.error_message(e)}; {advice}") from e


def _is_piped_mp4(name: str, container: InputContainer) -> bool:
    return name == STDIN and "mp4" in container.format.name.split(",")
