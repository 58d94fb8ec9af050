"""What is copied from the source: audio, subtitles, metadata, timestamps."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import av
import av.logging
import numpy as np
import pytest
from numbered_video import make_video, numbered_frames, read_numbers
from steadyscale.core.clip import ClipError
from steadyscale.core.jobs.run import run_job
from steadyscale.core.jobs.state.folder import open_job
from steadyscale.core.pipeline.pipeline import Pipeline
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode import stream_copy
from steadyscale.core.video.encode.codecs import CONTAINERS
from steadyscale.core.video.encode.remux import remux
from steadyscale.core.video.encode.writer import write_video
from video_file_checks import CLIP_INFO, list_files, read_packet_bytes, read_packet_times, split_batches


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize("late", [0.5, 0.0, 0.21])
def test_audio_is_copied_at_its_offset(tmp_path: Path, suffix: str, late: float):
    source = make_video(tmp_path / "source.mp4", audio_start=late, metadata={"title": "twelve bars"})
    out = tmp_path / f"out{suffix}"
    assert write_video(out, split_batches(numbered_frames(12, 128, 96)), CLIP_INFO, source=source) == 12
    # The encoder's priming samples are skipped by an edit list, which Matroska does not have.
    skipped = 1 if suffix == ".mkv" and late == 0 else 0
    assert read_packet_bytes(out, "audio") == read_packet_bytes(source, "audio")[skipped:], (
        "the packets are those of the source"
    )
    before = read_packet_times(source, "audio")[skipped] - read_packet_times(source, "video")[0]
    after = read_packet_times(out, "audio")[0] - read_packet_times(out, "video")[0]
    assert abs(after - before) <= Fraction(1, 1000)
    with av.open(str(out)) as container:
        assert container.metadata["title"] == "twelve bars"


def measure_audio(path: Path) -> tuple[int, float]:
    """Return the number of audio samples, and their start in seconds.

    The start is relative to the first frame.
    """
    with av.open(str(path)) as container:
        first = next(container.decode(video=0)).time
    with av.open(str(path)) as container:
        pieces = list(container.decode(audio=0))
    return sum(piece.samples for piece in pieces), pieces[0].time - first


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".webm"])
def test_audio_that_an_edit_list_skips_stays_skipped(tmp_path: Path, suffix: str):
    make_video(tmp_path / "whole.mp4", codec="mpeg4", audio_start=0.0)
    source, out = tmp_path / "cut.mp4", tmp_path / f"out{suffix}"
    with av.open(str(tmp_path / "whole.mp4")) as old, av.open(str(source), "w") as sink:
        outputs = [sink.add_stream_from_template(s) for s in old.streams]
        for packet in old.demux():
            if packet.size:
                shift = round(Fraction(1, 4) / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = outputs[packet.stream_index]
                sink.mux(packet)
    samples, start = measure_audio(source)
    assert samples < 12_000
    clip = VideoClip(source)
    write_video(out, clip.frames(), clip.info, source=source)
    new_samples, new_start = measure_audio(out)
    assert abs(new_samples - samples) <= 1024, "whole packets"
    assert abs(new_start - start) <= 1024 / 48_000 + 0.001


def test_all_audio_tracks_and_their_languages_are_copied(tmp_path: Path):
    source = tmp_path / "two.mkv"
    make_video(tmp_path / "one.mkv", 6, audio_start=0)
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
    write_video(out, split_batches(numbered_frames(6)), CLIP_INFO, source=source)
    with av.open(str(out)) as container:
        assert [s.language for s in container.streams.audio] == ["eng", "deu"]


def test_audio_that_the_container_cannot_hold_is_reencoded_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    source = make_video(tmp_path / "source.mp4", audio_start=0.5)
    out = tmp_path / "out.webm"
    write_video(out, split_batches(numbered_frames(12)), CLIP_INFO, source=source)
    assert "re-encoded to libopus" in caplog.text
    with av.open(str(out)) as container:
        samples = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    assert abs(len(samples) - 20 * 1024) < 3000
    assert 0.2 < np.abs(samples[4000:16000]).max() < 0.8
    assert abs(float(read_packet_times(out, "audio")[0]) - 0.5) < 0.05


def make_audio_video(path: Path, codec: str, layout: str, rate: int = 48_000) -> Path:
    """Write 12 frames and a second of audio.

    The channels are tones of 400, 800, 1200 … Hz.
    """
    suffix, video_codec = (".silent.mkv", "libvpx") if path.suffix == ".ogv" else (".silent.mp4", "mpeg4")
    silent = make_video(path.with_suffix(suffix), codec=video_codec, time_base=Fraction(1, 24))
    with av.open(str(silent)) as old, av.open(str(path), "w") as sink:
        copy = sink.add_stream_from_template(old.streams.video[0])
        options = {"strict": "experimental"} if codec == "vorbis" else {}
        audio = sink.add_stream(codec, rate=rate, layout=layout, options=options)
        audio.bit_rate = 64_000 * audio.layout.nb_channels
        sample_format = (audio.codec_context.codec.audio_formats or [av.AudioFormat("fltp")])[0].name
        resampler = av.AudioResampler(format=sample_format, layout=layout, rate=rate)
        for packet in old.demux(old.streams.video[0]):
            if packet.size:
                packet.stream = copy
                sink.mux(packet)
        for first in range(0, rate, rate // 20):
            seconds = np.arange(first, first + rate // 20) / rate
            tones = [np.sin(seconds * 2 * np.pi * 400 * (n + 1)) / 4 for n in range(audio.layout.nb_channels)]
            samples = np.stack(tones, axis=1).reshape(1, -1).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(samples, format="flt", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, first, Fraction(1, rate)
            for resampled in resampler.resample(frame):
                sink.mux(audio.encode(resampled))
        sink.mux(audio.encode(None))
    silent.unlink()
    return path


def read_tones(path: Path) -> tuple[str, str, list[int]]:
    """Return codec and layout of the audio, and the main frequency of each channel.

    Rounded to 20 Hz.
    """
    with av.open(str(path)) as container:
        audio = container.streams.audio[0]
        samples = np.concatenate([f.to_ndarray() for f in container.decode(audio)], axis=1)
        assert 0.9 < samples.shape[1] / audio.rate < 1.15
        middle = samples[:, audio.rate // 4 :][:, : audio.rate // 2]
        peaks = np.abs(np.fft.rfft(middle)).argmax(axis=1) * 2
        return audio.codec_context.name, audio.layout.name, [round(hertz / 20) * 20 for hertz in peaks.tolist()]


@pytest.mark.parametrize(
    ("source", "codec", "layout", "target", "becomes"),
    [
        ("in.avi", "pcm_mulaw", "mono", ".mp4", ("aac", "mono", [400])),  # neither file stores a channel layout
        ("in.avi", "adpcm_ms", "stereo", ".mp4", ("aac", "stereo", [400, 800])),
        ("in.wmv", "wmav2", "stereo", ".mov", ("aac", "stereo", [400, 800])),
        ("in.wmv", "wmav2", "mono", ".mkv", ("opus", "mono", [400])),  # its decoder drops the first two packets
        ("in.mkv", "flac", "stereo", ".mov", ("aac", "stereo", [400, 800])),
        ("in.mkv", "libopus", "stereo", ".mov", ("aac", "stereo", [400, 800])),
        ("in.ogv", "vorbis", "stereo", ".mp4", ("vorbis", "stereo", [400, 800])),
        ("in.ogv", "vorbis", "stereo", ".mkv", ("vorbis", "stereo", [400, 800])),
        ("in.mkv", "eac3", "5.1(side)", ".webm", ("opus", "5.1", [400, 800, 1200, 0, 2000, 2400])),
    ],
    ids=[
        "mulaw",
        "adpcm",
        "wma to mov",
        "wma to mkv",
        "flac to mov",
        "opus to mov",
        "ogg to mp4",
        "ogg to mkv",
        "side",
    ],
)
def test_audio_of_every_codec_is_written(
    source: str, codec: str, layout: str, target: str, becomes: tuple, tmp_path: Path
):
    path = make_audio_video(tmp_path / source, codec, layout, 44_100 if codec == "wmav2" else 48_000)
    out = tmp_path / f"out{target}"
    clip = VideoClip(path)
    write_video(out, clip.frames(), clip.info, source=path)
    codec, layout, tones = read_tones(out)
    expected_codec, expected_layout, expected = becomes
    assert (codec, layout) == (expected_codec, expected_layout)
    assert [t for t, e in zip(tones, expected, strict=True) if e] == [e for e in expected if e], "0: the LFE channel"


@pytest.mark.parametrize("layout", ["stereo", "5.1", "7.1"])
@pytest.mark.parametrize("source", ["in.avi", "in.mkv"])
def test_pcm_without_a_channel_layout_is_copied(source: str, layout: str, tmp_path: Path):
    """AVI and Matroska store none, and MP4 refuses that when the file is closed, except for one channel."""
    path, out = make_audio_video(tmp_path / source, "pcm_s16le", layout), tmp_path / "out.mp4"
    clip = VideoClip(path)
    write_video(out, clip.frames(), clip.info, source=path)
    remux(path, tmp_path / "copy.mp4", container=CONTAINERS[".mp4"])
    with open_job(tmp_path / "job", path) as job:
        run_job(job, Pipeline(VideoClip(path)), tmp_path / "job.mp4", segment_seconds=0.2)
    for result in (out, tmp_path / "copy.mp4", tmp_path / "job.mp4"):
        with av.open(str(result)) as container:
            audio = container.streams.audio[0]
            assert (audio.codec_context.name, audio.layout.name) == ("pcm_s16le", layout)
        assert b"".join(read_packet_bytes(result, "audio")) == b"".join(read_packet_bytes(path, "audio"))


def test_an_error_of_closing_has_the_reason_that_ffmpeg_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, out = make_audio_video(tmp_path / "in.mkv", "pcm_s16le", "stereo"), tmp_path / "out.mp4"
    monkeypatch.setattr(stream_copy, "_add_copy", lambda target, stream: target.add_stream_from_template(stream))
    monkeypatch.setattr(stream_copy, "_check_muxable", lambda *_: None)
    clip = VideoClip(path)
    with pytest.raises(ClipError, match=r"Invalid argument \(unsupported channel layout 2 channels\); check"):
        write_video(out, clip.frames(), clip.info, source=path)
    with pytest.raises(ClipError, match=r"Invalid argument \(unsupported channel layout 2 channels\); choose"):
        remux(path, out, container=CONTAINERS[".mp4"])
    with (
        open_job(tmp_path / "job", path) as job,
        pytest.raises(ClipError, match=r"Invalid argument \(unsupported channel layout 2 channels\); check"),
    ):
        run_job(job, Pipeline(VideoClip(path)), out, segment_seconds=0.2)
    assert av.logging.get_level() is None


@pytest.mark.parametrize(("suffix", "encoder"), [(".webm", "libopus"), (".mp4", "aac")])
def test_audio_that_cannot_be_written_is_reported_at_the_first_frame(suffix: str, encoder: str, tmp_path: Path):
    source = make_audio_video(tmp_path / "in.mkv", "pcm_s16le", "22.2")
    computed = []

    def frames():
        for number in range(12):
            computed.append(number)
            yield numbered_frames(1)

    with pytest.raises(ClipError, match=rf"audio track 1 \(pcm_s16le\) cannot be re-encoded to {encoder}"):
        write_video(tmp_path / f"out{suffix}", frames(), CLIP_INFO, source=source)
    assert len(computed) == 1
    assert list_files(tmp_path) == ["in.mkv"]


@pytest.mark.parametrize(("kind", "was", "becomes"), [("mov_text", ".mp4", ".mkv"), ("subrip", ".mkv", ".mp4")])
def test_subtitles_that_the_container_cannot_hold_are_dropped_with_a_warning(
    kind: str, was: str, becomes: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    source = tmp_path / f"in{was}"
    make_video(tmp_path / f"plain{was}")
    with av.open(str(tmp_path / f"plain{was}")) as old, av.open(str(source), "w") as sink:
        video, subtitles = sink.add_stream_from_template(old.streams.video[0]), sink.add_mux_stream(kind)
        for packet in old.demux(old.streams.video[0]):
            if packet.size:
                packet.stream = video
                sink.mux(packet)
        packet = av.Packet(b"\x00\x05words" if kind == "mov_text" else b"words")
        packet.stream, packet.time_base = subtitles, Fraction(1, 1000)
        packet.pts, packet.dts, packet.duration = 0, 0, 200
        sink.mux(packet)
    clip = VideoClip(source)
    write_video(tmp_path / f"out{becomes}", clip.frames(), clip.info, source=source)
    assert "is not copied" in caplog.text
    assert ".mkv can" not in caplog.text


UNEVEN = list(itertools.accumulate([0, 1000, 1000, 3000, 500, 1500, 1000, 7000, 1000, 1000]))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".mov"])
@pytest.mark.parametrize("offset", [0, 6000])
def test_uneven_timestamps_are_kept(tmp_path: Path, suffix: str, offset: int):
    source = make_video(tmp_path / "source.mp4", starts=[s + offset for s in UNEVEN])
    out = tmp_path / f"out{suffix}"
    clip = VideoClip(source)
    assert write_video(out, clip.frames(3), clip.info, source=source) == len(UNEVEN)
    assert read_numbers(VideoClip(out)) == list(range(len(UNEVEN)))
    expected = read_packet_times(source, "video")
    assert expected == [Fraction(s + offset, 24000) for s in UNEVEN]
    for was, now in zip(expected, read_packet_times(out, "video"), strict=True):
        assert abs(was - now) <= Fraction(1, 1000)


def test_a_broadcast_starts_at_zero(tmp_path: Path):
    starts = [900_000 + 3750 * i for i in range(8)]
    source = make_video(tmp_path / "source.ts", time_base=Fraction(1, 90000), starts=starts, audio_start=10.1)
    out = tmp_path / "out.mp4"
    clip = VideoClip(source)
    write_video(out, clip.frames(), clip.info, source=source)
    assert float(read_packet_times(out, "video")[0]) < 0.2
    gap = read_packet_times(source, "audio")[0] - read_packet_times(source, "video")[0]
    assert abs(read_packet_times(out, "audio")[0] - read_packet_times(out, "video")[0] - gap) <= Fraction(1, 1000)


def test_rotation_is_applied_once(tmp_path: Path):
    source = make_video(tmp_path / "source.mp4", 3, rotation=90, pixel_aspect=Fraction(4, 3))
    clip = VideoClip(source)
    out = tmp_path / "out.mp4"
    write_video(out, clip.frames(), clip.info, source=source)
    again = VideoClip(out)
    assert (again.info.width, again.info.height) == (48, 64)
    assert again.stream_format.orientation.transpose is False
    assert again.stream_format.pixel_aspect == Fraction(3, 4), "the pixel aspect ratio is rotated too"
    for a, b in zip(clip.frames(), again.frames(), strict=True):
        assert (a - b).abs().mean() < 0.02


@pytest.mark.parametrize("count", [11, 13])
def test_another_number_of_frames_than_the_source_is_an_error(tmp_path: Path, clip_file: Path, count: int):
    with pytest.raises(ClipError, match=r"12.*source|source.*12"):
        write_video(tmp_path / "out.mp4", split_batches(numbered_frames(count)), CLIP_INFO, source=clip_file)
    assert list_files(tmp_path) == [clip_file.name]
