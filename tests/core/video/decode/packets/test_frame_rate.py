"""The frame rate: as stated, unless the packets contradict it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clock_videos import make_clip
from numbered_video import make_video
from steadyscale.core.video.decode.live_source import open_live_source
from steadyscale.core.video.decode.packets import demux, frame_rate
from steadyscale.core.video.decode.packets.frame_rate import snap_rate
from steadyscale.core.video.decode.video_clip import VideoClip

MS = Fraction(1, 1000)


@pytest.mark.parametrize(
    ("count", "span", "base", "rate"),
    [
        (119, 4963, MS, Fraction(24000, 1001)),
        (119, 4958, MS, Fraction(24)),
        (239, 7975, MS, Fraction(30000, 1001)),
        (239, 7967, MS, Fraction(30)),
        (100, 4000, MS, Fraction(25)),
        (119, 4012, MS, Fraction(119000, 4012)),
        (19, 38038, Fraction(1, 60000), Fraction(30000, 1001)),
        (10, 416, MS, Fraction(24)),
    ],
)
def test_a_measured_rate_is_a_common_one_only_within_rounding(count: int, span: int, base: Fraction, rate: Fraction):
    assert snap_rate(count, span, base) == rate


def make_browser_recording(path: Path, count: int = 60) -> Path:
    """WebM without a default duration, as MediaRecorder writes it, at about 29 fps; returns also its times."""
    gaps = np.random.default_rng(1).integers(28, 41, count - 1)
    starts = [0, *np.cumsum(gaps).tolist()]
    options = {"deadline": "realtime", "lag-in-frames": "0"}
    plain = make_clip(
        path.with_name("plain.webm"), count, codec="libvpx", options=options, pts=starts, time_base=MS, audio=None
    )
    with av.open(str(plain)) as old, av.open(str(path), "w") as sink:
        stream = sink.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream, packet.duration = stream, 0
                sink.mux(packet)
    return path


def test_a_browsers_recording_has_the_rate_of_its_packets(tmp_path: Path):
    path = make_browser_recording(tmp_path / "mr.webm")
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate is None
        last = max(p.pts for p in container.demux(video=0) if p.size)
    info = VideoClip(path).info
    assert info.fps == Fraction(59_000, last)
    assert info.length == 60, "though the file has no duration for the last one"
    with open_live_source(str(path)) as live:
        assert live.info.fps == info.fps


def test_raw_dv_has_the_rate_of_its_packets(tmp_path: Path):
    context = av.CodecContext.create("dvvideo", "w")
    context.width, context.height, context.pix_fmt, context.time_base = 720, 480, "yuv411p", Fraction(1001, 30000)
    data = b""
    for number in range(14):
        frame = av.VideoFrame.from_ndarray(np.full((480, 720, 3), number * 10, np.uint8), format="rgb24")
        frame = frame.reformat(format="yuv411p")
        frame.pts = number
        data += b"".join(bytes(packet) for packet in context.encode(frame))
    (tmp_path / "raw.dv").write_bytes(data)
    info = VideoClip(tmp_path / "raw.dv").info
    assert (info.fps, info.length) == (Fraction(30000, 1001), 14)


def test_a_stated_rate_that_the_packets_contradict_is_not_taken(tmp_path: Path):
    path = make_clip(tmp_path / "wrong.mkv", 40, fps=25, pts=[20 * n for n in range(40)], time_base=MS, audio=None,
                     options={"bf": "0"})  # fmt: skip
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 25
    assert VideoClip(path).info.fps == 50


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_ordinary_files_are_not_read_to_the_end_for_their_rate(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = make_video(tmp_path / f"long{suffix}", 120, starts=None)
    read = []
    original = demux.demux_packets

    def count(*args, **kwargs):
        for packet in original(*args, **kwargs):
            read.append(packet)
            yield packet

    monkeypatch.setattr(demux, "demux_packets", count)
    monkeypatch.setattr(frame_rate, "_measure_rate", None)
    assert VideoClip(path).info.fps == 24
    assert len(read) < 80
