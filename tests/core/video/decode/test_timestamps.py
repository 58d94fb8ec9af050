"""Parts of a video: the frames that ComfyUI's own trim takes, with the sound of that time."""

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
from steadyscale.core.jobs.folder import open_job
from steadyscale.core.jobs.run import run_job
from steadyscale.core.pipeline.pipeline import Pipeline
from steadyscale.core.video.decode.demux import demux_packets
from steadyscale.core.video.decode.timestamps import TimeRange, Timestamps, frame_range, read_timestamps
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode.writer import write_video
from steadyscale.core.video.verify.verify import VerificationError, verify_output
from video_file_checks import CLIP_INFO, read_packet_times

UNEVEN = [0, 1000, 2000, 5000, 5500, 7000, 8000, 15000, 16000, 17000, 30000, 31000]  # of 1/24000 s


def by_the_host(path: Path, start: float, duration: float) -> list[int]:
    """The numbers that ComfyUI's trim shows: decoded from the begin, compared as its code does."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        first, end = int(start / stream.time_base), int((start + duration) / stream.time_base)
        shown = [f for f in container.decode(stream) if f.pts >= first and (not duration or f.pts < end)]
        return [read_number(torch.from_numpy(f.to_ndarray(format="rgb24")).permute(2, 0, 1) / 255) for f in shown]


WINDOWS = [(0.125, 0.25), (0.1, 0.2), (0.0, 0.3), (0.3, 0.0), (1 / 3, 1 / 24), (0.2083333, 10.0)]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
@pytest.mark.parametrize("starts", [None, UNEVEN], ids=["even", "uneven"])
def test_a_window_shows_what_the_host_shows(tmp_path: Path, suffix: str, window: tuple[float, float], starts):
    if suffix == ".avi" and starts:
        starts = None
    path = make_video(tmp_path / f"clip{suffix}", codec="mpeg4" if suffix == ".avi" else "libx264", starts=starts,
                      time_base=Fraction(1, 24) if suffix == ".avi" else Fraction(1, 24000))  # fmt: skip
    clip = VideoClip(path, window=TimeRange(*window))
    expected = by_the_host(path, *window)
    assert expected
    assert read_numbers(clip, batch=2) == expected
    assert clip.info.length == len(expected)
    assert sum(1 for _ in clip.luma_frames(32)) == len(expected)
    assert [read_number(f[0]) for f in clip.frames(first=1)] == expected[1:]


def test_a_late_window_is_read_from_near_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Half a minute into the file: what is read begins a run-up before, and shows the same frames."""
    path = make_moving_video(tmp_path / "clip.mp4", count=60)
    with av.open(str(path)) as old, av.open(str(tmp_path / "slow.mkv"), "w") as sink:
        copy = sink.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.size:
                packet.pts, packet.dts, packet.duration = packet.pts * 24, packet.dts * 24, packet.duration * 24
                packet.stream = copy
                sink.mux(packet)
    read = []

    def counted(container, *streams, observer=None):
        for packet in demux_packets(container, *streams, observer=observer):
            read.append(packet)
            yield packet

    clip = VideoClip(tmp_path / "slow.mkv", window=TimeRange(40.0, 3.0))
    whole = [frame for batch in VideoClip(tmp_path / "slow.mkv").frames() for frame in batch]
    monkeypatch.setattr("steadyscale.core.video.decode.demux.demux_packets", counted)
    part = [frame for batch in clip.frames() for frame in batch]
    assert len(part) == 3
    assert all(torch.equal(a, b) for a, b in zip(part, whole[40:43], strict=True))
    assert len(read) < 40, "the first twenty seconds are not touched, nor the last ten"


@settings(max_examples=60, deadline=None)
@given(
    starts=st.lists(st.integers(0, 5000), min_size=1, max_size=30, unique=True).map(sorted),
    start=st.floats(0, 6, allow_nan=False),
    duration=st.floats(0, 6, allow_nan=False),
    rate=st.sampled_from([24, 1000, 24000, 90000]),
)
def test_rows_are_those_between_the_rounded_ends(starts: list[int], start: float, duration: float, rate: int):
    base = Fraction(1, rate)
    rows = frame_range(Timestamps(starts, [1] * len(starts), base, Fraction(0)), TimeRange(start, duration))
    end = int((start + duration) / base) if duration else inf
    assert [starts[i] for i in rows] == [s for s in starts if int(start / base) <= s < end]


def tone(path: Path) -> Path:
    """48 frames, and a sound whose level rises with the time, so that each moment of it is known."""
    make_moving_video(path.with_name("silent.mp4"), count=48)
    with av.open(str(path.with_name("silent.mp4"))) as old, av.open(str(path), "w") as sink:
        copy = sink.add_stream_from_template(old.streams.video[0])
        voice = sink.add_stream("pcm_s16le" if path.suffix == ".mkv" else "aac", rate=48000, layout="mono")
        for packet in old.demux(old.streams.video[0]):
            if packet.size:
                packet.stream = copy
                sink.mux(packet)
        for block in range(94):
            at = np.arange(block * 1024, block * 1024 + 1024) / 48000
            wave = (np.sin(at * 2 * np.pi * 1000) * at / 2).astype(np.float32)
            data = (wave * 32767).astype(np.int16) if path.suffix == ".mkv" else wave
            kind = "s16" if path.suffix == ".mkv" else "fltp"
            piece = av.AudioFrame.from_ndarray(data[None], format=kind, layout="mono")
            piece.sample_rate, piece.pts, piece.time_base = 48000, block * 1024, Fraction(1, 48000)
            sink.mux(voice.encode(piece))
        sink.mux(voice.encode(None))
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(
    "window", [TimeRange(0.5, 1.0), TimeRange(1.25, 0.0), TimeRange(0.0, 0.75), TimeRange(0.51, 0.31)]
)
def test_the_sound_of_a_part_is_that_of_its_time(tmp_path: Path, suffix: str, window: TimeRange):
    source, out = tone(tmp_path / f"in{suffix}"), tmp_path / f"out{suffix}"
    clip = VideoClip(source, window=window)
    count = write_video(out, clip.frames(), clip.info, source=source, window=window)
    first = round(np.ceil(int(window.start * 24000) / 1000 - 1e-9))
    assert count == clip.info.length
    assert read_packet_times(out, "video")[0] == 0
    with av.open(str(out)) as made:
        frames = list(made.decode(audio=0))
        begin = frames[0].time
        wave = np.concatenate([f.to_ndarray()[0].astype(float) for f in frames])
        wave = wave / 32767 if suffix == ".mkv" else wave
    assert 0 <= begin < 0.03
    at = 4800  # 0.1 s on; the loudest of 10 ms there is the time, divided by two
    level = np.abs(wave[at : at + 480]).max()
    assert level == pytest.approx((first / 24 + begin + 0.105) / 2, abs=0.02)
    length = min(window.duration or 9, 2.0 - window.start)
    assert len(wave) / 48000 + begin == pytest.approx(length, abs=0.05)


def test_subtitles_and_chapters_are_cut_too(tmp_path: Path):
    source, out = tmp_path / "in.mkv", tmp_path / "out.mkv"
    make_video(tmp_path / "plain.mkv", 48)
    with av.open(str(tmp_path / "plain.mkv")) as old, av.open(str(source), "w") as sink:
        video, words = sink.add_stream_from_template(old.streams.video[0]), sink.add_mux_stream("subrip")
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
            packet.stream, packet.time_base = words, Fraction(1, 1000)
            packet.pts = packet.dts = start
            packet.duration = length
            sink.mux(packet)
    window = TimeRange(0.5, 0.75)
    clip = VideoClip(source, window=window)
    write_video(out, clip.frames(), clip.info, source=source, window=window)
    with av.open(str(out)) as made:
        said = [(bytes(p), p.pts, p.duration) for p in made.demux(made.streams.subtitles[0]) if p.size]
        chapters = [(c["metadata"]["title"], float(c["start"] * c["time_base"]), float(c["end"] * c["time_base"]))
                    for c in made.chapters()]  # fmt: skip
    assert [(text[:7], start, length) for text, start, length in said] == [(b"words 1", 0, 300), (b"words 2", 200, 200)]
    assert chapters == [("1", 0.0, 0.5), ("2", 0.5, 0.75)]


def test_the_contract_knows_the_part(tmp_path: Path):
    source = make_video(tmp_path / "in.mp4", 12, audio_start=0.0)
    window = TimeRange(0.125, 0.25)
    clip = VideoClip(source, window=window)
    write_video(tmp_path / "out.mp4", clip.frames(), clip.info, source=source, window=window)
    verify_output(tmp_path / "out.mp4", source, frame_count=6, info=clip.info, window=window)
    with pytest.raises(VerificationError, match="the source has 12 frames"):
        verify_output(tmp_path / "out.mp4", source, frame_count=6, info=clip.info)
    with pytest.raises(VerificationError, match=r"the source has 7 frames"):
        verify_output(tmp_path / "out.mp4", source, frame_count=6, info=clip.info, window=TimeRange(0.125, 0.2917))
    with pytest.raises(ClipError, match=r"6 frames came|more frames came"):
        write_video(tmp_path / "no.mp4", clip.frames(), clip.info, source=source)


def test_a_job_of_a_part_goes_on_and_another_part_starts_afresh(tmp_path: Path):
    source, target = make_video(tmp_path / "in.mp4", 24, audio_start=0.0), tmp_path / "out.mp4"

    def run(window: TimeRange, stop_at: int = 99):
        def watch(frames, kept):
            for number, frame in enumerate(frames):
                if number == stop_at:
                    raise KeyboardInterrupt
                yield frame

        with open_job(tmp_path / "job", source, window) as job:
            clip = VideoClip(source, window=window)
            return run_job(job, Pipeline(clip), target, segment_seconds=0.2, progress=watch)

    with pytest.raises(KeyboardInterrupt):
        run(TimeRange(0.25, 0.5), 8)
    assert run(TimeRange(0.25, 0.5)) == (12, 3, 1)
    assert read_numbers(VideoClip(target)) == [*range(6, 18)]
    with pytest.raises(KeyboardInterrupt):
        run(TimeRange(0.25, 0.5), 8)
    assert run(TimeRange(0.3, 0.5)).reused == 0


@pytest.mark.parametrize(("start", "duration"), [(-1.0, 0.0), (0.0, -1.0), (float("nan"), 1.0), (inf, 0.0)])
def test_what_is_no_part_is_refused(start: float, duration: float):
    with pytest.raises(ClipError, match="a part of a video cannot begin"):
        TimeRange(start, duration)


def test_an_empty_part_is_refused_with_the_length(tmp_path: Path):
    path = make_video(tmp_path / "in.mp4", 12)
    with pytest.raises(ClipError, match=r"in\.mp4: no frame begins within 3 s and 4 s of its 0\.5 s"):
        VideoClip(path, window=TimeRange(3.0, 1.0))
    with pytest.raises(ClipError, match="no frame begins"):
        read_timestamps(path, TimeRange(0.01, 0.02))


def test_frames_without_times_are_evenly_spaced_from_where_those_with_times_are(tmp_path: Path):
    """A Matroska file cut so that it begins before 0: its first pictures have no time there, its sound does."""
    whole, cut = (
        make_video(tmp_path / "whole.mp4", 24, time_base=Fraction(1, 24), audio_start=0.0),
        tmp_path / "cut.mkv",
    )
    with av.open(str(whole)) as old, av.open(str(cut), "w", container_options={"avoid_negative_ts": "disabled"}) as new:
        streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        for packet in old.demux():
            if packet.dts is not None:
                early = round(Fraction(2, 5) / packet.time_base)
                packet.pts, packet.dts = packet.pts - early, packet.dts - early
                packet.stream = streams[packet.stream.index]
                new.mux(packet)
    times = read_timestamps(cut)
    assert (times.is_exact, len(times.starts), times.starts[0]) == (False, 24, 0)
    assert float(times.origin) == pytest.approx(-0.4, abs=0.05)
    write_video(tmp_path / "out.mp4", VideoClip(cut).frames(), CLIP_INFO, source=cut)
    assert read_numbers(VideoClip(tmp_path / "out.mp4")) == list(range(24))
    with av.open(str(tmp_path / "out.mp4")) as made:
        begins = [stream.start_time * stream.time_base for stream in (made.streams.video[0], made.streams.audio[0])]
    assert abs(begins[0] - begins[1]) < 0.05
