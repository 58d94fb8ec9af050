"""Unusual files: the result compared with the source by PyAV alone, without this project's readers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.packet import Packet
from clock_videos import OPEN_GOP, make_clip, rewrite
from numbered_video import draw_number, read_numbers
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode.codecs import Encoding
from steadyscale.core.video.encode.writer import write_video

MS = Fraction(1, 1000)
PHONE = [0, 33, 67, 100, 150, 183, 217, 250, 350, 383, 417, 450]
COUNT = 12


@dataclass
class Facts:
    """What raw PyAV reads: seconds relative to the first frame, and the tags of the video."""

    times: list[float]
    audio: list[tuple[float, float]]  # start and end of each track
    depth: int
    tags: tuple[int, ...]
    aspect: float

    @classmethod
    def of(cls, path: Path) -> Facts:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            frames = list(container.decode(stream))
            context, shape = stream.codec_context, frames[0].format
            times = [float(frame.pts * frame.time_base) for frame in frames]
            tags = (frames[0].colorspace, frames[0].color_primaries, frames[0].color_trc, frames[0].color_range)
            aspect = float(stream.sample_aspect_ratio or context.sample_aspect_ratio or 1)
            packets = {s.index: list[Packet]() for s in container.streams.audio}
        with av.open(str(path)) as container:
            for packet in container.demux(*(container.streams[index] for index in packets)) if packets else ():
                if packet.size and packet.pts is not None:
                    packets[packet.stream_index].append(packet)
            audio = [
                (float(row[0].pts * row[0].time_base), float(max((p.pts + p.duration) * p.time_base for p in row)))
                for row in packets.values()
            ]
        depth = max(component.bits for component in shape.components)
        return cls([t - times[0] for t in times], [(a - times[0], b - times[0]) for a, b in audio], depth, tags, aspect)


def make_tagged(path: Path, *, codec: str, pixel_format: str, aspect: Fraction = Fraction(1), **options: str) -> Path:
    """Numbered frames of BT.2020 and PQ for 10 bits, else BT.709."""
    tags = (9, 9, 16) if "10" in pixel_format else (1, 1, 1)
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream(codec, rate=24, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixel_format
        context = stream.codec_context
        context.sample_aspect_ratio = aspect
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = *tags, 1
        for number in range(COUNT):
            frame = av.VideoFrame.from_ndarray(draw_number(number), format="rgb24").reformat(format=pixel_format)
            frame.pts, frame.colorspace, frame.color_range = number, tags[0], 1
            frame.color_primaries, frame.color_trc = tags[1:]
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))
    return path


def add_tracks(path: Path, target: Path) -> Path:
    """Copy a file with its audio twice, subtitles, and a smaller video in front."""
    with av.open(str(path)) as old, av.open(str(target), "w") as sink:
        other = sink.add_stream("mjpeg", rate=1)
        other.width, other.height, other.pix_fmt = 32, 32, "yuvj420p"
        copies = {
            s.index: [sink.add_stream_from_template(s) for _ in range(1 + (s.type == "audio"))] for s in old.streams
        }
        words = sink.add_mux_stream("subrip")
        image = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24").reformat(format="yuvj420p")
        sink.mux([*other.encode(image), *other.encode(None)])
        line = av.Packet(b"words")
        line.stream, line.time_base, line.pts, line.dts, line.duration = words, MS, 100, 100, 200
        sink.mux(line)
        for packet in old.demux():
            for copy in copies[packet.stream_index] if packet.size else ():
                twin = av.Packet(bytes(packet))
                twin.pts, twin.dts, twin.time_base = packet.pts, packet.dts, packet.time_base
                twin.duration, twin.is_keyframe, twin.stream = packet.duration, packet.is_keyframe, copy
                sink.mux(twin)
    return target


def without_durations(path: Path, target: Path) -> Path:
    return rewrite(path, target, lambda packet, _: setattr(packet, "duration", 0))


FILES: dict[str, Callable[[Path], Path]] = {
    "phone": lambda d: make_clip(d / "in.mp4", COUNT, pts=PHONE, time_base=MS),
    "b frames and edit list": lambda d: make_clip(d / "in.mp4", COUNT, options={"bf": "3"}),
    "avi with b frames": lambda d: make_clip(d / "in.avi", COUNT, codec="mpeg4", options={"bf": "2"}, audio="mp2"),
    "transport stream, late": lambda d: make_clip(d / "in.ts", COUNT, options={"bf": "2"}, start_seconds=3000),
    "mpeg-2": lambda d: make_clip(
        d / "in.mpg", COUNT, codec="mpeg2video", audio="mp2", muxer="vob", fps=25, options={"bf": "2"}
    ),
    "interlaced": lambda d: make_clip(
        d / "in.mkv", COUNT, codec="mpeg2video", audio="mp2", fps=25, options={"flags": "+ildct+ilme", "bf": "0"}
    ),
    "open gop": lambda d: make_clip(d / "in.mkv", COUNT, codec="libx265", options={"x265-params": OPEN_GOP}),
    "no durations": lambda d: without_durations(make_clip(d / "plain.mkv", COUNT), d / "in.mkv"),
    "several tracks": lambda d: add_tracks(make_clip(d / "plain.mkv", COUNT), d / "in.mkv"),
    "long audio": lambda d: make_clip(d / "in.mkv", COUNT, audio_seconds=1.5),
    "hdr": lambda d: make_tagged(
        d / "in.mp4", codec="libx265", pixel_format="yuv420p10le", **{"x265-params": "log-level=error"}
    ),
    "anamorphic": lambda d: make_tagged(d / "in.mp4", codec="libx264", pixel_format="yuv420p", aspect=Fraction(16, 11)),
    "ten bits of h264": lambda d: make_tagged(d / "in.mkv", codec="libx264", pixel_format="yuv422p10le"),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("name", FILES)
def test_an_unusual_file_keeps_frames_times_audio_depth_and_tags(name: str, suffix: str, tmp_path: Path):
    source, target = FILES[name](tmp_path), tmp_path / f"out{suffix}"
    clip = VideoClip(source)
    encoding = Encoding("hevc") if name == "hdr" else Encoding(preset="ultrafast")
    write_video(target, clip.frames(), clip.info, source=source, encoding=encoding)
    # Of several tracks, PyAV alone would take the first one.
    before = Facts.of(tmp_path / "plain.mkv" if name == "several tracks" else source)
    after = Facts.of(target)
    assert read_numbers(VideoClip(target)) == list(range(COUNT))
    assert after.times == pytest.approx(before.times, abs=0.0011)
    audio = before.audio * (2 if name == "several tracks" else 1)
    assert len(after.audio) == len(audio)
    for (start, end), (was_start, was_end) in zip(after.audio, audio, strict=True):
        assert (start, end) == pytest.approx((was_start, was_end), abs=1 / 24)
    assert (after.depth, after.aspect) == (before.depth, pytest.approx(before.aspect, abs=0.02))
    kept = [(now, was) for now, was in zip(after.tags[:3], before.tags[:3], strict=True) if was not in (0, 2)]
    assert all(now == was for now, was in kept)
    assert (after.tags[3] == 2) == (before.tags[3] == 2)
