"""What a file shows and plays, read with nothing that the writing code knows."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import inf
from pathlib import Path
from statistics import median_low

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from . import media
from .clip import ClipError
from .stored import BT601, FULL, SMPTE170M, Orientation, matrix
from .timing import Window

TICK = Fraction(1, 1000)  # what Matroska counts time in, and MP4 the begin of a track
LONGEST = Fraction(1, 20)  # of what counts as one frame where sound is off by no more: more is seen on lips
UNTOLD = (0, 2)  # numbers of primaries and transfer that mean: not known
_SPELLINGS = {SMPTE170M: BT601}  # the same matrix by another number
_Span = tuple[Fraction, Fraction]  # when a packet begins, and how long it lasts, in seconds


@dataclass(frozen=True)
class Sound:
    """A track of sound: its codec, when it begins and ends, how much of it there is, its longest packet; in seconds."""

    codec: str
    begin: Fraction
    end: Fraction
    length: Fraction
    packet: Fraction


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
    """What a file shows and plays. starts: when each frame is shown, in seconds. tick: the steps that this is counted
    in. frame: what one lasts, as a rule. damaged: frames that the decoder calls so.
    """

    starts: list[Fraction]
    tick: Fraction
    frame: Fraction
    damaged: int
    look: Look
    sounds: list[Sound]


def facts_of(path: Path, *, decode: bool, window: Window | None = None) -> Facts:
    """What is in the file, or in that part of it. Unless `decode`, which a damaged file does not stand, its packets
    tell when frames are shown, if they can. Raises ClipError.
    """
    watch = None if decode else media.Unmoved()
    try:
        with media.opened(path) as container:
            stream = media.video_stream(container, path, media.NO_LIMIT)
            first = next(media.decoded(container, stream, watch), None)
            if first is None:
                raise ClipError(f"{path}: its video stream has no frames")
            look = _look(stream, first)
        with media.opened(path) as container:
            stream = media.video_stream(container, path, media.NO_LIMIT)
            tick, rate = stream.time_base or TICK, stream.average_rate or stream.guessed_rate or Fraction(24)
            origin = _origin(container)
            starts, heard = _packets(container, stream, watch)
        damaged = 0
        if decode or None in starts or len({*starts}) < len(starts):
            damaged, starts = _decoded(path, watch)
    except FFmpegError as e:
        raise ClipError(f"{path}: cannot be read ({media.reason(e)})") from e
    told = sorted(pts * tick - origin for pts in starts if pts is not None)
    if len(told) < len(starts) or any(a == b for a, b in pairwise(told)):
        told = [i / rate for i in range(len(starts))]  # no usable times: evenly spaced is what players make of it
    begin, end = Fraction(0), inf
    if window is not None:
        first_tick, end_tick = window.ticks(tick)
        begin, end = first_tick * tick, end_tick * tick
        told = [start for start in told if begin <= start < end]
        begin = min(told, default=begin)
    frame = min(median_low([b - a for a, b in pairwise(told)] or [1 / rate]), LONGEST)
    if window is not None:
        heard = [(stream, [span for span in spans if begin <= span[0] - origin < end]) for stream, spans in heard]
    sounds = [_sound(codec, spans, origin + begin) for codec, spans in heard if spans]
    return Facts([start - begin for start in told], tick, frame, damaged, look, sounds)


def _look(stream: VideoStream, first: VideoFrame) -> Look:
    """A frame's own word counts, then that of its container: some decoders are not told what that says."""
    context = stream.codec_context
    turned = Orientation.of(first).transpose
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


def _packets(
    container: InputContainer, stream: VideoStream, watch: media.Watch | None
) -> tuple[list[int | None], list[tuple[str, list[_Span]]]]:
    """When the frame in each packet is shown, and of each track of sound its codec and when its packets are played."""
    heard = [s for s in container.streams.audio if s.codec_context is not None]
    shown, spans = [], {s.index: [] for s in heard}
    for packet in media.packets(container, stream, *heard, watch=watch):
        if not packet.size:
            continue
        if packet.stream_index == stream.index:
            if not packet.is_discard:
                shown.append(packet.pts)
        elif packet.pts is not None:
            spans[packet.stream_index].append(
                (packet.pts * packet.time_base, (packet.duration or 0) * packet.time_base)
            )
    return shown, [(s.codec_context.name, spans[s.index]) for s in heard]


def _sound(codec: str, spans: list[_Span], zero: Fraction) -> Sound:
    """A track whose packets are played then. zero: the moment from which its times are counted."""
    lengths = [length for _, length in spans]
    begin, end = min(start for start, _ in spans), max(start + length for start, length in spans)
    return Sound(codec, begin - zero, end - zero, sum(lengths, Fraction(0)), max(lengths))


def _decoded(path: Path, watch: media.Watch | None) -> tuple[int, list[int | None]]:
    """How many frames are damaged, and when each is shown."""
    damaged, starts = 0, []
    with media.opened(path) as container:
        for frame in media.decoded(container, media.video_stream(container, path, media.NO_LIMIT), watch):
            damaged += frame.is_corrupt
            starts.append(frame.pts)
    return damaged, starts


def _origin(container: InputContainer) -> Fraction:
    """A broadcast's clock has run for hours when a recording begins; other clocks begin with the file."""
    broadcast = container.format.name in ("mpegts", "mpeg") and container.start_time is not None
    return Fraction(container.start_time or 0, av.time_base) if broadcast else Fraction(0)
