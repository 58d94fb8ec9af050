"""What a file shows and plays, read with nothing that the writing code knows."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from operator import add
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ...clip import ClipError
from ..decode import demux
from ..decode.stream_format import BT601, FULL_RANGE, SMPTE170M, Orientation, resolve_matrix
from ..decode.timestamps import TimeRange

MILLISECOND = Fraction(1, 1000)  # what Matroska counts time in, and MP4 the begin of a track
MAX_FRAME_SECONDS = Fraction(1, 20)  # of what counts as one frame where sound is off by no more: more is seen on lips
UNSPECIFIED_TAGS = (0, 2)  # numbers of primaries and transfer that mean: not known
_UNPACKETIZED_CODECS = ("pcm_", "adpcm_")  # codecs that have no packets of their own
_EQUIVALENT_MATRICES = {SMPTE170M: BT601}  # the same matrix by another number


@dataclass(frozen=True)
class AudioTrackInfo:
    """A track of sound: its codec, when it begins and ends, how long its packets last together, and the longest; all in
    seconds, as the file tells.

    amount: how much of it there is, counted so that a copy in any container has as much: packets, whose lengths many
    containers round; bytes where each container cuts the sound as it likes. unsure: by how much the end may be another,
    where the file does not tell how long packets last.
    """

    codec: str
    start: Fraction
    end: Fraction
    duration: Fraction
    max_packet_duration: Fraction
    payload_units: int
    end_uncertainty: Fraction


@dataclass(frozen=True)
class ProbedFormat:
    """Size and colours of a picture, by FFmpeg's numbers. matrix is the one that players use, tagged or not.

    pixel_aspect: width of a pixel / its height, as shown.
    """

    width: int
    height: int
    is_rgb: bool
    matrix: int
    full_range: bool
    primaries: int
    transfer: int
    pixel_aspect: Fraction


@dataclass(frozen=True)
class ProbeResult:
    """What a file shows and plays. times: when each frame is shown, in order, counted in steps of `step` seconds from
    `zero` on. tick: the steps that the file counts in. frame: what one lasts, as a rule. damaged: frames that the
    decoder calls so. hides: whether there is sound that an edit list cuts off before the file begins.
    """

    times: Sequence[int]
    time_base: Fraction
    origin: Fraction
    stream_time_base: Fraction
    frame_duration: Fraction
    corrupt_count: int
    video_format: ProbedFormat
    audio_tracks: list[AudioTrackInfo]
    has_skipped_audio: bool = False

    def frame_time(self, number: int) -> Fraction:
        """When a frame is shown, in seconds."""
        return self.times[number] * self.time_base - self.origin


def probe(path: Path, *, decode: bool, window: TimeRange | None = None, include_skipped: bool = True) -> ProbeResult:
    """What is in the file, or in that part of it. Unless `decode`, which a damaged file does not stand, its packets
    tell when frames are shown, if they can. hidden: whether packets of sound count that an edit list cuts off. Raises
    ClipError.
    """
    watch = None if decode else demux.IgnoreDecodeErrors()
    try:
        with demux.open_media(path) as container:
            stream = demux.video_stream(container, path, demux.NO_PIXEL_LIMIT)
            first = next(demux.decode_frames(container, stream, watch), None)
            if first is None:
                raise ClipError(f"{path}: its video stream has no frames")
            look = _probe_format(stream, first)
        with demux.open_media(path) as container:
            stream = demux.video_stream(container, path, demux.NO_PIXEL_LIMIT)
            tick, rate = stream.time_base or MILLISECOND, stream.average_rate or stream.guessed_rate or Fraction(24)
            origin = _clock_origin(container)
            shown, heard, hides = _scan_packets(container, stream, watch, include_skipped)
        damaged = 0
        if decode or not shown.usable:
            del shown
            damaged, shown = _scan_frames(path, watch)
    except FFmpegError as e:
        raise ClipError(f"{path}: cannot be read ({demux.error_message(e)})") from e
    told, step, zero = shown.sorted_pts(), tick, origin
    if not shown.usable:
        told, step = array("q", range(shown.count)), 1 / rate  # evenly spaced is what players make of unusable times
        zero = Fraction(0)
        if shown.first_known:  # What has a time is shown then.
            number, known = shown.first_known
            begin = known * tick - origin - number * step
            zero, origin = -max(begin, Fraction(0)), origin + min(begin, Fraction(0))
    del shown
    if window is not None:
        first, end = window.to_ticks(tick)
        told = array("q", [at for at in told if first * tick <= at * step - zero < end * tick])
        begin = (told[0] * step - zero if told else 0) + origin
        heard = [(codec, span.select(begin, end * tick + origin)) for codec, span in heard]
        zero, origin = (told[0] * step if told else zero), begin
    frame = min(_median_low(np.diff(told)) * step if len(told) > 1 else 1 / rate, MAX_FRAME_SECONDS)
    sounds = [_audio_track_info(codec, spans, origin) for codec, spans in heard if len(spans.starts)]
    return ProbeResult(told, step, zero, tick, frame, damaged, look, sounds, hides)


def _probe_format(stream: VideoStream, first: VideoFrame) -> ProbedFormat:
    """A frame's own word counts, then that of its container: some decoders are not told what that says."""
    context = stream.codec_context
    turned = Orientation.of(first, context.codec.name).transpose
    width, height = (first.height, first.width) if turned else (first.width, first.height)
    space, primaries, transfer = (
        told if told not in UNSPECIFIED_TAGS else usual
        for told, usual in (
            (first.colorspace, context.colorspace),
            (first.color_primaries, context.color_primaries),
            (first.color_trc, context.color_trc),
        )
    )
    used = resolve_matrix(space, first.height)
    full = FULL_RANGE in (first.color_range, context.color_range) or first.format.name.startswith("yuvj")
    aspect = Fraction(stream.sample_aspect_ratio or 1)
    aspect = 1 / aspect if turned else aspect
    return ProbedFormat(
        width, height, first.format.is_rgb, _EQUIVALENT_MATRICES.get(used, used), full, primaries, transfer, aspect
    )


@dataclass(frozen=True)
class _PacketTimes:
    """When the packets of a track of sound begin, and how long they last, in steps of `base` seconds; and bytes."""

    time_base: Fraction
    starts: array[int] = field(default_factory=lambda: array("q"))
    durations: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))

    def append(self, start: int, duration: int, size: int) -> None:
        self.starts.append(start)
        self.durations.append(duration)
        self.sizes.append(size)

    def select(self, start: Fraction, end: Fraction | float) -> _PacketTimes:
        """Those that begin at that time or later, and before the end."""
        rows = [i for i, at in enumerate(self.starts) if start <= at * self.time_base < end]
        kept = (array("q", [column[i] for i in rows]) for column in (self.starts, self.durations, self.sizes))
        return _PacketTimes(self.time_base, *kept)


class _PtsCollector:
    """When frames are shown, as they come: 8 bytes for each, for a clip has as many as it likes.

    count: how many there are; some may not say when. known: the first that does, as they come: its number, and when.
    """

    def __init__(self) -> None:
        self.count, self._pts = 0, array("q")
        self.first_known: tuple[int, int] | None = None

    def append(self, pts: int | None) -> None:
        self.count += 1
        if pts is not None:
            self.first_known = self.first_known or (self.count - 1, pts)
            self._pts.append(pts)

    def sorted_pts(self) -> array[int]:
        """The times that are told, in order."""
        np.asarray(self._pts).sort()  # in place
        return self._pts

    @property
    def usable(self) -> bool:
        """Whether each frame has a time, and no two have the same."""
        return len(self._pts) == self.count and all(a < b for a, b in pairwise(self.sorted_pts()))


def _median_low(values: NDArray[np.int64]) -> int:
    """The median, and of two in the middle the lower one."""
    middle = (len(values) - 1) // 2
    return int(np.partition(values, middle)[middle])


def _scan_packets(
    container: InputContainer, stream: VideoStream, observer: demux.DecodeObserver | None, include_skipped: bool
) -> tuple[_PtsCollector, list[tuple[str, _PacketTimes]], bool]:
    """When the frame in each packet is shown, of each track of sound its codec and when its packets are played, and
    whether there is sound that an edit list cuts off.
    """
    hides = False
    heard = [s for s in container.streams.audio if s.codec_context is not None]
    shown, spans = _PtsCollector(), {s.index: _PacketTimes(s.time_base or MILLISECOND) for s in heard}
    for packet in demux.demux_packets(container, stream, *heard, observer=observer):
        if not packet.size:
            continue
        if packet.stream_index == stream.index:
            if not packet.is_discard:
                shown.append(packet.pts)
        elif packet.pts is not None:
            cut_off = demux.is_edit_list_skipped(packet)
            hides = hides or cut_off
            if include_skipped or not cut_off:
                spans[packet.stream_index].append(packet.pts, demux.packet_duration(packet), packet.size)
    return shown, [(s.codec_context.name, spans[s.index]) for s in heard], hides


def _audio_track_info(codec: str, packets: _PacketTimes, origin: Fraction) -> AudioTrackInfo:
    """A track whose packets are played then. zero: the moment from which its times are counted."""
    base, usual = packets.time_base, _typical_duration(packets)
    lengths = array("q", (length or usual for length in packets.durations))
    begin, end = min(packets.starts), max(map(add, packets.starts, lengths))
    amount = sum(packets.sizes) if codec.startswith(_UNPACKETIZED_CODECS) else len(packets.sizes)
    length, longest = sum(lengths) * base, max(lengths) * base
    return AudioTrackInfo(
        codec, begin * base - origin, end * base - origin, length, longest, amount, end_uncertainty=usual * base
    )


def _typical_duration(packets: _PacketTimes) -> int:
    """How long packets last, as a rule, where the file does not tell of each; 0 where it does."""
    if all(packets.durations) or len(packets.starts) < 2:
        return 0
    return _median_low(np.diff(np.sort(np.asarray(packets.starts))))


def _scan_frames(path: Path, observer: demux.DecodeObserver | None) -> tuple[int, _PtsCollector]:
    """How many frames are damaged, and when each is shown."""
    damaged, shown = 0, _PtsCollector()
    with demux.open_media(path) as container:
        for frame in demux.decode_frames(
            container, demux.video_stream(container, path, demux.NO_PIXEL_LIMIT), observer
        ):
            damaged += frame.is_corrupt
            shown.append(frame.pts)
    return damaged, shown


def _clock_origin(container: InputContainer) -> Fraction:
    """A broadcast's clock has run for hours when a recording begins; other clocks begin with the file."""
    broadcast = container.format.name in ("mpegts", "mpeg") and container.start_time is not None
    return Fraction(container.start_time or 0, av.time_base) if broadcast else Fraction(0)
