"""Decode a range of frames from the key frame before it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from ...clip import ClipError
from .corruption import decode_checked
from .corruption_report import CorruptionReport, OnDamage
from .packets import demux
from .timestamps import Timestamps

_KEY_TYPES = (PictureType.I, PictureType.NONE)  # a P-frame starts a gradual refresh; some decoders report no type
_STEPS_BACK = (0, 0.5, 1, 2, 4, 8, 16)  # seconds before the frame at which a key frame is looked for


class SeekError(ClipError):
    """A range cannot be decoded exactly after a seek."""


@dataclass(frozen=True)
class SeekPoint:
    """Where to seek to, and the timestamp of the key frame that decoding starts with."""

    pts: int
    key_pts: int


def decode_range(
    path: Path,
    times: Timestamps,
    frames: range,
    max_pixels: int,
    make_decoder: Callable[[VideoStream], demux.Decoder] = demux.software_decoder,
) -> Generator[VideoFrame, None, None]:
    """Yield these frames of a video, decoding from the key frame before them.

    No packet is decoded after the last one that these frames need.
    times: timestamps of the clip whose frames are numbered. Each frame is recognized by its timestamp.
    Raises SeekError, before or after some frames, where timestamps are not unique, the file has no index, the key frame
    needs frames before it, or anything is damaged: decoding from the start then decides what the frames are.
    """
    if not times.is_exact:
        raise SeekError("its timestamps do not tell its frames apart")
    zero_pts = round(times.origin / times.time_base)
    wanted = [times.starts[number] + zero_pts for number in frames]
    point = find_seek_point(path, wanted[0], max_pixels)
    expected = iter(wanted)
    with demux.open_media(path) as container:
        stream = demux.video_stream(container, path, max_pixels)
        container.seek(point.pts, stream=stream)
        decoded = decode_checked(
            path,
            container,
            stream,
            OnDamage.FAIL,
            CorruptionReport(),
            (point.key_pts, wanted[-1] + 1),
            make_decoder,
            is_from_start=False,
            wanted=WantedPackets(point.key_pts, frozenset(wanted)),
        )
        is_first = True
        with closing(decoded):
            for frame in _without_damage(decoded):
                if is_first and (frame.pts != point.key_pts or frame.pict_type not in _KEY_TYPES):
                    raise SeekError("the key frame before it cannot be decoded alone")
                is_first = False
                if frame.pts is not None and frame.pts < wanted[0]:
                    continue
                if frame.pts != next(expected, None):
                    raise SeekError("other frames than expected follow the key frame before it")
                yield frame
    if next(expected, None) is not None:
        raise SeekError("fewer frames than expected follow the key frame before it")


def _without_damage(frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    """Yield the frames; where one is damaged, raise SeekError.

    Its number in the message would be counted from the key frame.
    """
    try:
        yield from frames
    except ClipError as e:
        raise SeekError("not all frames after the key frame before it can be decoded alone") from e


def find_seek_point(path: Path, pts: int, max_pixels: int) -> SeekPoint:
    """Find a key frame at or before a timestamp.

    Raises SeekError where seeking finds none.
    """
    with demux.open_media(path) as container:
        stream = demux.video_stream(container, path, max_pixels)
        for seconds in _STEPS_BACK:
            target = pts - round(seconds / (stream.time_base or 1))
            with suppress(FFmpegError):
                container.seek(target, stream=stream)
                for packet in container.demux(stream):
                    if packet.pts is not None and packet.is_keyframe and packet.pts <= pts:
                        return SeekPoint(target, packet.pts)
                    if packet.pts is None or packet.pts > pts:
                        break
    raise SeekError("its container finds no key frame before it")


class WantedPackets:
    """Tells which packets a range of frames needs.

    From a key frame on, until those of all frames of the range have come.
    """

    def __init__(self, key_pts: int, pts: frozenset[int]) -> None:
        self._key_pts, self._left, self._has_key = key_pts, {*pts}, False

    def is_leading(self, packet: Packet[Any], number: int) -> bool:
        """Whether a packet precedes the key frame, in the file or on the screen."""
        self._has_key = self._has_key or (packet.is_keyframe and packet.pts == self._key_pts)
        if not packet.size:
            return False
        return not self._has_key or (packet.pts is not None and packet.pts < self._key_pts)

    def is_last(self, packet: Packet[Any]) -> bool:
        """Whether no packet after this one is needed."""
        self._left.discard(-1 if packet.pts is None else packet.pts)
        return not self._left
