"""A video file as a stream of frames."""

from __future__ import annotations

import logging
import re
from collections.abc import Generator, Iterator
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
from . import demux
from .convert import to_gray, to_planes
from .corruption import CorruptionReport, OnDamage, decode_checked
from .stream_format import NativeFrames, StreamFormat, has_alpha
from .timestamps import TimeRange, Timestamps, frame_range, read_timestamps, trim_timestamps

log = logging.getLogger(__name__)

PREROLL_SECONDS = 10  # seconds before the first frame of a part, from which a file is read for it


class VideoClip:
    """A video file, read as a stream; the file is opened anew for each pass and never held in memory.

    Frames come upright, in RGB, or RGBA where the file has alpha. max_pixels: the largest width * height accepted.
    on_damage: what happens at frames that cannot be decoded as they were; with `OnDamage.KEEP` there are as many frames
    as the file has packets for, and `damage` says which of them are not what they should be. window: the clip is only
    that part of the file.
    Raises ClipError for what is no video, has no picture or no frames, is too large, breaks off, or changes its size.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        max_pixels: int = demux.MAX_PIXELS,
        on_damage: OnDamage = OnDamage.FAIL,
        window: TimeRange | None = None,
    ) -> None:
        self.path, self.window, self.damage = Path(path), window, CorruptionReport()
        self._max_pixels, self._on_damage = max_pixels, OnDamage(on_damage)
        with demux.open_media(self.path) as container:
            stream = demux.video_stream(container, self.path, max_pixels)
            missing = _check_truncation(container, stream, self.path, self._on_damage)
            # The first frame is decoded because some files tell only there which way up they are.
            first = next(decode_checked(self.path, container, stream, OnDamage.KEEP, CorruptionReport()), None)
            if first is None:
                raise ClipError(f"{self.path}: its video stream has no frames; export it again")
            self.stream_format = StreamFormat.of(stream, first)
            if first.interlaced_frame and window is None:
                log.warning(
                    "%s is interlaced: the two fields of a frame, which are moments apart, are worked on as one "
                    "picture; deinterlace it first, for instance with FFmpeg's filter bwdif", self.path
                )  # fmt: skip
            fps = stream.average_rate or stream.guessed_rate or Fraction(24)
            width, height = first.width, first.height
            if self.stream_format.orientation.transpose:
                width, height = height, width
            length = _claimed_length(container, stream, fps)
            self._selection: _Selection | None = None
            if window is not None:
                times = read_timestamps(self.path)
                trim_timestamps(times, window, self.path)  # raises where it is empty
                self._selection = _Selection.of(times, frame_range(times, window))
                length = len(self._selection.frame_numbers)
            self.info = ClipInfo(width, height, fps, length - missing if length and not window else length)

    def trim(self, window: TimeRange) -> VideoClip:
        """That part of the file, read with the same settings."""
        return VideoClip(self.path, max_pixels=self._max_pixels, on_damage=self._on_damage, window=window)

    def frames(self, batch: int = 1, first: int = 0) -> Iterator[Frames]:
        """Yield all frames in order, (<= batch, 3 or 4, H, W), float32 in [0, 1]. Starts anew at each call.

        first: number of the frame to begin with. Those before are decoded, for files are not to be trusted with where
        their frames lie, but nothing else is done for them.
        """
        import torch

        alpha, orientation = has_alpha(self.stream_format.pixel_format), self.stream_format.orientation
        shape = (4 if alpha else 3, self.info.height, self.info.width)
        reformatter = VideoReformatter()
        filled, done, number = _empty_batch(batch, shape), 0, -1
        with closing(self._decode()) as shown:
            for number, frame in enumerate(shown):
                if number < first:
                    continue
                planes = [orientation.apply(p) for p in to_planes(frame, reformatter, alpha=alpha)]
                self._check_size(number, planes[0].shape[::-1], (self.info.width, self.info.height))
                top = np.float32(255 if planes[0].dtype == np.uint8 else 65535)
                for channel, plane in enumerate(planes):
                    np.divide(plane, top, out=filled[done, channel], dtype=np.float32)
                done += 1
                if done == batch:
                    yield torch.from_numpy(filled)
                    filled, done = _empty_batch(batch, shape), 0
        if done:
            yield torch.from_numpy(filled[:done])
        self._warn_missing_frames(number + 1)

    def luma_frames(self, side: int) -> Iterator[NDArray[np.float32]]:
        """Yield all frames in order as brightness (1, 1, h, w) in [0, 1], float32, of the size `info.within(side)`."""
        small, orientation = self.info.fit_within(side), self.stream_format.orientation
        size = (small.height, small.width) if orientation.transpose else (small.width, small.height)
        reformatter = VideoReformatter()
        with closing(self._decode()) as shown:
            for frame in shown:
                grey = orientation.apply(to_gray(frame, reformatter, *size))
                yield np.divide(grey[..., 0], np.float32(255), dtype=np.float32)[None, None]

    def native_frames(self) -> Iterator[NativeFrames]:
        """Yield all frames in order, one at a time, as they are stored; see `stored`. Starts anew at each call."""
        reformatter = VideoReformatter()
        size, number = (self.info.width, self.info.height), -1
        if self.stream_format.orientation.transpose:
            size = size[::-1]
        with closing(self._decode()) as shown:
            for number, frame in enumerate(shown):
                self._check_size(number, (frame.width, frame.height), size)
                yield [reformatter.reformat(frame, format=self.stream_format.pixel_format)]
        self._warn_missing_frames(number + 1)

    def _check_size(self, number: int, size: tuple[int, ...], expected: tuple[int, ...]) -> None:
        if size != expected:
            raise ClipError(
                f"{self.path}: frame {number} is {size[0]}x{size[1]}, those before are {expected[0]}x{expected[1]}; "
                "cut the file where its size changes and process the parts"
            )

    def _warn_missing_frames(self, count: int) -> None:
        claimed = self.info.length or 0
        least = claimed * 0.98 - 1  # lengths in seconds are rounded, so a frame or two mean nothing
        if count < least and not self._has_longer_track(least):
            log.warning("%s: the file claims %d frames, %d could be read", self.path, claimed, count)

    def _has_longer_track(self, frame_count: float) -> bool:
        """Whether the length that the file claims may be that of a track beside the picture, which lasts as long."""
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
                if packet.pts is not None and packet.time_base is not None
            )

    def _decode(self) -> Generator[VideoFrame, None, None]:
        """The decoded frames of the clip, in order."""
        cut, span = self._selection, self._selection.pts_range if self._selection else None
        with demux.open_media(self.path) as container:
            stream = demux.video_stream(container, self.path, self._max_pixels)
            if span is not None and self._can_seek_before(span[0]):
                container.seek(_preroll_pts(span[0], stream), stream=stream)
            frames = decode_checked(self.path, container, stream, self._on_damage, self.damage, span)
            yield from (
                frames
                if cut is None or span is not None
                else islice(frames, cut.frame_numbers.start, cut.frame_numbers.stop)
            )

    def _can_seek_before(self, start_pts: int) -> bool:
        """Whether reading can begin within the file and still come to that frame: some indices are wrong."""
        with demux.open_media(self.path) as container:
            stream = demux.video_stream(container, self.path, self._max_pixels)
            with suppress(FFmpegError):
                container.seek(_preroll_pts(start_pts, stream), stream=stream)
                packet = next(container.demux(stream))
                return packet.is_keyframe and packet.pts is not None and packet.pts <= start_pts
        return False


@dataclass(frozen=True)
class _Selection:
    """A part of a file: the numbers of its frames there, and when they are shown, where their packets tell: from the
    first of these times on and before the second.
    """

    frame_numbers: range
    pts_range: tuple[int, float] | None

    @classmethod
    def of(cls, times: Timestamps, frame_numbers: range) -> _Selection:
        if not times.is_exact:
            return cls(frame_numbers, None)
        zero = round(times.origin / times.time_base)
        end = times.starts[frame_numbers.stop] + zero if frame_numbers.stop < len(times.starts) else inf
        return cls(frame_numbers, (times.starts[frame_numbers.start] + zero, end))


def _preroll_pts(start_pts: int, stream: VideoStream) -> int:
    """Where to begin to read for a frame: some streams need a run of frames until all of the picture is there."""
    return start_pts - round(PREROLL_SECONDS / (stream.time_base or Fraction(1)))


def _empty_batch(batch: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.empty((batch, *shape), np.float32)


def _check_truncation(container: InputContainer, stream: VideoStream, path: Path, on_damage: OnDamage) -> int:
    """How many frames lie beyond the end of an MP4 that is cut off: FFmpeg would show what is left without a word."""
    size = path.stat().st_size
    lost = sum(e.pos + e.size > size for e in stream.index_entries) if "mp4" in container.format.name else 0
    if lost:
        text = f"{path}: the file is cut off: {lost} of {stream.frames} frames lie beyond its {size:,} bytes"
        if on_damage is OnDamage.FAIL:
            raise ClipError(f"{text}; copy it again, or go on with what is there (--on-damage keep)")
        log.warning("%s", text)
    return lost


def _claimed_length(container: InputContainer, stream: VideoStream, fps: Fraction) -> int | None:
    own = _video_stream_length(container, stream, fps)
    whole = container.duration  # microseconds, of the longest track
    return round(Fraction(whole, av.time_base) * fps) if own is None and whole else own


def _video_stream_length(container: InputContainer, stream: VideoStream, fps: Fraction) -> int | None:
    """How many frames the file claims for the picture itself; None where it only tells how long all of it lasts."""
    base = stream.time_base or Fraction(0)
    if stream.frames:
        # An edit list leaves some of an MP4 out.
        shown = sum(not e.is_discard for e in stream.index_entries) if "mp4" in container.format.name else 0
        return shown or stream.frames
    if stream.duration and base:
        return round(stream.duration * base * fps)
    end = _parse_duration(
        stream.metadata.get("DURATION", "")
    )  # of a Matroska track, counted from the start of the file
    return round((end - (stream.start_time or 0) * base) * fps) if end else None


def _parse_duration(text: str) -> Fraction | None:
    """hh:mm:ss.fraction -> seconds."""
    found = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", text)
    return 3600 * int(found[1]) + 60 * int(found[2]) + Fraction(found[3]) if found else None
