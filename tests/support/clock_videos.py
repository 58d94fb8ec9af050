"""Clips with unusual timestamps: repeated, missing, stepping back, late, sparse or without a frame rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.packet import Packet
from numbered_video import draw_number

SIZE = (64, 48)
OPEN_GOP = "log-level=error:open-gop=1:keyint=12:min-keyint=12:bframes=4:b-adapt=0:scenecut=0"


def make_clip(
    path: Path,
    count: int = 24,
    *,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    audio: str | None = "aac",
    fps: int = 24,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    muxer: str | None = None,
    last_duration: int | None = None,
    start_seconds: int = 0,
    audio_seconds: float | None = None,
    beep: float | None = None,
    subtitle: float | None = None,
) -> Path:
    """Write numbered frames, and a tone of the same length, interleaved.

    pts: of the frames, in units of `time_base`. last_duration: of the last packet in the file, in the same
    units. start_seconds: by which all timestamps are later. audio_seconds: length of the audio. beep: when the tone is
    heard, for 20 ms; None for all the time. subtitle: when a DVB subtitle is displayed.
    """
    with av.open(str(path), "w", format=muxer) as sink:
        video = sink.add_stream(codec, rate=fps, options=options or {})
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        base = time_base or Fraction(1, fps)
        video.time_base = video.codec_context.time_base = base
        track = sink.add_stream(audio, rate=48000, layout="mono") if audio else None
        words: Any = sink.add_mux_stream("dvb_subtitle") if subtitle is not None else None
        samples, packets = 0, []
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(draw_number(number, *SIZE), format="rgb24")
            frame.pts, frame.time_base = pts[number] if pts else number, base
            packets += video.encode(frame)
            if words is not None and subtitle is not None and number == round(subtitle * fps):
                packets.append(_dvb_subtitle(words, subtitle))
            until = (number + 1) / fps
            if audio_seconds is not None:
                until = audio_seconds if number == count - 1 else min(until, audio_seconds)
            while track is not None and samples < until * 48000:
                size = track.codec_context.frame_size or 1024
                place = np.arange(samples, samples + size)
                tone = np.sin(place * 0.05, dtype=np.float32)[None] * 0.5
                if beep is not None:
                    tone = tone * (np.abs(place / 48000 - beep - 0.01) <= 0.01).astype(np.float32)
                block = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
                block.sample_rate, block.time_base, block.pts = 48000, Fraction(1, 48000), samples
                samples += size
                packets += track.encode(block)
        packets += video.encode(None)
        packets += track.encode(None) if track is not None else []
        if last_duration is not None:
            next(p for p in reversed(packets) if p.stream is video).duration = last_duration
        for packet in packets:
            shift = round(start_seconds / packet.time_base)
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            sink.mux(packet)
    return path


def _dvb_subtitle(stream: Any, seconds: float) -> Packet[Any]:
    packet = Packet(bytes([0x0F, 0x10, 0, 1, 0, 2, 5, 1]))  # a page without regions
    packet.stream, packet.time_base, packet.duration = stream, Fraction(1, 90_000), 45_000
    packet.pts = packet.dts = round(seconds * 90_000)
    return packet


def beep_times(path: Path) -> list[float]:
    """When each beep of a file starts, in seconds."""
    starts, last = list[float](), -1.0
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            samples = frame.to_ndarray()[0] / (32768 if frame.format.name.startswith("s16") else 1)
            for row in np.flatnonzero(np.abs(samples) > 0.15).tolist():
                moment = float((frame.pts or 0) * (frame.time_base or 0)) + row / frame.sample_rate
                starts += [moment] if moment - last > 0.1 else []
                last = moment
    return starts


def rewrite(path: Path, target: Path, change: Callable[[Packet[Any], int], bool | None]) -> Path:
    """Copy all packets; `change` gets each video packet and its number, and returns False to drop it."""
    with av.open(str(path)) as old, av.open(str(target), "w") as sink:
        streams = {stream.index: sink.add_stream_from_template(stream) for stream in old.streams}
        number = 0
        for packet in old.demux():
            if not packet.size:
                continue
            if packet.stream.type == "video":
                number += 1
                if change(packet, number - 1) is False:
                    continue
            packet.stream = streams[packet.stream_index]
            sink.mux(packet)
    return target


def repeat_timestamps(path: Path, target: Path, numbers: Sequence[int]) -> Path:
    """Give these frames (of a clip without B-frames) the timestamp of the one before."""
    last = [0]

    def change(packet: Packet[Any], number: int) -> None:
        if number in numbers:
            packet.pts = packet.dts = last[0]
        last[0] = packet.pts or 0

    return rewrite(path, target, change)


def cut_start(path: Path, target: Path, first: int) -> Path:
    """Copy from that video packet on, with the audio from the first timestamp left, as a stream copy cuts."""
    with av.open(str(path)) as old:
        video = [p for p in old.demux(video=0) if p.size]
        left = video[first:]
        start = min(p.pts for p in left if p.pts is not None) * left[0].time_base
        zero = min(start, *(p.dts * p.time_base for p in left if p.dts is not None))
    with av.open(str(path)) as old, av.open(str(target), "w") as sink:
        streams = {stream.index: sink.add_stream_from_template(stream) for stream in old.streams}
        number = -1
        for packet in old.demux():
            is_video = packet.stream.type == "video"
            number += is_video and packet.size > 0
            if not packet.size or packet.pts is None:
                continue
            if (number < first) if is_video else (packet.pts * packet.time_base < start):
                continue
            shift = round(zero / packet.time_base)
            packet.pts -= shift
            packet.dts = None if packet.dts is None else packet.dts - shift
            packet.stream = streams[packet.stream_index]
            sink.mux(packet)
    return target


def join_bytes(target: Path, *paths: Path) -> Path:
    target.write_bytes(b"".join(path.read_bytes() for path in paths))
    return target


def raw_times(path: Path, kind: str = "video") -> list[float]:
    """Timestamps of the packets in seconds, in the order of display."""
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return sorted(float(p.pts * p.time_base) for p in container.demux(stream) if p.size and p.pts is not None)


def key_packets(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    return [number for number, packet in enumerate(packets) if packet.is_keyframe]


def end_time(path: Path) -> float:
    """Return when the last frame ends, as the file states it for its longest track."""
    with av.open(str(path)) as container:
        assert container.duration is not None
        return container.duration / 1e6
