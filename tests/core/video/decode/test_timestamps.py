"""Time ranges of videos: the same frames as ComfyUI's trim, with their audio."""

from __future__ import annotations

from fractions import Fraction
from math import inf
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from corrupt_videos import make_moving_video
from hypothesis import given, settings
from hypothesis import strategies as st
from numbered_video import make_video, read_number, read_numbers
from steadyscale.core.clip import ClipError
from steadyscale.core.jobs.run import run_job
from steadyscale.core.jobs.state.folder import open_job
from steadyscale.core.pipeline.pipeline import Pipeline
from steadyscale.core.video.decode.packets.demux import demux_packets
from steadyscale.core.video.decode.timestamps import TimeRange, Timestamps, frame_range, read_timestamps
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode.writer import write_video
from steadyscale.core.video.verify.verify import VerificationError, verify_output
from video_file_checks import CLIP_INFO, read_packet_times

UNEVEN = [0, 1000, 2000, 5000, 5500, 7000, 8000, 15000, 16000, 17000, 30000, 31000]  # of 1/24000 s


def trimmed_by_comfyui(path: Path, start: float, duration: float) -> list[int]:
    """Return the numbers of the frames that ComfyUI's trim yields."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        first, end = int(start / stream.time_base), int((start + duration) / stream.time_base)
        frames = [f for f in container.decode(stream) if f.pts >= first and (not duration or f.pts < end)]
        return [read_number(torch.from_numpy(f.to_ndarray(format="rgb24")).permute(2, 0, 1) / 255) for f in frames]


WINDOWS = [(0.125, 0.25), (0.1, 0.2), (0.0, 0.3), (0.3, 0.0), (1 / 3, 1 / 24), (0.2083333, 10.0)]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
@pytest.mark.parametrize("starts", [None, UNEVEN], ids=["even", "uneven"])
def test_a_window_has_the_frames_of_comfyuis_trim(tmp_path: Path, suffix: str, window: tuple[float, float], starts):
    if suffix == ".avi" and starts:
        starts = None
    path = make_video(tmp_path / f"clip{suffix}", codec="mpeg4" if suffix == ".avi" else "libx264", starts=starts,
                      time_base=Fraction(1, 24) if suffix == ".avi" else Fraction(1, 24000))  # fmt: skip
    clip = VideoClip(path, window=TimeRange(*window))
    expected = trimmed_by_comfyui(path, *window)
    assert expected
    assert read_numbers(clip, batch=2) == expected
    assert clip.info.length == len(expected)
    assert sum(1 for _ in clip.luma_frames(32)) == len(expected)
    assert [read_number(f[0]) for f in clip.frames(first=1)] == expected[1:]


def test_decoding_for_a_late_window_starts_shortly_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Decoding starts PREROLL_SECONDS earlier, and the frames are the same."""
    path = make_moving_video(tmp_path / "clip.mp4", count=60)
    with av.open(str(path)) as old, av.open(str(tmp_path / "slow.mkv"), "w") as sink:
        copy = sink.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.size:
                packet.pts, packet.dts, packet.duration = packet.pts * 24, packet.dts * 24, packet.duration * 24
                packet.stream = copy
                sink.mux(packet)
    read = []

    def count_packets(container, *streams, observer=None):
        for packet in demux_packets(container, *streams, observer=observer):
            read.append(packet)
            yield packet

    clip = VideoClip(tmp_path / "slow.mkv", window=TimeRange(40.0, 3.0))
    all_frames = [frame for batch in VideoClip(tmp_path / "slow.mkv").frames() for frame in batch]
    monkeypatch.setattr("steadyscale.core.video.decode.packets.demux.demux_packets", count_packets)
    frames = [frame for batch in clip.frames() for frame in batch]
    assert len(frames) == 3
    assert all(torch.equal(a, b) for a, b in zip(frames, all_frames[40:43], strict=True))
    assert len(read) < 40, "neither the first 20 seconds nor the last 10 are read"


@settings(max_examples=60, deadline=None)
@given(
    starts=st.lists(st.integers(0, 5000), min_size=1, max_size=30, unique=True).map(sorted),
    start=st.floats(0, 6, allow_nan=False),
    duration=st.floats(0, 6, allow_nan=False),
    rate=st.sampled_from([24, 1000, 24000, 90000]),
)
def test_frame_ranges_have_ends_rounded_down(starts: list[int], start: float, duration: float, rate: int):
    base = Fraction(1, rate)
    rows = frame_range(Timestamps(starts, [1] * len(starts), base, Fraction(0)), TimeRange(start, duration))
    end = int((start + duration) / base) if duration else inf
    assert [starts[i] for i in rows] == [s for s in starts if int(start / base) <= s < end]


def make_rising_tone(path: Path) -> Path:
    """Write 48 frames and a tone whose level is half its time in seconds."""
    make_moving_video(path.with_name("silent.mp4"), count=48)
    with av.open(str(path.with_name("silent.mp4"))) as old, av.open(str(path), "w") as sink:
        copy = sink.add_stream_from_template(old.streams.video[0])
        audio = sink.add_stream("pcm_s16le" if path.suffix == ".mkv" else "aac", rate=48000, layout="mono")
        for packet in old.demux(old.streams.video[0]):
            if packet.size:
                packet.stream = copy
                sink.mux(packet)
        for block in range(94):
            seconds = np.arange(block * 1024, block * 1024 + 1024) / 48000
            wave = (np.sin(seconds * 2 * np.pi * 1000) * seconds / 2).astype(np.float32)
            samples = (wave * 32767).astype(np.int16) if path.suffix == ".mkv" else wave
            sample_format = "s16" if path.suffix == ".mkv" else "fltp"
            block_frame = av.AudioFrame.from_ndarray(samples[None], format=sample_format, layout="mono")
            block_frame.sample_rate, block_frame.pts, block_frame.time_base = 48000, block * 1024, Fraction(1, 48000)
            sink.mux(audio.encode(block_frame))
        sink.mux(audio.encode(None))
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(
    "window", [TimeRange(0.5, 1.0), TimeRange(1.25, 0.0), TimeRange(0.0, 0.75), TimeRange(0.51, 0.31)]
)
def test_the_audio_of_a_window_is_that_of_its_time(tmp_path: Path, suffix: str, window: TimeRange):
    source, out = make_rising_tone(tmp_path / f"in{suffix}"), tmp_path / f"out{suffix}"
    clip = VideoClip(source, window=window)
    count = write_video(out, clip.frames(), clip.info, source=source, window=window)
    first = round(np.ceil(int(window.start * 24000) / 1000 - 1e-9))
    assert count == clip.info.length
    assert read_packet_times(out, "video")[0] == 0
    with av.open(str(out)) as container:
        frames = list(container.decode(audio=0))
        audio_start = frames[0].time
        wave = np.concatenate([f.to_ndarray()[0].astype(float) for f in frames])
        wave = wave / 32767 if suffix == ".mkv" else wave
    assert 0 <= audio_start < 0.03
    offset = 4800  # after 0.1 s; the peak of 10 ms is half the time
    level = np.abs(wave[offset : offset + 480]).max()
    assert level == pytest.approx((first / 24 + audio_start + 0.105) / 2, abs=0.02)
    length = min(window.duration or 9, 2.0 - window.start)
    assert len(wave) / 48000 + audio_start == pytest.approx(length, abs=0.05)


def test_subtitles_and_chapters_are_trimmed(tmp_path: Path):
    source, out = tmp_path / "in.mkv", tmp_path / "out.mkv"
    make_video(tmp_path / "plain.mkv", 48)
    with av.open(str(tmp_path / "plain.mkv")) as old, av.open(str(source), "w") as sink:
        video, subtitles = sink.add_stream_from_template(old.streams.video[0]), sink.add_mux_stream("subrip")
        names = [{"title": str(i)} for i in range(4)]
        thousand = Fraction(1, 1000)
        chapters = [
            {"id": i, "start": 500 * i, "end": 500 * i + 500, "time_base": thousand, "metadata": name}
            for i, name in enumerate(names)
        ]
        sink.set_chapters(chapters)
        for packet in old.demux(old.streams.video[0]):
            if packet.size:
                packet.stream = video
                sink.mux(packet)
        for number, (start, length) in enumerate([(0, 200), (300, 500), (700, 200), (1400, 200)]):
            packet = av.Packet(f"words {number}".encode())
            packet.stream, packet.time_base = subtitles, Fraction(1, 1000)
            packet.pts = packet.dts = start
            packet.duration = length
            sink.mux(packet)
    window = TimeRange(0.5, 0.75)
    clip = VideoClip(source, window=window)
    write_video(out, clip.frames(), clip.info, source=source, window=window)
    with av.open(str(out)) as container:
        lines = [(bytes(p), p.pts, p.duration) for p in container.demux(container.streams.subtitles[0]) if p.size]
        chapters = [(c["metadata"]["title"], float(c["start"] * c["time_base"]), float(c["end"] * c["time_base"]))
                    for c in container.chapters()]  # fmt: skip
    assert [(text[:7], start, length) for text, start, length in lines] == [
        (b"words 1", 0, 300),
        (b"words 2", 200, 200),
    ]
    assert chapters == [("1", 0.0, 0.5), ("2", 0.5, 0.75)]


def test_verification_takes_a_window(tmp_path: Path):
    source = make_video(tmp_path / "in.mp4", 12, audio_start=0.0)
    window = TimeRange(0.125, 0.25)
    clip = VideoClip(source, window=window)
    write_video(tmp_path / "out.mp4", clip.frames(), clip.info, source=source, window=window)
    verify_output(tmp_path / "out.mp4", source, frame_count=6, info=clip.info, window=window)
    with pytest.raises(VerificationError, match="the source has 12 frames"):
        verify_output(tmp_path / "out.mp4", source, frame_count=6, info=clip.info)
    with pytest.raises(VerificationError, match=r"the source has 7 frames"):
        verify_output(tmp_path / "out.mp4", source, frame_count=6, info=clip.info, window=TimeRange(0.125, 0.2917))
    with pytest.raises(ClipError, match=r"6 frames were received|more frames were received"):
        write_video(tmp_path / "no.mp4", clip.frames(), clip.info, source=source)


def test_a_job_of_a_window_resumes_and_another_window_starts_from_the_beginning(tmp_path: Path):
    source, target = make_video(tmp_path / "in.mp4", 24, audio_start=0.0), tmp_path / "out.mp4"

    def run(window: TimeRange, stop_at: int = 99):
        def stop(frames, computed):
            for number, frame in enumerate(frames):
                if number == stop_at:
                    raise KeyboardInterrupt
                yield frame

        with open_job(tmp_path / "job", source, window) as job:
            clip = VideoClip(source, window=window)
            return run_job(job, Pipeline(clip), target, segment_seconds=0.2, progress=stop)

    with pytest.raises(KeyboardInterrupt):
        run(TimeRange(0.25, 0.5), 8)
    assert run(TimeRange(0.25, 0.5)) == (12, 3, 1)
    assert read_numbers(VideoClip(target)) == [*range(6, 18)]
    with pytest.raises(KeyboardInterrupt):
        run(TimeRange(0.25, 0.5), 8)
    assert run(TimeRange(0.3, 0.5)).reused == 0


@pytest.mark.parametrize(("start", "duration"), [(-1.0, 0.0), (0.0, -1.0), (float("nan"), 1.0), (inf, 0.0)])
def test_invalid_time_ranges_are_refused(start: float, duration: float):
    with pytest.raises(ClipError, match="a time range needs a start and a duration of 0 s or more"):
        TimeRange(start, duration)


def test_an_empty_window_is_refused_with_the_length_of_the_clip(tmp_path: Path):
    path = make_video(tmp_path / "in.mp4", 12)
    with pytest.raises(ClipError, match=r"in\.mp4: no frame starts between 3 s and 4 s of its 0\.5 s"):
        VideoClip(path, window=TimeRange(3.0, 1.0))
    with pytest.raises(ClipError, match="no frame starts"):
        read_timestamps(path, TimeRange(0.01, 0.02))


def test_frames_without_timestamps_are_evenly_spaced_around_those_that_have_one(tmp_path: Path):
    """A Matroska file that starts before 0: its first frames have no timestamp there."""
    source, shifted = tmp_path / "whole.mp4", tmp_path / "cut.mkv"
    make_video(source, 24, time_base=Fraction(1, 24), audio_start=0.0)
    with (
        av.open(str(source)) as old,
        av.open(str(shifted), "w", container_options={"avoid_negative_ts": "disabled"}) as new,
    ):
        streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        for packet in old.demux():
            if packet.dts is not None:
                shift = round(Fraction(2, 5) / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = streams[packet.stream.index]
                new.mux(packet)
    times = read_timestamps(shifted)
    assert (times.is_exact, len(times.starts), times.starts[0]) == (False, 24, 0)
    assert float(times.origin) == pytest.approx(-0.4, abs=0.05)
    write_video(tmp_path / "out.mp4", VideoClip(shifted).frames(), CLIP_INFO, source=shifted)
    assert read_numbers(VideoClip(tmp_path / "out.mp4")) == list(range(24))
    with av.open(str(tmp_path / "out.mp4")) as container:
        starts = [
            stream.start_time * stream.time_base for stream in (container.streams.video[0], container.streams.audio[0])
        ]
    assert abs(starts[0] - starts[1]) < 0.05
