"""A video file as a clip."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from math import inf
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ...clip import ClipError, ClipInfo, Frames
from ...runtime.deprecation import deprecated_property
from ..format.stream_format import NativeFrames, StreamFormat, bit_depth, has_alpha
from .container_crop import warn_container_crop
from .convert import to_gray, to_level_planes
from .corruption import decode_checked
from .corruption_report import CorruptionReport, OnDamage
from .hwaccel import HardwareError, check_hwaccel, select_device
from .packets import demux
from .packets.frame_rate import read_frame_rate
from .packets.packet_scan import parse_duration
from .seek import SeekError, decode_range
from .timestamps import TimeRange, Timestamps, frame_range, read_timestamps, trim_timestamps

log = logging.getLogger(__name__)

PREROLL_SECONDS = 10  # how far before the first frame of a time range decoding starts


class VideoClip:
    """A video file, decoded as a stream; each pass opens the file anew.

    Frames are in display orientation, RGB, or RGBA where the file has alpha. max_pixels: the largest width * height
    accepted. on_damage: policy for corrupt frames; with `OnDamage.KEEP` there are as many frames as packets, and
    `damage` lists the corrupt ones. window: the clip is only that part of the file. hwaccel: one of HWACCELS; a device
    is used where it decodes the same frames, else they are decoded in software, and the reason is logged.
    Raises ClipError for a file that is not a video, has no video stream or no frames, is too large, is truncated, or
    changes its size.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        max_pixels: int = demux.MAX_PIXELS,
        on_damage: OnDamage = OnDamage.FAIL,
        window: TimeRange | None = None,
        hwaccel: str = "none",
    ) -> None:
        self.path, self.window, self.damage = Path(path), window, CorruptionReport()
        self._max_pixels, self._on_damage = max_pixels, OnDamage(on_damage)
        check_hwaccel(hwaccel)
        with demux.open_media(self.path) as container:
            stream = demux.video_stream(container, self.path, max_pixels)
            missing = _check_truncation(container, stream, self.path, self._on_damage)
            # The first frame is decoded because some files store their orientation only there.
            start = CorruptionReport()
            first = next(decode_checked(self.path, container, stream, OnDamage.KEEP, start), None)
            if first is None:
                raise ClipError(f"{self.path}: its video stream has no frames; export it again")
            self.stream_format = StreamFormat.of(stream, first)
            warn_container_crop(self.path)
            if first.interlaced_frame and window is None:
                log.warning(
                    "%s is interlaced: the two fields of a frame, taken at different times, are processed as one; "
                    "deinterlace the file first, for instance with FFmpeg's filter bwdif", self.path
                )  # fmt: skip
            if start.leading and window is None:
                log.warning(
                    "%s: frames at its start that cannot be displayed, as what predicts them was cut off: %d; "
                    "it starts with the first frame that can", self.path, start.leading
                )  # fmt: skip
            missing += start.leading
            fps, count = read_frame_rate(self.path, container, stream, is_interlaced=first.interlaced_frame)
            width, height = first.width, first.height
            if self.stream_format.orientation.transpose:
                width, height = height, width
            # Two packets may be an interlaced frame; nothing else is surer than a count.
            length = count if count and not first.interlaced_frame else _claimed_length(container, stream, fps)
            self._selection: _Selection | None = None
            if window is not None:
                times = read_timestamps(self.path)
                trim_timestamps(times, window, self.path)  # raises where it is empty
                self._selection = _Selection.of(times, frame_range(times, window))
                length = len(self._selection.frame_numbers)
            self.info = ClipInfo(width, height, fps, length - missing if length and not window else length)
        self._hardware = select_device(self.path, hwaccel, first, max_pixels)
        self._times: Timestamps | None = None  # read with the first part that does not start at frame 0

    @property
    def bit_depth(self) -> int:
        """Bits per channel of the file."""
        return bit_depth(self.stream_format.pixel_format)

    cut = deprecated_property("cut", "trim")
    stored = deprecated_property("stored", "stream_format")

    def trim(self, window: TimeRange) -> VideoClip:
        """Return that part of the file as a clip with the same settings."""
        hwaccel = self._hardware.device if self._hardware else "none"
        return VideoClip(
            self.path, max_pixels=self._max_pixels, on_damage=self._on_damage, window=window, hwaccel=hwaccel
        )

    def frames(
        self, batch: int = 1, first: int = 0, stop: int | None = None, times: Timestamps | None = None
    ) -> Iterator[Frames]:
        """Yield all frames in order, (<= batch, 3 or 4, H, W), float32 in [0, 1].

        Each call starts anew. first, stop: only the frames of these numbers. Decoding starts at the key frame before
        the first one, or where the file does not allow that, which is logged, at its start. times: of the clip, if they
        have been read.
        """
        from ...runtime.typed_torch import from_numpy

        alpha, orientation = has_alpha(self.stream_format.pixel_format), self.stream_format.orientation
        shape = (4 if alpha else 3, self.info.height, self.info.width)
        reformatter, chroma_location = VideoReformatter(), self.stream_format.chroma_location
        buffer, filled, number = _empty_batch(batch, shape), 0, first - 1
        with closing(self._decode_part(first, stop, times)) as decoded:
            for number, frame in enumerate(decoded, first):
                planes = to_level_planes(frame, reformatter, alpha=alpha, chroma_location=chroma_location)
                upright = [(orientation.apply(plane), level) for plane, level in planes]
                self._check_size(number, upright[0][0].shape[::-1], (self.info.width, self.info.height))
                for channel, (plane, level) in enumerate(upright):
                    np.divide(plane, level, out=buffer[filled, channel], dtype=np.float32)
                filled += 1
                if filled == batch:
                    yield from_numpy(buffer)
                    buffer, filled = _empty_batch(batch, shape), 0
        if filled:
            yield from_numpy(buffer[:filled])
        if stop is None:
            self._warn_missing_frames(number + 1)

    def luma_frames(self, side: int) -> Iterator[NDArray[np.float32]]:
        """Yield all frames as luma (1, 1, h, w) in [0, 1], float32.

        The size is that of `info.fit_within(side)`.
        """
        return self.luma_range(side, 0, None, None)

    def luma_range(
        self, side: int, first: int, stop: int | None, times: Timestamps | None
    ) -> Iterator[NDArray[np.float32]]:
        """Yield the frames of these numbers as `luma_frames` does.

        first, stop, times: as for `frames`.
        """
        small, orientation = self.info.fit_within(side), self.stream_format.orientation
        size = (small.height, small.width) if orientation.transpose else (small.width, small.height)
        reformatter = VideoReformatter()
        with closing(self._decode_part(first, stop, times)) as decoded:
            for frame in decoded:
                gray = orientation.apply(to_gray(frame, reformatter, *size))
                yield np.divide(gray[..., 0], np.float32(255), dtype=np.float32)[None, None]

    def native_frames(self) -> Iterator[NativeFrames]:
        """Yield all frames as stored, one at a time; see `stream_format`.

        Each call starts anew.
        """
        reformatter = VideoReformatter()
        size, number = (self.info.width, self.info.height), -1
        if self.stream_format.orientation.transpose:
            size = size[::-1]
        with closing(self._decode()) as decoded:
            for number, frame in enumerate(decoded):
                self._check_size(number, (frame.width, frame.height), size)
                yield [reformatter.reformat(frame, format=self.stream_format.pixel_format)]
        self._warn_missing_frames(number + 1)

    def _check_size(self, number: int, size: tuple[int, ...], expected: tuple[int, ...]) -> None:
        if size != expected:
            raise ClipError(
                f"{self.path}: frame {number} is {size[0]}x{size[1]}, those before are {expected[0]}x{expected[1]}; "
                "split the file where its size changes and process the parts"
            )

    def _warn_missing_frames(self, count: int) -> None:
        claimed = self.info.length or 0
        least = claimed * 0.98 - 1  # containers round durations, so a difference of a frame or two means nothing
        if count < least and not self._has_longer_track(least):
            log.warning("%s: the file claims %d frames, %d could be read", self.path, claimed, count)

    def _has_longer_track(self, frame_count: float) -> bool:
        """Whether the claimed length may be that of another track."""
        if self.window is not None:
            return False
        with demux.open_media(self.path) as container:
            stream = demux.video_stream(container, self.path, self._max_pixels)
            others = [s for s in container.streams if s.index != stream.index]
            if not others or _video_stream_length(container, stream, self.info.fps) is not None:
                return False
            return any(
                (packet.pts + (packet.duration or 0)) * packet.time_base * self.info.fps >= frame_count
                for packet in demux.demux_packets(container, *others, observer=demux.IgnoreDecodeErrors())
                if packet.pts is not None and packet.time_base is not None  # pyright: ignore[reportUnnecessaryComparison]  # None where unknown
            )

    def _decode_part(self, first: int, stop: int | None, times: Timestamps | None) -> Generator[VideoFrame, None, None]:
        """Yield the decoded frames from `first` to before `stop`."""
        count = 0
        if first:
            try:
                times = times or self._times or read_timestamps(self.path, self.window)
                self._times = times
                frames = range(first, len(times.starts) if stop is None else min(stop, len(times.starts)))
                decoder = self._hardware.make_decoder if self._hardware else demux.software_decoder
                if not frames:
                    raise SeekError("it is behind the last timestamp")
                with closing(decode_range(self.path, times, frames, self._max_pixels, decoder)) as decoded:
                    for frame in decoded:
                        count += 1
                        yield frame
                return
            except Exception as e:  # drivers raise errors of many types
                reason = str(e).removeprefix(f"{self.path}: ")
                log.warning("%s: frame %d is reached by decoding from the start (%s)", self.path, first + count, reason)
        with closing(self._decode()) as decoded:
            yield from islice(decoded, first + count, stop)

    def _decode(self) -> Generator[VideoFrame, None, None]:
        """Yield the decoded frames of the clip, in order.

        Where a device fails, decoding starts again in software, and continues after the last frame that was yielded.
        The software decoder thus decides what is corrupt.
        """
        count = 0
        if hardware := self._hardware:
            try:
                with closing(self._decode_with(hardware.make_decoder, OnDamage.FAIL, CorruptionReport())) as frames:
                    for frame in frames:
                        count += 1
                        yield frame
                return
            except Exception as e:  # drivers raise errors of many types
                reason = str(e) if isinstance(e, HardwareError) else f"the file seems to be damaged there: {e}"
                log.warning("%s: from frame %d on it is decoded in software (%s)", self.path, count, reason)
                self._hardware = None
        with closing(self._decode_with(demux.software_decoder, self._on_damage, self.damage)) as frames:
            yield from islice(frames, count, None)

    def _decode_with(
        self, make_decoder: Callable[[VideoStream], demux.Decoder], on_damage: OnDamage, report: CorruptionReport
    ) -> Generator[VideoFrame, None, None]:
        selection, pts_range = self._selection, self._selection.pts_range if self._selection else None
        with demux.open_media(self.path) as container:
            stream = demux.video_stream(container, self.path, self._max_pixels)
            can_seek = pts_range is not None and self._can_seek_before(pts_range[0])
            if pts_range is not None and can_seek:
                container.seek(_preroll_pts(pts_range[0], stream), stream=stream)
            frames = decode_checked(
                self.path, container, stream, on_damage, report, pts_range, make_decoder, is_from_start=not can_seek
            )
            yield from (
                frames
                if selection is None or pts_range is not None
                else islice(frames, selection.frame_numbers.start, selection.frame_numbers.stop)
            )

    def _can_seek_before(self, start_pts: int) -> bool:
        """Whether seeking lands at or before that frame; the index of some files is wrong."""
        with demux.open_media(self.path) as container:
            stream = demux.video_stream(container, self.path, self._max_pixels)
            with suppress(FFmpegError):
                container.seek(_preroll_pts(start_pts, stream), stream=stream)
                packet = next(container.demux(stream))
                return packet.is_keyframe and packet.pts is not None and packet.pts <= start_pts
        return False


@dataclass(frozen=True)
class _Selection:
    """The part of a file that a clip reads.

    pts_range: timestamps [first, end) of its frames; None where packets have no timestamps.
    """

    frame_numbers: range
    pts_range: tuple[int, float] | None

    @classmethod
    def of(cls, times: Timestamps, frame_numbers: range) -> _Selection:
        if not times.is_exact:
            return cls(frame_numbers, None)
        zero_pts = round(times.origin / times.time_base)
        end = times.starts[frame_numbers.stop] + zero_pts if frame_numbers.stop < len(times.starts) else inf
        return cls(frame_numbers, (times.starts[frame_numbers.start] + zero_pts, end))


def _preroll_pts(start_pts: int, stream: VideoStream) -> int:
    """Return where to start decoding for a frame.

    Streams with gradual refresh need several frames until the whole image is decoded.
    """
    return start_pts - round(PREROLL_SECONDS / (stream.time_base or Fraction(1)))


def _empty_batch(batch: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.empty((batch, *shape), np.float32)


def _check_truncation(container: InputContainer, stream: VideoStream, path: Path, on_damage: OnDamage) -> int:
    """Return how many frames lie beyond the end of a truncated MP4.

    FFmpeg would decode the rest without an error.
    """
    size = path.stat().st_size
    missing = sum(e.pos + e.size > size for e in stream.index_entries) if "mp4" in container.format.name else 0
    if missing:
        message = f"{path}: the file is truncated: {missing} of {stream.frames} frames lie beyond its {size:,} bytes"
        if on_damage is OnDamage.FAIL:
            raise ClipError(f"{message}; copy it again, or continue with what is there (--on-damage keep)")
        log.warning("%s", message)
    return missing


def _claimed_length(container: InputContainer, stream: VideoStream, fps: Fraction) -> int | None:
    stream_length = _video_stream_length(container, stream, fps)
    duration = container.duration  # microseconds, of the longest track
    return round(Fraction(duration, av.time_base) * fps) if stream_length is None and duration else stream_length


def _video_stream_length(container: InputContainer, stream: VideoStream, fps: Fraction) -> int | None:
    """Return how many frames the file claims for the video stream itself.

    None where only the duration of the whole file is known.
    """
    time_base = stream.time_base or Fraction(0)
    if stream.frames:
        # The edit list of an MP4 may skip frames.
        kept = sum(not e.is_discard for e in stream.index_entries) if "mp4" in container.format.name else 0
        return kept or stream.frames
    if stream.duration and time_base:
        return round(stream.duration * time_base * fps)
    # Of a Matroska track, counted from the start of the file.
    end = parse_duration(stream.metadata.get("DURATION", ""))
    return round((end - (stream.start_time or 0) * time_base) * fps) if end else None
