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

MAX_CONSECUTIVE_REPEATS = (
    300  # frames in a row that may be missing: beyond this the file, or the memory for it, is at an end
)
_SILENT_DECODERS = ("hevc",)  # decoders that hide damage and do not say so, unless they are told to stop there


class OnDamage(str, Enum):
    """What happens where a frame is damaged. FAIL: reading stops, with an error. KEEP: it goes on with what the decoder
    makes of the frame, or with the frame before it once more where it makes nothing, so that no frame is missing.
    """

    FAIL = "fail"
    KEEP = "keep"


@dataclass
class CorruptionReport:
    """What a clip has been found to lack, by the numbers of its frames; each pass over the clip finds the same.

    concealed: frames of which the decoder made up a part. repeated: frames that could not be decoded, in whose place
    the one before stands (the one after, at the begin). Both give the moment, in seconds.
    """

    concealed: dict[int, float] = field(default_factory=dict)
    repeated: dict[int, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len({*self.concealed, *self.repeated})

    def to_table(self, frames: range | None = None) -> list[dict[str, int | float | str]]:
        """Runs of damaged frames: first, last, seconds (of the first) and kind. frames: only of these numbers."""
        rows: list[dict[str, int | float | str]] = []
        for kind in ("concealed", "repeated"):
            numbers = sorted(n for n in getattr(self, kind) if frames is None or n in frames)
            for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
                run = [number for _, number in run]
                seconds = round(getattr(self, kind)[run[0]], 3)
                rows.append({"first": run[0], "last": run[-1], "seconds": seconds, "kind": kind})
        return sorted(rows, key=lambda row: row["first"])

    def merge(self, table: list[dict]) -> None:
        """Take in what another run has found, as `table` gives it."""
        for row in table:
            for number in range(row["first"], row["last"] + 1):
                getattr(self, row["kind"]).setdefault(number, row["seconds"])

    def __str__(self) -> str:
        """Such as '3 damaged frames: 30-31 concealed (1.250 s), 40 repeated (1.667 s)'."""
        table = self.to_table()
        spans = [
            f"{row['first']}{'' if row['first'] == row['last'] else '-' + str(row['last'])} {row['kind']} "
            f"({row['seconds']:.3f} s)"
            for row in table[:MAX_LISTED_RUNS]
        ]
        more = f" and {len(table) - MAX_LISTED_RUNS} more" if len(table) > MAX_LISTED_RUNS else ""
        return f"{len(self)} damaged frame{'' if len(self) == 1 else 's'}: {', '.join(spans)}{more}"


MAX_LISTED_RUNS = 8  # runs of frames that a line names


def decode_checked(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    policy: OnDamage,
    report: CorruptionReport,
    pts_range: tuple[int, float] | None = None,
) -> Iterator[VideoFrame]:
    """All frames of the stream in the order of display, as many as its packets tell of.

    policy: whether damage is an error, or is entered in `damage` by the numbers of the frames that come from here.
    span: only frames that are shown from the first of these times on and before the second, in the stream's units;
    reading may begin before it. Raises ClipError.
    """
    known, watch = len(report), _CorruptionTracker(path, stream, policy, report, pts_range)
    with suppress(FFmpegError):  # the container goes on no more, and has been asked often enough
        for frame in demux.decode_frames(container, stream, watch):
            yield from watch.emit(frame)
            if watch.is_past_end(frame):
                break
    yield from watch.flush()
    if len(report) > known:
        log.warning("%s: %s", path, report)


class _CorruptionTracker:
    """Knows which frames are due, and which of them come."""

    def __init__(
        self,
        path: Path,
        stream: VideoStream,
        policy: OnDamage,
        report: CorruptionReport,
        pts_range: tuple[int, float] | None,
    ) -> None:
        self._path, self._policy, self._report, self._pts_range = path, policy, report, pts_range
        self._time_base = stream.time_base or Fraction(1)
        self._pending_pts: list[int] = []  # when frames are to be shown whose packets were read, the next one first
        self._has_pts = True  # whether packets tell when their frames are shown
        self._had_errors = False
        self._corrupt_pts: set[int] = set()
        self._last_frame: VideoFrame | None = None
        self._last_pts = -inf  # the time of the last frame that was given
        self._frame_number, self._repeats = 0, 0
        self._strict_decoder = None
        if stream.codec_context.codec.name in _SILENT_DECODERS:
            if policy is OnDamage.FAIL:
                stream.codec_context.options = {**stream.codec_context.options, "err_detect": "explode"}
                stream.codec_context.thread_type = "SLICE"  # threads for whole frames lose the error of one
            else:
                self._strict_decoder = _make_strict_decoder(stream)

    def on_packet(self, packet: Packet) -> None:
        accepted = self._strict_decoder is None or _can_decode(self._strict_decoder, packet)
        if not packet.size or packet.is_discard:
            return
        if packet.pts is None:
            self._has_pts = False
        elif self._is_in_range(packet.pts):
            heappush(self._pending_pts, packet.pts)
            if packet.is_corrupt or not accepted:
                self._corrupt_pts.add(packet.pts)
                self._had_errors = True

    def on_error(self, error: FFmpegError) -> None:
        if self._policy is OnDamage.FAIL:
            last = self._last_frame.pts if self._last_frame else None
            raise ClipError(
                f"{self._path}: near {self._describe_position(last)} the file cannot be decoded "
                f"({demux.error_message(error)}); {_REMEDY}"
            ) from error
        self._had_errors = True

    def emit(self, frame: VideoFrame) -> Iterator[VideoFrame]:
        """The frame, after those that were due before it and did not come."""
        if self._has_pts and frame.pts is not None:
            if self._had_errors and frame.pts <= self._last_pts:
                return  # What was refused has mixed up the order, and another frame stands in its place already.
            yield from self._fill_missing(frame)
            self._last_pts = frame.pts
        if frame.pts is not None and not self._is_in_range(frame.pts):
            return
        if frame.is_corrupt or frame.pts in self._corrupt_pts:
            if self._policy is OnDamage.FAIL:
                raise ClipError(f"{self._path}: {self._describe_position(frame.pts)} is damaged; {_REMEDY}")
            self._report.concealed[self._frame_number] = self._to_seconds(frame.pts)
        self._last_frame = frame
        self._frame_number, self._repeats = self._frame_number + 1, 0
        yield frame

    def flush(self) -> Iterator[VideoFrame]:
        """Those that did not come until the end."""
        while self._has_pts and self._had_errors and self._last_frame is not None and self._pending_pts:
            lost = heappop(self._pending_pts)
            if self._policy is OnDamage.FAIL:
                raise ClipError(f"{self._path}: {self._describe_position(lost)} cannot be decoded; {_REMEDY}")
            yield self._repeat_frame(self._last_frame, lost)

    def is_past_end(self, frame: VideoFrame) -> bool:
        return self._pts_range is not None and frame.pts is not None and frame.pts >= self._pts_range[1]

    def _fill_missing(self, frame: VideoFrame) -> Iterator[VideoFrame]:
        pts = cast(int, frame.pts)
        while self._pending_pts and self._pending_pts[0] < pts:
            lost = heappop(self._pending_pts)
            # Two packets may make one frame; but a file that begins within a group of frames cannot show all of it.
            if not self._had_errors and self._last_frame is not None:
                continue
            if self._policy is OnDamage.FAIL:
                raise ClipError(f"{self._path}: {self._describe_position(lost)} cannot be decoded; {_REMEDY}")
            yield self._repeat_frame(self._last_frame or frame, lost)
        if self._pending_pts and self._pending_pts[0] == pts:
            heappop(self._pending_pts)

    def _repeat_frame(self, frame: VideoFrame, pts: int) -> VideoFrame:
        self._report.repeated[self._frame_number] = self._to_seconds(pts)
        self._frame_number, self._repeats = self._frame_number + 1, self._repeats + 1
        if self._repeats > MAX_CONSECUTIVE_REPEATS:
            raise ClipError(
                f"{self._path}: {MAX_CONSECUTIVE_REPEATS} frames in a row cannot be decoded before "
                f"{self._describe_position(pts)}; cut the file "
                "there, or repair it"
            )
        return frame

    def _is_in_range(self, pts: int) -> bool:
        return self._pts_range is None or self._pts_range[0] <= pts < self._pts_range[1]

    def _describe_position(self, pts: int | None) -> str:
        return f"frame {self._frame_number} ({self._to_seconds(pts):.3f} s)"

    def _to_seconds(self, pts: int | None) -> float:
        return float((pts or 0) * self._time_base)


_REMEDY = "copy or repair the file, or go on with what can be read of it (--on-damage keep)"


def _make_strict_decoder(stream: VideoStream) -> VideoCodecContext:
    """A second decoder of the stream that stops where the first one makes something up. One packet at a time, so that
    it says of which.
    """
    decoder = cast(VideoCodecContext, av.CodecContext.create(stream.codec_context.codec.name, "r"))
    decoder.extradata = stream.codec_context.extradata
    decoder.options = {**stream.codec_context.options, "err_detect": "explode"}
    decoder.thread_type = "SLICE"
    return decoder


def _can_decode(decoder: VideoCodecContext, packet: Packet) -> bool:
    try:
        decoder.decode(packet)
    except FFmpegError:
        return False
    return True
