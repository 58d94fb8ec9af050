"""Detect corrupt frames while decoding, and fail or conceal them.

A decoder reports only part of the damage: frames up to the next key frame are predicted from a corrupt one, and VP8 and
VP9 cannot detect that a frame is wrong. The report lists what is known.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from heapq import heappop, heappush
from pathlib import Path
from typing import Any, Protocol, cast

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ...clip import ClipError
from ...runtime.typed_av import decode_video
from .corruption_report import CorruptionReport, OnDamage
from .packets import demux
from .packets.frame_rate import stated_rate
from .packets.leading import find_leading, may_lead
from .packets.packet_scan import scan_packets
from .packets.step_back import StepBackDetector, frame_ticks

log = logging.getLogger(__name__)

MAX_CONSECUTIVE_REPEATS = 300  # consecutive frames that may be missing before the file counts as unreadable
_MAX_LEADING = 100_000  # packets before the first key frame that are looked for
# Decoders that drop a damaged packet without an error, and need exactly one for a frame.
_ONE_FRAME_PER_PACKET = (
    "ffv1",
    "ffvhuff",
    "huffyuv",
    "utvideo",
    "prores",
    "dnxhd",
    "cfhd",
    "qtrle",
    "v210",
    "rawvideo",
)
_SILENT_DECODERS = ("hevc",)  # conceal errors without reporting them, unless err_detect is set to explode


def decode_checked(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    policy: OnDamage,
    report: CorruptionReport,
    pts_range: tuple[int, float] | None = None,
    make_decoder: Callable[[VideoStream], demux.Decoder] = demux.software_decoder,
    *,
    is_from_start: bool = True,
    packet_numbers: list[int | None] | None = None,
    wanted: PacketFilter | None = None,
) -> Generator[VideoFrame, None, None]:
    """Yield all frames of the stream in presentation order, one for each packet.

    Leading frames are left out. policy: whether corruption is an error or is added to `report`,
    under the number of the yielded frame. pts_range: yield only frames whose timestamp is in [first, end), in the
    stream's time base; reading may start earlier. make_decoder: as for `demux.decode_frames`. is_from_start: whether
    the container is read from its start. packet_numbers: receives for each frame the number of its packet, counted in
    the order of the file, or None where it is unknown. wanted: which packets are decoded, if not all.
    Raises ClipError.
    """
    known, tracker = len(report), _CorruptionTracker(path, container, stream, policy, report, pts_range)
    leading = wanted or (_LeadingFilter(path, report) if is_from_start else None)
    decoder = _NumberingDecoder(make_decoder(stream), leading, tracker)
    is_last = wanted.is_last if wanted else None
    with suppress(FFmpegError):  # the demuxer failed MAX_CONSECUTIVE_ERRORS times: the file ends here
        for frame in demux.decode_frames(container, stream, tracker, lambda _: decoder, is_last):
            for number, output in tracker.emit(frame):
                if packet_numbers is not None:
                    packet_numbers.append(number)
                yield output
            if tracker.is_past_end(frame):
                break
    for number, output in tracker.flush():
        if packet_numbers is not None:
            packet_numbers.append(number)
        yield output
    if len(report) > known:
        log.warning("%s: %s", path, report)


class PacketFilter(Protocol):
    """Chooses packets to decode; it gets them in the order of the file."""

    def is_leading(self, packet: Packet[Any], number: int, /) -> bool:
        """Whether a packet is left out."""
        ...

    def is_last(self, packet: Packet[Any], /) -> bool:
        """Whether this is the last packet to decode."""
        ...


class _LeadingFilter:
    """Tells which packets are leading ones; looks at the file only where one may be."""

    def __init__(self, path: Path, report: CorruptionReport) -> None:
        self._path, self._report = path, report
        self._has_key, self._key_pts = False, None
        self._numbers: frozenset[int] | None = None

    def is_leading(self, packet: Packet[Any], number: int) -> bool:
        if packet.is_keyframe and not self._has_key:
            self._has_key, self._key_pts = True, packet.pts
        if not packet.size or packet.is_discard or number > _MAX_LEADING:
            return False
        if self._numbers is None and may_lead(packet, self._has_key, self._key_pts):
            self._numbers = find_leading(self._path)
            self._report.leading = len(self._numbers)
        return self._numbers is not None and number in self._numbers


class _NumberingDecoder:
    """Decodes packets with their numbers as timestamps: unique and never missing."""

    def __init__(
        self, decoder: demux.Decoder, leading: _LeadingFilter | PacketFilter | None, tracker: _CorruptionTracker
    ) -> None:
        self._decoder, self._leading, self._tracker, self._number = decoder, leading, tracker, 0

    def decode(self, packet: Packet[Any], /) -> list[VideoFrame]:
        number = self._number
        self._number += bool(packet.size) and not packet.is_discard
        if self._leading is not None and self._leading.is_leading(packet, number):
            return []
        self._tracker.expect(packet, number)
        if packet.size:
            packet.pts = -1 if packet.is_discard else number
        return self._decoder.decode(packet)


@dataclass
class _Pending:
    """A packet in the decoder: its part (of joined recordings) and timestamp."""

    part: int
    pts: int | None
    is_corrupt: bool


class _CorruptionTracker:
    """Find missing frames by comparing packets and frames.

    A frame is recognized by the number of its packet, and packets are ordered by part and timestamp.
    """

    def __init__(
        self,
        path: Path,
        container: InputContainer,
        stream: VideoStream,
        policy: OnDamage,
        report: CorruptionReport,
        pts_range: tuple[int, float] | None,
    ) -> None:
        self._path, self._policy, self._report, self._pts_range = path, policy, report, pts_range
        self._time_base = stream.time_base or Fraction(1)
        frame_duration = frame_ticks(stated_rate(stream), self._time_base)
        self._detector, self._part = StepBackDetector(stream, container.format.name, frame_duration), 0
        self._packets: dict[int, _Pending] = {}  # by number
        self._waiting: list[tuple[int, int, int]] = []  # heap of (part, timestamp, number) without a frame yet
        self._replaced: set[int] = set()
        self._ends: frozenset[int] | None = None
        # Where two packets may form one frame, a packet without a frame is only missing after an error.
        self._missing_is_damage = stream.codec_context.codec.name in _ONE_FRAME_PER_PACKET
        self._last_frame: VideoFrame | None = None
        self._last_pts: int | None = None
        self._frame_number, self._repeats = 0, 0
        self._strict_decoder = None
        if stream.codec_context.codec.name in _SILENT_DECODERS:
            if policy is OnDamage.FAIL:
                stream.codec_context.options = {**stream.codec_context.options, "err_detect": "explode"}
                stream.codec_context.thread_type = "SLICE"  # frame threads lose the error of a single frame
            else:
                self._strict_decoder = _make_strict_decoder(stream)

    def on_packet(self, packet: Packet[Any]) -> None:
        pass

    def expect(self, packet: Packet[Any], number: int) -> None:
        """Take note of a packet before it is decoded."""
        accepted = self._strict_decoder is None or _can_decode(self._strict_decoder, packet)
        if not packet.size:
            return
        self._part += self._detector.is_step_back(packet)
        if packet.is_discard:
            return
        if packet.is_corrupt and number in self._join_ends():
            packet.is_corrupt = False  # or the decoder would mark its frame
        is_corrupt = packet.is_corrupt or not accepted
        self._packets[number] = _Pending(self._part, packet.pts, is_corrupt)
        if packet.pts is not None and self._is_in_range(packet.pts):
            heappush(self._waiting, (self._part, packet.pts, number))
            self._missing_is_damage = self._missing_is_damage or is_corrupt

    def _join_ends(self) -> frozenset[int]:
        """Return the last packets before each interruption: those of joined recordings.

        The demuxer takes those for incomplete, because the packets of a transport stream are counted anew after them;
        the parser passes that on to the packet before, too.
        """
        if self._ends is None:
            self._ends = frozenset(start - n for start in scan_packets(self._path).breaks for n in (1, 2))
        return self._ends

    def on_error(self, error: FFmpegError) -> None:
        if self._policy is OnDamage.FAIL:
            raise ClipError(
                f"{self._path}: near {self._describe_position(self._last_pts)} the file cannot be decoded "
                f"({demux.error_message(error)}); {_REMEDY}"
            ) from error
        self._missing_is_damage = True

    def emit(self, frame: VideoFrame) -> Iterator[tuple[int | None, VideoFrame]]:
        """Yield the frame, after replacements for missing ones, with packet numbers."""
        number = frame.pts
        if number is not None and number < 0:
            return  # skipped by an edit list
        packet = None if number is None else self._packets.pop(number, None)
        frame.pts = packet.pts if packet else None
        if number is not None and number in self._replaced:
            return  # A decoding error disturbed the order: a replacement was already emitted for this frame.
        if packet is not None and packet.pts is not None and number is not None:
            yield from self._fill_missing(frame, packet, packet.pts, number)
            if not self._is_in_range(packet.pts):
                return
        if frame.is_corrupt or (packet is not None and packet.is_corrupt):
            if self._policy is OnDamage.FAIL:
                raise ClipError(f"{self._path}: {self._describe_position(frame.pts)} is damaged; {_REMEDY}")
            self._report.concealed[self._frame_number] = self._to_seconds(frame.pts)
        self._last_frame, self._last_pts = frame, frame.pts
        self._frame_number, self._repeats = self._frame_number + 1, 0
        yield number, frame

    def flush(self) -> Iterator[tuple[int, VideoFrame]]:
        """Yield replacements for frames that are missing at the end."""
        while self._missing_is_damage and self._last_frame is not None and self._waiting:
            _, missing_pts, number = heappop(self._waiting)
            if self._packets.pop(number, None) is None:
                continue
            if self._policy is OnDamage.FAIL:
                raise ClipError(f"{self._path}: {self._describe_position(missing_pts)} cannot be decoded; {_REMEDY}")
            yield self._repeat_frame(self._last_frame, missing_pts, number)

    def is_past_end(self, frame: VideoFrame) -> bool:
        return self._pts_range is not None and frame.pts is not None and frame.pts >= self._pts_range[1]

    def _fill_missing(
        self, frame: VideoFrame, packet: _Pending, pts: int, number: int
    ) -> Iterator[tuple[int, VideoFrame]]:
        while self._waiting and self._waiting[0][:2] < (packet.part, pts):
            _, missing_pts, missing = heappop(self._waiting)
            # Two packets may form one frame.
            if self._packets.pop(missing, None) is None or (
                not self._missing_is_damage and self._last_frame is not None
            ):
                continue
            if self._policy is OnDamage.FAIL:
                raise ClipError(f"{self._path}: {self._describe_position(missing_pts)} cannot be decoded; {_REMEDY}")
            self._replaced.add(missing)
            yield self._repeat_frame(self._last_frame or frame, missing_pts, missing)

    def _repeat_frame(self, frame: VideoFrame, pts: int, number: int) -> tuple[int, VideoFrame]:
        self._report.repeated[self._frame_number] = self._to_seconds(pts)
        self._frame_number, self._repeats = self._frame_number + 1, self._repeats + 1
        if self._repeats > MAX_CONSECUTIVE_REPEATS:
            raise ClipError(
                f"{self._path}: {MAX_CONSECUTIVE_REPEATS} frames in a row cannot be decoded before "
                f"{self._describe_position(pts)}; cut or repair the file there"
            )
        return number, frame

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
        decode_video(decoder, packet)
    except FFmpegError:
        return False
    return True
