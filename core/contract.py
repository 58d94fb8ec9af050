"""What every result owes its source, found out by reading both files, with nothing that the writing code knows.

As many frames, each at its time; every track of sound, beginning and ending where it did beside the picture; and the
same meaning of colours.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median_low

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from . import media
from .clip import ClipError, ClipInfo
from .stored import BT601, BT709, BT2020, FULL, SMPTE170M, Orientation, matrix

TICK = Fraction(1, 1000)  # what Matroska counts time in, and MP4 the begin of a track
LONGEST = Fraction(1, 20)  # of what counts as one frame where sound is off by no more: more is seen on lips
_UNTOLD = (0, 2)  # numbers of primaries and transfer that mean: not known
_SPELLINGS = {SMPTE170M: BT601}  # the same matrix by another number
_MATRICES = (BT709, 4, BT601, 7, BT2020)  # those that can be written; FCC is 4, SMPTE 240M is 7


class ContractError(ClipError):
    """A result is not what it has to be. The message lists in what."""


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
    """Size and colours of a picture, by FFmpeg's numbers. matrix is the one that players use, tagged or not."""

    width: int
    height: int
    rgb: bool
    matrix: int
    full_range: bool
    primaries: int
    transfer: int


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


def check_contract(result: str | Path, source: str | Path | None, *, frames: int, info: ClipInfo) -> None:
    """Raise ContractError, with all that is wrong, unless the file `result` is what was to become of `source`.

    source: the video whose frames were processed one for one; None where there was none, or pictures. frames: how many
    there were. info: the size that was asked for, and the rate where there is no source.
    Every frame of the result is decoded. Raises ClipError for a file that cannot be read.
    """
    new = _facts(Path(result), decode=True)
    old = _facts(Path(source), decode=False) if source is not None else None
    even = [i / info.fps for i in range(frames)]
    wrong = [*_picture(new, frames, info), *(_against(new, old) if old else _moved(new, even, TICK))]
    if wrong:
        raise ContractError(f"{result}: the result breaks the contract: {'; '.join(wrong)}")


def _picture(new: Facts, frames: int, info: ClipInfo) -> list[str]:
    wrong = []
    if len(new.starts) != frames:
        wrong.append(f"{len(new.starts)} frames came out of {frames}")
    if new.damaged:
        wrong.append(f"{new.damaged} frames are damaged")
    size, asked = (new.look.width, new.look.height), (info.width, info.height)
    if any(side - want not in (0, 1) for side, want in zip(size, asked, strict=True)):  # 4:2:0 needs even sizes
        wrong.append(f"frames are {size[0]}x{size[1]} instead of {asked[0]}x{asked[1]}")
    return wrong


def _against(new: Facts, old: Facts) -> list[str]:
    wrong = []
    if len(new.starts) != len(old.starts):
        wrong.append(f"the source has {len(old.starts)} frames, the result {len(new.starts)}")
    else:
        wrong += _moved(new, old.starts, max(TICK, old.tick), min([*old.starts[:1], *(s.begin for s in old.sounds)]))
    if len(new.sounds) != len(old.sounds):
        wrong.append(f"the source has {len(old.sounds)} tracks of sound, the result {len(new.sounds)}")
    for number, (after, before) in enumerate(zip(new.sounds, old.sounds, strict=False), start=1):
        again = after.codec != before.codec
        # An encoder begins a packet early and fills its last one, and is not given what lies before the clock's begin.
        slack = old.frame + (2 * after.packet if again else 0)
        begins, ends = max(before.begin, Fraction(0)) if again else before.begin, before.end
        length = ends - begins if again else before.length
        for what, off in {
            "begins {:+.3f} s late": (after.begin - new.starts[0]) - (begins - old.starts[0]),
            "ends {:+.3f} s late": (after.end - new.starts[0]) - (ends - old.starts[0]),
            "is {:+.3f} s too long": after.length - length,
        }.items():
            if abs(off) > slack:
                wrong.append(f"track {number} of sound {what.format(float(off))}")
    return wrong + _colours(new.look, old.look)


def _moved(new: Facts, wanted: list[Fraction], slack: Fraction, earliest: Fraction = Fraction(0)) -> list[str]:
    """Frames that are shown at another time than they should be. Where something begins before the clock does, a file
    may count all its times from there.
    """
    slack = max(slack, new.tick)
    shift = new.starts[0] - wanted[0]
    if earliest >= 0 or abs(shift + earliest) > slack:
        shift = Fraction(0)
    off = [abs(start - want - shift) for start, want in zip(new.starts, wanted, strict=False)]
    late = sum(distance > slack for distance in off)
    if not late:
        return []
    return [f"{late} frames are shown at another time, frame {off.index(max(off))} by {float(max(off)):.3f} s"]


def _colours(new: Look, old: Look) -> list[str]:
    pairs = {"primaries": (old.primaries, new.primaries), "transfer": (old.transfer, new.transfer)}
    wrong = [name for name, (before, after) in pairs.items() if before not in _UNTOLD and before != after]
    if not new.rgb and not old.rgb:  # numbers of RGB need no matrix, and use their full range
        pairs |= {"matrix": (old.matrix, new.matrix), "full range": (old.full_range, new.full_range)}
        wrong += ["matrix"] if old.matrix in _MATRICES and old.matrix != new.matrix else []
        wrong += ["full range"] if old.full_range != new.full_range else []
    return [f"the colours' {name} was {pairs[name][0]} and is {pairs[name][1]}" for name in wrong]


def _facts(path: Path, *, decode: bool) -> Facts:
    """What is in the file. Unless `decode`, its packets tell when frames are shown, if they can."""
    try:
        with media.opened(path) as container:
            stream = media.video_stream(container, path, media.NO_LIMIT)
            first = next(media.decoded(container, stream), None)
            if first is None:
                raise ClipError(f"{path}: its video stream has no frames")
            look = _look(stream, first)
        with media.opened(path) as container:
            stream = media.video_stream(container, path, media.NO_LIMIT)
            tick, rate = stream.time_base or TICK, stream.average_rate or stream.guessed_rate or Fraction(24)
            origin = _origin(container)
            starts, sounds = _packets(container, stream)
        damaged = 0
        if decode or None in starts or len({*starts}) < len(starts):
            damaged, starts = _decoded(path)
    except FFmpegError as e:
        raise ClipError(f"{path}: cannot be read ({media.reason(e)})") from e
    told = sorted(pts * tick - origin for pts in starts if pts is not None)
    if len(told) < len(starts) or any(a == b for a, b in pairwise(told)):
        told = [i / rate for i in range(len(starts))]  # no usable times: evenly spaced is what players make of it
    frame = min(median_low([b - a for a, b in pairwise(told)] or [1 / rate]), LONGEST)
    moved = [Sound(s.codec, s.begin - origin, s.end - origin, s.length, s.packet) for s in sounds]
    return Facts(told, tick, frame, damaged, look, moved)


def _look(stream: VideoStream, first: VideoFrame) -> Look:
    """A frame's own word counts, then that of its container: some decoders are not told what that says."""
    context = stream.codec_context
    turned = Orientation.of(first).transpose
    width, height = (first.height, first.width) if turned else (first.width, first.height)
    space, primaries, transfer = (
        told if told not in _UNTOLD else usual
        for told, usual in (
            (first.colorspace, context.colorspace),
            (first.color_primaries, context.color_primaries),
            (first.color_trc, context.color_trc),
        )
    )
    used = matrix(space, first.height)
    full = FULL in (first.color_range, context.color_range) or first.format.name.startswith("yuvj")
    return Look(width, height, first.format.is_rgb, _SPELLINGS.get(used, used), full, primaries, transfer)


def _packets(container: InputContainer, stream: VideoStream) -> tuple[list[int | None], list[Sound]]:
    """When the frame in each packet is shown, and the tracks of sound."""
    heard = [s for s in container.streams.audio if s.codec_context is not None]
    shown, spans = [], {s.index: [] for s in heard}
    for packet in container.demux(stream, *heard):
        if not packet.size:
            continue
        if packet.stream_index == stream.index:
            if not packet.is_discard:
                shown.append(packet.pts)
        elif packet.pts is not None:
            spans[packet.stream_index].append((packet.pts, packet.duration or 0))
    return shown, [_sound(s, spans[s.index]) for s in heard if spans[s.index]]


def _sound(stream: Stream, spans: list[tuple[int, int]]) -> Sound:
    tick = stream.time_base or TICK
    lengths = [length for _, length in spans]
    begin, end = min(start for start, _ in spans), max(start + length for start, length in spans)
    return Sound(stream.codec_context.name, begin * tick, end * tick, sum(lengths) * tick, max(lengths) * tick)


def _decoded(path: Path) -> tuple[int, list[int | None]]:
    """How many frames are damaged, and when each is shown."""
    damaged, starts = 0, []
    with media.opened(path) as container:
        for frame in media.decoded(container, media.video_stream(container, path, media.NO_LIMIT)):
            damaged += frame.is_corrupt
            starts.append(frame.pts)
    return damaged, starts


def _origin(container: InputContainer) -> Fraction:
    """A broadcast's clock has run for hours when a recording begins; other clocks begin with the file."""
    broadcast = container.format.name in ("mpegts", "mpeg") and container.start_time is not None
    return Fraction(container.start_time or 0, av.time_base) if broadcast else Fraction(0)
