"""A video file as a stream of frames. Writing one is next door, in encode.py; both are imported from here."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from torch import Tensor

from . import media
from .clip import ClipError, ClipInfo, Frames
from .codecs import CODECS, CONTAINERS, Encoding
from .encode import write_video
from .pixels import to_grey, to_planes
from .stored import Stored, has_alpha

__all__ = ["CODECS", "CONTAINERS", "Encoding", "VideoClip", "write_video"]

log = logging.getLogger(__name__)


class VideoClip:
    """A video file, read as a stream; the file is opened anew for each pass and never held in memory.

    Frames come upright, in RGB, or RGBA where the file has alpha. max_pixels: the largest width * height accepted.
    Raises ClipError for what is no video, has no picture or no frames, is too large, breaks off, or changes its size.
    """

    def __init__(self, path: str | Path, *, max_pixels: int = media.MAX_PIXELS) -> None:
        self.path = Path(path)
        self._max_pixels = max_pixels
        with media.opened(self.path) as container:
            stream = media.video_stream(container, self.path, max_pixels)
            _check_whole(container, stream, self.path)
            # The first frame is decoded because some files tell only there which way up they are.
            first = next(self._decoded(container, stream), None)
            if first is None:
                raise ClipError(f"{self.path}: its video stream has no frames; export it again")
            self.stored = Stored.of(stream, first)
            fps = stream.average_rate or stream.guessed_rate or Fraction(24)
            width, height = first.width, first.height
            if self.stored.orientation.transpose:
                width, height = height, width
            self.info = ClipInfo(width, height, fps, _claimed_length(container, stream, fps))

    def frames(self, batch: int = 1, first: int = 0) -> Iterator[Frames]:
        """Yield all frames in order, (<= batch, 3 or 4, H, W), float32 in [0, 1]. Starts anew at each call.

        first: number of the frame to begin with. Those before are decoded, for files are not to be trusted with where
        their frames lie, but nothing else is done for them.
        """
        alpha, orientation = has_alpha(self.stored.pixel_format), self.stored.orientation
        shape = (4 if alpha else 3, self.info.height, self.info.width)
        reformatter = VideoReformatter()
        with media.opened(self.path) as container:
            stream = media.video_stream(container, self.path, self._max_pixels)
            filled, done, number = _empty(batch, shape), 0, -1
            for number, frame in enumerate(self._decoded(container, stream)):
                if number < first:
                    continue
                planes = [orientation.upright(p) for p in to_planes(frame, reformatter, alpha=alpha)]
                high, wide = planes[0].shape
                if (high, wide) != shape[1:]:
                    raise ClipError(
                        f"{self.path}: frame {number} is {wide}x{high}, those before are "
                        f"{shape[2]}x{shape[1]}; cut the file where its size changes and process the parts"
                    )
                top = np.float32(255 if planes[0].dtype == np.uint8 else 65535)
                for channel, plane in enumerate(planes):
                    np.divide(plane, top, out=filled[done, channel], dtype=np.float32)
                done += 1
                if done == batch:
                    yield torch.from_numpy(filled)
                    filled, done = _empty(batch, shape), 0
            if done:
                yield torch.from_numpy(filled[:done])
        claimed = self.info.length or 0
        if number + 1 < claimed * 0.98 - 1:  # lengths in seconds are rounded, so a frame or two mean nothing
            log.warning("%s: the file claims %d frames, %d could be read", self.path, claimed, number + 1)

    def greys(self, side: int) -> Iterator[Tensor]:
        """Yield all frames in order as brightness (1, 1, h, w) in [0, 1], float32, of the size `info.within(side)`."""
        small, orientation = self.info.within(side), self.stored.orientation
        size = (small.height, small.width) if orientation.transpose else (small.width, small.height)
        reformatter = VideoReformatter()
        with media.opened(self.path) as container:
            stream = media.video_stream(container, self.path, self._max_pixels)
            for frame in self._decoded(container, stream):
                grey = orientation.upright(to_grey(frame, reformatter, *size))
                yield torch.from_numpy(grey[..., 0].astype(np.float32) / 255)[None, None]

    def _decoded(self, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
        """Decoded frames; what FFmpeg raises becomes a ClipError, what it only marks as damaged is logged."""
        number, damaged = 0, 0
        try:
            for frame in media.decoded(container, stream):
                damaged += frame.is_corrupt
                number += 1
                yield frame
        except FFmpegError as e:
            raise ClipError(
                f"{self.path}: reading stopped after {number} frames ({media.reason(e)}); "
                "the file is cut off or damaged, copy or repair it"
            ) from e
        if damaged:
            log.warning("%s: %d of %d frames are damaged", self.path, damaged, number)


def _empty(batch: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.empty((batch, *shape), np.float32)


def _check_whole(container: InputContainer, stream: VideoStream, path: Path) -> None:
    """Refuse an MP4 whose index points beyond its end: FFmpeg would show what is left without a word."""
    size = path.stat().st_size
    lost = sum(e.pos + e.size > size for e in stream.index_entries) if "mp4" in container.format.name else 0
    if lost:
        raise ClipError(
            f"{path}: the file is cut off: {lost} of {stream.frames} frames lie beyond its {size:,} bytes; "
            "copy it again"
        )


def _claimed_length(container: InputContainer, stream: VideoStream, fps: Fraction) -> int | None:
    if stream.frames:
        return stream.frames
    if stream.duration and stream.time_base:
        return round(stream.duration * stream.time_base * fps)
    whole = container.duration  # microseconds, of the longest track
    return round(Fraction(whole, av.time_base) * fps) if whole else None
