"""Detect corrupt frames while decoding, and fail or conceal them.

A decoder reports only part of the damage: frames up to the next key frame are predicted from a corrupt one, and VP8 and
VP9 cannot detect that a frame is wrong. The report lists what is known.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from heapq import heappop, heappush
from itertools import groupby
from math import inf
from pathlib import Path
from typing import Any, TypedDict, cast

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ...clip import ClipError
from ...runtime.deprecation import deprecated_property
from . import demux

log = logging.getLogger(__name__)

MAX_CONSECUTIVE_REPEATS = 300  # consecutive frames that may be missing before the file counts as unreadable
_SILENT_DECODERS = ("hevc",)  # conceal errors without reporting them, unless err_detect is set to explode


class OnDamage(str, Enum):
    """What to do with corrupt frames.

    FAIL: raise an error. KEEP: return what the decoder makes of the frame or, where that is nothing, the frame before
    it again, so that the number of frames stays right.
    """

    FAIL = "fail"
    KEEP = "keep"


class CorruptRun(TypedDict):
    """A run of corrupt frames, as it is stored in job.json."""

    first: int
    last: int
    seconds: float  # of the first frame
    kind: str  # "concealed" or "repeated"


@dataclass
class CorruptionReport:
    """The corrupt frames of a clip, by frame number.

    concealed: frames that the decoder repaired in part. repeated: frames that could not be decoded and were replaced by
    the frame before (at the start, by the one after). Both map the frame number to its time in seconds. Each pass over
    the clip finds the same frames.
    """

    concealed: dict[int, float] = field(default_factory=dict[int, float])
    repeated: dict[int, float] = field(default_factory=dict[int, float])

    def __len__(self) -> int:
        return len({*self.concealed, *self.repeated})

    table = deprecated_property("table", "to_table")
    add = deprecated_property("add", "merge")

    def to_table(self, frames: range | None = None) -> list[CorruptRun]:
        """Return runs of corrupt frames: first, last, seconds (of the first) and kind.

        frames: report only these numbers.
        """
        rows: list[CorruptRun] = []
        for kind in ("concealed", "repeated"):
            numbers = sorted(n for n in getattr(self, kind) if frames is None or n in frames)
            for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
                run = [number for _, number in run]
                seconds = round(getattr(self, kind)[run[0]], 3)
                rows.append({"first": run[0], "last": run[-1], "seconds": seconds, "kind": kind})
        return sorted(rows, key=lambda row: row["first"])

    def merge(self, table: Iterable[CorruptRun]) -> None:
        """Add the rows that `to_table` returned in another run."""
        for row in table:
            for number in range(row["first"], row["last"] + 1):
                getattr(self, row["kind"]).setdefault(number, row["seconds"])

    def __str__(self) -> str:
        """Summarize in one line.

        For example '3 damaged frames: 30-31 concealed (1.250 s), 40 repeated (1.667 s)'.
        """
        table = self.to_table()
        spans = [
            f"{row['first']}{'' if row['first'] == row['last'] else '-' + str(row['last'])} {row['kind']} "
            f"({row['seconds']:.3f} s)"
            for row in table[:MAX_LISTED_RUNS]
        ]
        more = f" and {len(table) - MAX_LISTED_RUNS} more" if len(table) > MAX_LISTED_RUNS else ""
        return f"{len(self)} damaged frame{'' if len(self) == 1 else 's'}: {', '.join(spans)}{more}"


MAX_LISTED_RUNS = 8  # runs of frames that a summary lists


def decode_checked(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    policy: OnDamage,
    report: CorruptionReport,
    pts_range: tuple[int, float] | None = None,
    make_decoder: Callable[[VideoStream], demux.Decoder] = demux.software_decoder,
) -> Iterator[VideoFrame]:
    """Yield all frames of the stream in presentation order, one for each packet.

    policy: whether corruption is an error or is added to `report`, under the number of the yielded frame.
    pts_range: yield only frames whose timestamp is in [first, end), in the stream's time base; reading may start
    earlier. make_decoder: as for `demux.decode_frames`.
    Raises ClipError.
    """
    known, tracker = len(report), _CorruptionTracker(path, stream, policy, report, pts_range)
    with suppress(FFmpegError):  # the demuxer failed MAX_CONSECUTIVE_ERRORS times: the file ends here
        for frame in demux.decode_frames(container, stream, tracker, make_decoder):
            yield from tracker.emit(frame)
            if tracker.is_past_end(frame):
                break
    yield from tracker.flush()
    if len(report) > known:
        log.warning("%s: %s", path, report)


class _CorruptionTracker:
    """Find missing frames by comparing the timestamps of packets and frames."""

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
        self._pending_pts: list[int] = []  # heap of timestamps of packets that were read and not yet decoded
        self._has_pts = True  # whether all packets have a timestamp
        self._had_errors = False
        self._corrupt_pts: set[int] = set()
        self._last_frame: VideoFrame | None = None
        self._last_pts = -inf  # timestamp of the last frame that was emitted
        self._frame_number, self._repeats = 0, 0
        self._strict_decoder = None
        if stream.codec_context.codec.name in _SILENT_DECODERS:
            if policy is OnDamage.FAIL:
                stream.codec_context.options = {**stream.codec_context.options, "err_detect": "explode"}
                stream.codec_context.thread_type = "SLICE"  # frame threads lose the error of a single frame
            else:
                self._strict_decoder = _make_strict_decoder(stream)

    def on_packet(self, packet: Packet[Any]) -> None:
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
        """Yield the frame, after replacements for missing frames before it."""
        if self._has_pts and frame.pts is not None:
            if self._had_errors and frame.pts <= self._last_pts:
                return  # A decoding error disturbed the order: a replacement was already emitted for this frame.
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
        """Yield replacements for frames that are missing at the end."""
        while self._has_pts and self._had_errors and self._last_frame is not None and self._pending_pts:
            missing_pts = heappop(self._pending_pts)
            if self._policy is OnDamage.FAIL:
                raise ClipError(f"{self._path}: {self._describe_position(missing_pts)} cannot be decoded; {_REMEDY}")
            yield self._repeat_frame(self._last_frame, missing_pts)

    def is_past_end(self, frame: VideoFrame) -> bool:
        return self._pts_range is not None and frame.pts is not None and frame.pts >= self._pts_range[1]

    def _fill_missing(self, frame: VideoFrame) -> Iterator[VideoFrame]:
        pts = cast(int, frame.pts)
        while self._pending_pts and self._pending_pts[0] < pts:
            missing_pts = heappop(self._pending_pts)
            # Two packets may form one frame. A file that starts within a GOP, however, lacks its first frames.
            if not self._had_errors and self._last_frame is not None:
                continue
            if self._policy is OnDamage.FAIL:
                raise ClipError(f"{self._path}: {self._describe_position(missing_pts)} cannot be decoded; {_REMEDY}")
            yield self._repeat_frame(self._last_frame or frame, missing_pts)
        if self._pending_pts and self._pending_pts[0] == pts:
            heappop(self._pending_pts)

    def _repeat_frame(self, frame: VideoFrame, pts: int) -> VideoFrame:
        self._report.repeated[self._frame_number] = self._to_seconds(pts)
        self._frame_number, self._repeats = self._frame_number + 1, self._repeats + 1
        if self._repeats > MAX_CONSECUTIVE_REPEATS:
            raise ClipError(
                f"{self._path}: {MAX_CONSECUTIVE_REPEATS} frames in a row cannot be decoded before "
                f"{self._describe_position(pts)}; cut or repair the file there"
            )
        return frame

    def _is_in_range(self, pts: int) -> bool:
        return self._pts_range is None or self._pts_range[0] <= pts < self._pts_range[1]

    def _describe_position(self, pts: int | None) -> str:
        return f"frame {self._frame_number} ({self._to_seconds(pts):.3f} s)"

    def _to_seconds(self, pts: int | None) -> float:
        return float((pts or 0) * self._time_base)


_REMEDY = "copy or repair the file, or continue with what can be read (--on-damage keep)"


def _make_strict_decoder(stream: VideoStream) -> VideoCodecContext:
    """Return a second decoder, which raises an error where the first one conceals it.

    It takes one packet at a time, so that the error can be assigned to a packet.
    """
    decoder = cast(VideoCodecContext, av.CodecContext.create(stream.codec_context.codec.name, "r"))
    decoder.extradata = stream.codec_context.extradata
    decoder.options = {**stream.codec_context.options, "err_detect": "explode"}
    decoder.thread_type = "SLICE"
    return decoder


def _can_decode(decoder: VideoCodecContext, packet: Packet[Any]) -> bool:
    try:
        decoder.decode(packet)
    except FFmpegError:
        return False
    return True
