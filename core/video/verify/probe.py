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
from ..decode.stream_format import BT601, FULL, SMPTE170M, Orientation, matrix
from ..decode.timestamps import Window

TICK = Fraction(1, 1000)  # what Matroska counts time in, and MP4 the begin of a track
LONGEST = Fraction(1, 20)  # of what counts as one frame where sound is off by no more: more is seen on lips
UNTOLD = (0, 2)  # numbers of primaries and transfer that mean: not known
_CUT_ANYWHERE = ("pcm_", "adpcm_")  # codecs that have no packets of their own
_SPELLINGS = {SMPTE170M: BT601}  # the same matrix by another number


@dataclass(frozen=True)
class Sound:
    """A track of sound: its codec, when it begins and ends, how long its packets last together, and the longest; all in
    seconds, as the file tells.

    amount: how much of it there is, counted so that a copy in any container has as much: packets, whose lengths many
    containers round; bytes where each container cuts the sound as it likes. unsure: by how much the end may be another,
    where the file does not tell how long packets last.
    """

    codec: str
    begin: Fraction
    end: Fraction
    length: Fraction
    packet: Fraction
    amount: int
    unsure: Fraction


@dataclass(frozen=True)
class Look:
    """Size and colours of a picture, by FFmpeg's numbers. matrix is the one that players use, tagged or not.

    pixel_aspect: width of a pixel / its height, as shown.
    """

    width: int
    height: int
    rgb: bool
    matrix: int
    full_range: bool
    primaries: int
    transfer: int
    pixel_aspect: Fraction


@dataclass(frozen=True)
class Facts:
    """What a file shows and plays. times: when each frame is shown, in order, counted in steps of `step` seconds from
    `zero` on. tick: the steps that the file counts in. frame: what one lasts, as a rule. damaged: frames that the
    decoder calls so. hides: whether there is sound that an edit list cuts off before the file begins.
    """

    times: Sequence[int]
    step: Fraction
    zero: Fraction
    tick: Fraction
    frame: Fraction
    damaged: int
    look: Look
    sounds: list[Sound]
    hides: bool = False

    def start(self, number: int) -> Fraction:
        """When a frame is shown, in seconds."""
        return self.times[number] * self.step - self.zero


def facts_of(path: Path, *, decode: bool, window: Window | None = None, hidden: bool = True) -> Facts:
    """What is in the file, or in that part of it. Unless `decode`, which a damaged file does not stand, its packets
    tell when frames are shown, if they can. hidden: whether packets of sound count that an edit list cuts off. Raises
    ClipError.
    """
    watch = None if decode else demux.Unmoved()
    try:
        with demux.opened(path) as container:
            stream = demux.video_stream(container, path, demux.NO_LIMIT)
            first = next(demux.decoded(container, stream, watch), None)
            if first is None:
                raise ClipError(f"{path}: its video stream has no frames")
            look = _look(stream, first)
        with demux.opened(path) as container:
            stream = demux.video_stream(container, path, demux.NO_LIMIT)
            tick, rate = stream.time_base or TICK, stream.average_rate or stream.guessed_rate or Fraction(24)
            origin = _origin(container)
            shown, heard, hides = _packets(container, stream, watch, hidden)
        damaged = 0
        if decode or not shown.usable:
            del shown
            damaged, shown = _decoded(path, watch)
    except FFmpegError as e:
        raise ClipError(f"{path}: cannot be read ({demux.reason(e)})") from e
    told, step, zero = shown.told(), tick, origin
    if not shown.usable:
        told, step = array("q", range(shown.count)), 1 / rate  # evenly spaced is what players make of unusable times
        zero = Fraction(0)
        if shown.known:  # What has a time is shown then.
            number, known = shown.known
            begin = known * tick - origin - number * step
            zero, origin = -max(begin, Fraction(0)), origin + min(begin, Fraction(0))
    del shown
    if window is not None:
        first, end = window.ticks(tick)
        told = array("q", [at for at in told if first * tick <= at * step - zero < end * tick])
        begin = (told[0] * step - zero if told else 0) + origin
        heard = [(codec, span.within(begin, end * tick + origin)) for codec, span in heard]
        zero, origin = (told[0] * step if told else zero), begin
    frame = min(_middle(np.diff(told)) * step if len(told) > 1 else 1 / rate, LONGEST)
    sounds = [_sound(codec, spans, origin) for codec, spans in heard if len(spans.begins)]
    return Facts(told, step, zero, tick, frame, damaged, look, sounds, hides)


def _look(stream: VideoStream, first: VideoFrame) -> Look:
    """A frame's own word counts, then that of its container: some decoders are not told what that says."""
    context = stream.codec_context
    turned = Orientation.of(first, context.codec.name).transpose
    width, height = (first.height, first.width) if turned else (first.width, first.height)
    space, primaries, transfer = (
        told if told not in UNTOLD else usual
        for told, usual in (
            (first.colorspace, context.colorspace),
            (first.color_primaries, context.color_primaries),
            (first.color_trc, context.color_trc),
        )
    )
    used = matrix(space, first.height)
    full = FULL in (first.color_range, context.color_range) or first.format.name.startswith("yuvj")
    aspect = Fraction(stream.sample_aspect_ratio or 1)
    aspect = 1 / aspect if turned else aspect
    return Look(width, height, first.format.is_rgb, _SPELLINGS.get(used, used), full, primaries, transfer, aspect)


@dataclass(frozen=True)
class _Spans:
    """When the packets of a track of sound begin, and how long they last, in steps of `base` seconds; and bytes."""

    base: Fraction
    begins: array[int] = field(default_factory=lambda: array("q"))
    lengths: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))

    def append(self, begin: int, length: int, size: int) -> None:
        self.begins.append(begin)
        self.lengths.append(length)
        self.sizes.append(size)

    def within(self, begin: Fraction, end: Fraction | float) -> _Spans:
        """Those that begin at that time or later, and before the end."""
        rows = [i for i, at in enumerate(self.begins) if begin <= at * self.base < end]
        kept = (array("q", [column[i] for i in rows]) for column in (self.begins, self.lengths, self.sizes))
        return _Spans(self.base, *kept)


class _Shown:
    """When frames are shown, as they come: 8 bytes for each, for a clip has as many as it likes.

    count: how many there are; some may not say when. known: the first that does, as they come: its number, and when.
    """

    def __init__(self) -> None:
        self.count, self._told = 0, array("q")
        self.known: tuple[int, int] | None = None

    def append(self, pts: int | None) -> None:
        self.count += 1
        if pts is not None:
            self.known = self.known or (self.count - 1, pts)
            self._told.append(pts)

    def told(self) -> array[int]:
        """The times that are told, in order."""
        np.asarray(self._told).sort()  # in place
        return self._told

    @property
    def usable(self) -> bool:
        """Whether each frame has a time, and no two have the same."""
        return len(self._told) == self.count and all(a < b for a, b in pairwise(self.told()))


def _middle(numbers: NDArray[np.int64]) -> int:
    """The median, and of two in the middle the lower one."""
    middle = (len(numbers) - 1) // 2
    return int(np.partition(numbers, middle)[middle])


def _packets(
    container: InputContainer, stream: VideoStream, watch: demux.Watch | None, hidden: bool
) -> tuple[_Shown, list[tuple[str, _Spans]], bool]:
    """When the frame in each packet is shown, of each track of sound its codec and when its packets are played, and
    whether there is sound that an edit list cuts off.
    """
    hides = False
    heard = [s for s in container.streams.audio if s.codec_context is not None]
    shown, spans = _Shown(), {s.index: _Spans(s.time_base or TICK) for s in heard}
    for packet in demux.packets(container, stream, *heard, watch=watch):
        if not packet.size:
            continue
        if packet.stream_index == stream.index:
            if not packet.is_discard:
                shown.append(packet.pts)
        elif packet.pts is not None:
            cut_off = demux.is_cut_off(packet)
            hides = hides or cut_off
            if hidden or not cut_off:
                spans[packet.stream_index].append(packet.pts, demux.told_length(packet), packet.size)
    return shown, [(s.codec_context.name, spans[s.index]) for s in heard], hides


def _sound(codec: str, spans: _Spans, zero: Fraction) -> Sound:
    """A track whose packets are played then. zero: the moment from which its times are counted."""
    base, usual = spans.base, _usual(spans)
    lengths = array("q", (length or usual for length in spans.lengths))
    begin, end = min(spans.begins), max(map(add, spans.begins, lengths))
    amount = sum(spans.sizes) if codec.startswith(_CUT_ANYWHERE) else len(spans.sizes)
    length, longest = sum(lengths) * base, max(lengths) * base
    return Sound(codec, begin * base - zero, end * base - zero, length, longest, amount, unsure=usual * base)


def _usual(spans: _Spans) -> int:
    """How long packets last, as a rule, where the file does not tell of each; 0 where it does."""
    if all(spans.lengths) or len(spans.begins) < 2:
        return 0
    return _middle(np.diff(np.sort(np.asarray(spans.begins))))


def _decoded(path: Path, watch: demux.Watch | None) -> tuple[int, _Shown]:
    """How many frames are damaged, and when each is shown."""
    damaged, shown = 0, _Shown()
    with demux.opened(path) as container:
        for frame in demux.decoded(container, demux.video_stream(container, path, demux.NO_LIMIT), watch):
            damaged += frame.is_corrupt
            shown.append(frame.pts)
    return damaged, shown


def _origin(container: InputContainer) -> Fraction:
    """A broadcast's clock has run for hours when a recording begins; other clocks begin with the file."""
    broadcast = container.format.name in ("mpegts", "mpeg") and container.start_time is not None
    return Fraction(container.start_time or 0, av.time_base) if broadcast else Fraction(0)
