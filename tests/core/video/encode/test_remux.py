"""A remuxed file keeps packets, timestamps and metadata, and gains what was added."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numbered_video import make_video, numbered_frames, read_numbers
from steadyscale.core.clip import ClipError, TensorClip
from steadyscale.core.video.decode.timestamps import read_timestamps
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode.codecs import CONTAINERS, Encoding
from steadyscale.core.video.encode.remux import AudioClip, remux
from steadyscale.core.video.encode.writer import write_video

MP4, MKV, WEBM = (CONTAINERS[suffix] for suffix in (".mp4", ".mkv", ".webm"))


def packets(path: Path, kind: str) -> list[tuple]:
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [(bytes(p), round(float(p.pts * p.time_base), 4)) for p in container.demux(stream) if p.size]


def read_metadata(path: Path) -> dict[str, str]:
    with av.open(str(path)) as container:
        return dict(container.metadata)


def test_packets_times_and_metadata_are_kept_and_metadata_added(clip_file: Path, tmp_path: Path):
    target = tmp_path / "copy.mp4"
    remux(clip_file, target, container=MP4, metadata={"prompt": '{"1": "x"}', "workflow": "ä"})
    for kind in ("video", "audio"):
        assert packets(target, kind) == packets(clip_file, kind)
    metadata = read_metadata(target)
    assert (metadata["title"], metadata["prompt"], metadata["workflow"]) == ("twelve bars", '{"1": "x"}', "ä")
    assert read_numbers(VideoClip(target)) == list(range(12))
    with av.open(str(clip_file)) as old, av.open(str(target)) as new:
        assert new.streams.audio[0].start_time * new.streams.audio[0].time_base == pytest.approx(
            old.streams.audio[0].start_time * old.streams.audio[0].time_base
        )


def test_a_colon_in_a_file_name_is_no_protocol(clip_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    remux(clip_file, "take2:x.mp4", container=MP4)
    assert read_numbers(VideoClip("take2:x.mp4")) == list(range(12))


def test_variable_frame_rates_are_kept(tmp_path: Path):
    starts = [0, 1000, 1500, 4000, 4100, 9000]
    source = make_video(tmp_path / "vfr.mp4", 6, starts=starts, time_base=Fraction(1, 1000))
    remux(source, tmp_path / "copy.mp4", container=MP4)
    old, new = read_timestamps(source), read_timestamps(tmp_path / "copy.mp4")
    assert [s * new.time_base for s in new.starts] == [s * old.time_base for s in old.starts]
    assert [s * new.time_base for s in new.starts] == [Fraction(s, 1000) for s in starts]


def test_audio_is_added_from_the_first_frame_on(tmp_path: Path):
    source = make_video(tmp_path / "silent.mp4", 48)
    tone = torch.sin(torch.arange(2 * 32_000) * (2 * np.pi * 440 / 32_000)) * 0.5
    remux(source, tmp_path / "loud.mp4", container=MP4, audio=AudioClip(torch.stack([tone, 0 * tone]), 32_000))
    assert packets(tmp_path / "loud.mp4", "video") == packets(source, "video")
    with av.open(str(tmp_path / "loud.mp4")) as container:
        stream = container.streams.audio[0]
        samples = np.concatenate([f.to_ndarray() for f in container.decode(stream)], axis=1)
        rate = stream.rate
    assert samples.shape[1] / rate == pytest.approx(2.0, abs=0.05)
    left, right = samples[:, rate // 2 : rate // 2 + rate]
    spectrum = np.abs(np.fft.rfft(left))
    assert np.argmax(spectrum) == pytest.approx(440, abs=1), "the spectrum of a second has one bin per hertz"
    assert np.abs(left).max() == pytest.approx(0.5, abs=0.05)
    assert np.abs(right).max() < 0.02, "the channels are not swapped"


def test_audio_and_video_are_interleaved(tmp_path: Path):
    source = make_video(tmp_path / "silent.mp4", 96)
    remux(source, tmp_path / "loud.mp4", container=MP4, audio=AudioClip(torch.zeros(1, 4 * 48_000), 48_000))
    with av.open(str(tmp_path / "loud.mp4")) as container:
        positions: dict[str, list[int]] = {"video": [], "audio": []}
        for packet in container.demux():
            if packet.size:
                positions[packet.stream.type].append(packet.pos)
    assert min(positions["audio"]) < np.median(positions["video"]) < max(positions["audio"])


def test_the_container_can_be_changed(clip_file: Path, tmp_path: Path):
    remux(clip_file, tmp_path / "copy.mkv", container=MKV)
    assert [p for p, _ in packets(tmp_path / "copy.mkv", "audio")] == [p for p, _ in packets(clip_file, "audio")]
    assert read_numbers(VideoClip(tmp_path / "copy.mkv")) == list(range(12))


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "ffv1"])
@pytest.mark.parametrize("count", [1, 2, 12])
def test_no_frame_of_any_codec_is_lost(codec: str, count: int, tmp_path: Path):
    clip = TensorClip(numbered_frames(count))
    write_video(tmp_path / "in.mkv", clip.frames(), clip.info, encoding=Encoding(codec))
    remux(tmp_path / "in.mkv", tmp_path / "copy.mkv", container=MKV)
    assert read_numbers(VideoClip(tmp_path / "copy.mkv")) == list(range(count))
    old, new = read_timestamps(tmp_path / "in.mkv"), read_timestamps(tmp_path / "copy.mkv")
    assert (new.starts, new.time_base) == (old.starts, old.time_base)


def test_what_the_container_cannot_hold_is_one_error_and_no_file(clip_file: Path, tmp_path: Path):
    with pytest.raises(ClipError, match=r"copy\.webm: copying source\.mp4 into webm failed"):
        remux(clip_file, tmp_path / "copy.webm", container=WEBM)
    with pytest.raises(ClipError, match="9 channels"):
        remux(clip_file, tmp_path / "copy.mp4", container=MP4, audio=AudioClip(torch.zeros(9, 100), 48_000))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source.mp4"]


@pytest.mark.parametrize("suffix", [".webm", ".mkv"])
def test_transparency_of_vp9_is_kept(tmp_path: Path, suffix: str):
    alpha = torch.linspace(0, 1, 64).view(1, 1, 1, 64).expand(5, 1, 48, 64)
    frames = torch.cat([numbered_frames(5), alpha], dim=1)
    info = TensorClip(frames).info
    write_video(tmp_path / "in.webm", iter(frames.split(1)), info, encoding=Encoding("vp9"))
    out = tmp_path / f"out{suffix}"
    remux(tmp_path / "in.webm", out, container=CONTAINERS[suffix])
    back = torch.cat([*VideoClip(out).frames()])
    assert back.shape == frames.shape
    assert (back[:, 3] - frames[:, 3]).abs().max() < 0.03
