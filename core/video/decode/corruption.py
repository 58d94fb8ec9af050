"""Frames that a file holds and a decoder cannot show as they were: found, counted, and stopped at or lived with.

What a decoder says of damage is not all that can be seen: frames up to the next key frame are built on a damaged one,
and VP8 and VP9 have no means to know that a picture is wrong. What is counted here is what is known.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from heapq import heappop, heappush
from itertools import groupby
from math import inf
from pathlib import Path
from typing import cast

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ...clip import ClipError
from . import demux

log = logging.getLogger(__name__)

MOST_REPEATS = 300  # frames in a row that may be missing: beyond this the file, or the memory for it, is at an end
_SILENT = ("hevc",)  # decoders that hide damage and do not say so, unless they are told to stop there


class OnDamage(str, Enum):
    """What happens where a frame is damaged. FAIL: reading stops, with an error. KEEP: it goes on with what the decoder
    makes of the frame, or with the frame before it once more where it makes nothing, so that no frame is missing.
    """

    FAIL = "fail"
    KEEP = "keep"


@dataclass
class Damage:
    """What a clip has been found to lack, by the numbers of its frames; each pass over the clip finds the same.

    concealed: frames of which the decoder made up a part. repeated: frames that could not be decoded, in whose place
    the one before stands (the one after, at the begin). Both give the moment, in seconds.
    """

    concealed: dict[int, float] = field(default_factory=dict)
    repeated: dict[int, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len({*self.concealed, *self.repeated})

    def table(self, frames: range | None = None) -> list[dict[str, int | float | str]]:
        """Runs of damaged frames: first, last, seconds (of the first) and kind. frames: only of these numbers."""
        rows: list[dict[str, int | float | str]] = []
        for kind in ("concealed", "repeated"):
            numbers = sorted(n for n in getattr(self, kind) if frames is None or n in frames)
            for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
                run = [number for _, number in run]
                seconds = round(getattr(self, kind)[run[0]], 3)
                rows.append({"first": run[0], "last": run[-1], "seconds": seconds, "kind": kind})
        return sorted(rows, key=lambda row: row["first"])

    def add(self, table: list[dict]) -> None:
        """Take in what another run has found, as `table` gives it."""
        for row in table:
            for number in range(row["first"], row["last"] + 1):
                getattr(self, row["kind"]).setdefault(number, row["seconds"])

    def __str__(self) -> str:
        """Such as '3 damaged frames: 30-31 concealed (1.250 s), 40 repeated (1.667 s)'."""
        table = self.table()
        spans = [
            f"{row['first']}{'' if row['first'] == row['last'] else '-' + str(row['last'])} {row['kind']} "
            f"({row['seconds']:.3f} s)"
            for row in table[:SHOWN]
        ]
        more = f" and {len(table) - SHOWN} more" if len(table) > SHOWN else ""
        return f"{len(self)} damaged frame{'' if len(self) == 1 else 's'}: {', '.join(spans)}{more}"


SHOWN = 8  # runs of frames that a line names


def whole(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    policy: OnDamage,
    damage: Damage,
    span: tuple[int, float] | None = None,
) -> Iterator[VideoFrame]:
    """All frames of the stream in the order of display, as many as its packets tell of.

    policy: whether damage is an error, or is entered in `damage` by the numbers of the frames that come from here.
    span: only frames that are shown from the first of these times on and before the second, in the stream's units;
    reading may begin before it. Raises ClipError.
    """
    known, watch = len(damage), _Watch(path, stream, policy, damage, span)
    with suppress(FFmpegError):  # the container goes on no more, and has been asked often enough
        for frame in demux.decoded(container, stream, watch):
            yield from watch.placed(frame)
            if watch.is_past(frame):
                break
    yield from watch.rest()
    if len(damage) > known:
        log.warning("%s: %s", path, damage)


class _Watch:
    """Knows which frames are due, and which of them come."""

    def __init__(
        self, path: Path, stream: VideoStream, policy: OnDamage, damage: Damage, span: tuple[int, float] | None
    ) -> None:
        self._path, self._policy, self._damage, self._span = path, policy, damage, span
        self._base = stream.time_base or Fraction(1)
        self._due: list[int] = []  # when frames are to be shown whose packets were read, the next one first
        self._told = True  # whether packets tell when their frames are shown
        self._troubled = False
        self._broken: set[int] = set()
        self._last: VideoFrame | None = None
        self._until = -inf  # the time of the last frame that was given
        self._number, self._repeats = 0, 0
        self._listener = None
        if stream.codec_context.codec.name in _SILENT:
            if policy is OnDamage.FAIL:
                stream.codec_context.options = {**stream.codec_context.options, "err_detect": "explode"}
                stream.codec_context.thread_type = "SLICE"  # threads for whole frames lose the error of one
            else:
                self._listener = _strict(stream)

    def sees(self, packet: Packet) -> None:
        accepted = self._listener is None or _accepts(self._listener, packet)
        if not packet.size or packet.is_discard:
            return
        if packet.pts is None:
            self._told = False
        elif self._is_wanted(packet.pts):
            heappush(self._due, packet.pts)
            if packet.is_corrupt or not accepted:
                self._broken.add(packet.pts)
                self._troubled = True

    def refused(self, error: FFmpegError) -> None:
        if self._policy is OnDamage.FAIL:
            last = self._last.pts if self._last else None
            raise ClipError(
                f"{self._path}: near {self._at(last)} the file cannot be decoded ({demux.reason(error)}); {_WAYS_OUT}"
            ) from error
        self._troubled = True

    def placed(self, frame: VideoFrame) -> Iterator[VideoFrame]:
        """The frame, after those that were due before it and did not come."""
        if self._told and frame.pts is not None:
            if self._troubled and frame.pts <= self._until:
                return  # What was refused has mixed up the order, and another frame stands in its place already.
            yield from self._missing_before(frame)
            self._until = frame.pts
        if frame.pts is not None and not self._is_wanted(frame.pts):
            return
        if frame.is_corrupt or frame.pts in self._broken:
            if self._policy is OnDamage.FAIL:
                raise ClipError(f"{self._path}: {self._at(frame.pts)} is damaged; {_WAYS_OUT}")
            self._damage.concealed[self._number] = self._seconds(frame.pts)
        self._last = frame
        self._number, self._repeats = self._number + 1, 0
        yield frame

    def rest(self) -> Iterator[VideoFrame]:
        """Those that did not come until the end."""
        while self._told and self._troubled and self._last is not None and self._due:
            lost = heappop(self._due)
            if self._policy is OnDamage.FAIL:
                raise ClipError(f"{self._path}: {self._at(lost)} cannot be decoded; {_WAYS_OUT}")
            yield self._once_more(self._last, lost)

    def is_past(self, frame: VideoFrame) -> bool:
        return self._span is not None and frame.pts is not None and frame.pts >= self._span[1]

    def _missing_before(self, frame: VideoFrame) -> Iterator[VideoFrame]:
        pts = cast(int, frame.pts)
        while self._due and self._due[0] < pts:
            lost = heappop(self._due)
            # Two packets may make one frame; but a file that begins within a group of frames cannot show all of it.
            if not self._troubled and self._last is not None:
                continue
            if self._policy is OnDamage.FAIL:
                raise ClipError(f"{self._path}: {self._at(lost)} cannot be decoded; {_WAYS_OUT}")
            yield self._once_more(self._last or frame, lost)
        if self._due and self._due[0] == pts:
            heappop(self._due)

    def _once_more(self, frame: VideoFrame, pts: int) -> VideoFrame:
        self._damage.repeated[self._number] = self._seconds(pts)
        self._number, self._repeats = self._number + 1, self._repeats + 1
        if self._repeats > MOST_REPEATS:
            raise ClipError(
                f"{self._path}: {MOST_REPEATS} frames in a row cannot be decoded before {self._at(pts)}; cut the file "
                "there, or repair it"
            )
        return frame

    def _is_wanted(self, pts: int) -> bool:
        return self._span is None or self._span[0] <= pts < self._span[1]

    def _at(self, pts: int | None) -> str:
        return f"frame {self._number} ({self._seconds(pts):.3f} s)"

    def _seconds(self, pts: int | None) -> float:
        return float((pts or 0) * self._base)


_WAYS_OUT = "copy or repair the file, or go on with what can be read of it (--on-damage keep)"


def _strict(stream: VideoStream) -> VideoCodecContext:
    """A second decoder of the stream that stops where the first one makes something up. One packet at a time, so that
    it says of which.
    """
    decoder = cast(VideoCodecContext, av.CodecContext.create(stream.codec_context.codec.name, "r"))
    decoder.extradata = stream.codec_context.extradata
    decoder.options = {**stream.codec_context.options, "err_detect": "explode"}
    decoder.thread_type = "SLICE"
    return decoder


def _accepts(decoder: VideoCodecContext, packet: Packet) -> bool:
    try:
        decoder.decode(packet)
    except FFmpegError:
        return False
    return True
