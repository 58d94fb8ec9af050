"""What is taken over from the source: sound, names, times, the way up."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from counting import make_video, numbered, numbers_of
from files_made import INFO, batches, packet_bytes, packet_times, remains
from steadyscale.core.clip import ClipError
from steadyscale.core.video.encode import write_video
from steadyscale.core.video.reader import VideoClip


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize("late", [0.5, 0.0, 0.21])
def test_sound_is_copied_at_its_offset(tmp_path: Path, suffix: str, late: float):
    source = make_video(tmp_path / "source.mp4", audio_at=late, metadata={"title": "twelve bars"})
    out = tmp_path / f"out{suffix}"
    assert write_video(out, batches(numbered(12, 128, 96)), INFO, source=source) == 12
    assert packet_bytes(out, "audio") == packet_bytes(source, "audio"), "the packets are the source's own"
    before = packet_times(source, "audio")[0] - packet_times(source, "video")[0]
    after = packet_times(out, "audio")[0] - packet_times(out, "video")[0]
    assert abs(after - before) <= Fraction(1, 1000)
    with av.open(str(out)) as container:
        assert container.metadata["title"] == "twelve bars"


def test_all_sound_tracks_and_their_languages(tmp_path: Path):
    source = tmp_path / "two.mkv"
    make_video(tmp_path / "one.mkv", 6, audio_at=0)
    with av.open(str(tmp_path / "one.mkv")) as old, av.open(str(source), "w") as sink:
        video, first = old.streams
        outs = [sink.add_stream_from_template(s) for s in (video, first, first)]
        for out, language in zip(outs[1:], ("eng", "deu"), strict=True):
            out.metadata["language"] = language
        for packet in list(old.demux(video, first)):
            if packet.size and packet.stream_index == 0:
                packet.stream = outs[0]
                sink.mux(packet)
            elif packet.size:
                twin = av.Packet(bytes(packet))
                twin.pts, twin.dts, twin.time_base, twin.stream = packet.pts, packet.dts, packet.time_base, outs[2]
                packet.stream = outs[1]
                sink.mux([packet, twin])
    out = tmp_path / "out.mp4"
    write_video(out, batches(numbered(6)), INFO, source=source)
    with av.open(str(out)) as container:
        assert [s.language for s in container.streams.audio] == ["eng", "deu"]


def test_sound_that_does_not_fit_is_reencoded_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    source = make_video(tmp_path / "source.mp4", audio_at=0.5)
    out = tmp_path / "out.webm"
    write_video(out, batches(numbered(12)), INFO, source=source)
    assert "re-encoded to libopus" in caplog.text
    with av.open(str(out)) as container:
        sound = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    assert abs(len(sound) - 20 * 1024) < 3000
    assert 0.2 < np.abs(sound[4000:16000]).max() < 0.8
    assert abs(float(packet_times(out, "audio")[0]) - 0.5) < 0.05


UNEVEN = list(itertools.accumulate([0, 1000, 1000, 3000, 500, 1500, 1000, 7000, 1000, 1000]))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".mov"])
@pytest.mark.parametrize("offset", [0, 6000])
def test_uneven_timestamps_are_kept(tmp_path: Path, suffix: str, offset: int):
    source = make_video(tmp_path / "source.mp4", starts=[s + offset for s in UNEVEN])
    out = tmp_path / f"out{suffix}"
    clip = VideoClip(source)
    assert write_video(out, clip.frames(3), clip.info, source=source) == len(UNEVEN)
    assert numbers_of(VideoClip(out)) == list(range(len(UNEVEN)))
    expected = packet_times(source, "video")
    assert expected == [Fraction(s + offset, 24000) for s in UNEVEN]
    for was, now in zip(expected, packet_times(out, "video"), strict=True):
        assert abs(was - now) <= Fraction(1, 1000)


def test_a_broadcast_starts_at_zero(tmp_path: Path):
    starts = [900_000 + 3750 * i for i in range(8)]
    source = make_video(tmp_path / "source.ts", base=Fraction(1, 90000), starts=starts, audio_at=10.1)
    out = tmp_path / "out.mp4"
    clip = VideoClip(source)
    write_video(out, clip.frames(), clip.info, source=source)
    assert float(packet_times(out, "video")[0]) < 0.2
    gap = packet_times(source, "audio")[0] - packet_times(source, "video")[0]
    assert abs(packet_times(out, "audio")[0] - packet_times(out, "video")[0] - gap) <= Fraction(1, 1000)


def test_rotation_is_applied_once(tmp_path: Path):
    source = make_video(tmp_path / "source.mp4", 3, rotation=90, pixel_aspect=Fraction(4, 3))
    clip = VideoClip(source)
    out = tmp_path / "out.mp4"
    write_video(out, clip.frames(), clip.info, source=source)
    again = VideoClip(out)
    assert (again.info.width, again.info.height) == (48, 64)
    assert again.stored.orientation.transpose is False
    assert again.stored.pixel_aspect == Fraction(3, 4), "the pixel's shape turns with the picture"
    for a, b in zip(clip.frames(), again.frames(), strict=True):
        assert (a - b).abs().mean() < 0.02


@pytest.mark.parametrize("count", [11, 13])
def test_another_number_of_frames_than_the_source_is_an_error(tmp_path: Path, clip_file: Path, count: int):
    with pytest.raises(ClipError, match=r"12.*source|source.*12"):
        write_video(tmp_path / "out.mp4", batches(numbered(count)), INFO, source=clip_file)
    assert remains(tmp_path) == [clip_file.name]
