"""Timestamps that are repeated, missing, or start again: known results, and audio in sync."""

from __future__ import annotations

from array import array
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from clock_videos import (
    OPEN_GOP,
    cut_start,
    end_time,
    join_bytes,
    key_packets,
    make_clip,
    raw_times,
    repeat_timestamps,
)
from numbered_video import read_numbers
from steadyscale.core.clip import ClipError
from steadyscale.core.jobs.run import run_job
from steadyscale.core.jobs.state.folder import open_job
from steadyscale.core.pipeline.pipeline import Pipeline
from steadyscale.core.video.decode.corruption_report import OnDamage
from steadyscale.core.video.decode.packets.repair import MISSING, repair_pts
from steadyscale.core.video.decode.timestamps import TimeRange, read_timestamps
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode.writer import write_video

MS = Fraction(1, 1000)
NO_B_FRAMES = {"bf": "0"}


def write(source: Path, target: Path, policy: OnDamage = OnDamage.FAIL, window: TimeRange | None = None) -> VideoClip:
    clip = VideoClip(source, on_damage=policy, window=window)
    write_video(target, clip.frames(), clip.info, source=source, window=window)
    return clip


def seconds(path: Path) -> list[float]:
    times = read_timestamps(path)
    return [float(start * times.time_base) for start in times.starts]


@pytest.mark.parametrize(
    ("pts", "fixed"),
    [
        ([0, 40, 40, 120, 160], [0, 40, 80, 120, 160]),
        ([0, 0, 80, 120, 120], [0, 40, 80, 120, 160]),
        ([0, 40, 40, 1000, 1040], [0, 40, 80, 1000, 1040]),
        ([0, 40, 40, 60, 100], [0, 40, 50, 60, 100]),
        ([0, 40, 40, 40, 160, 200], [0, 40, 60, 80, 160, 200]),
        ([0, 40, 40, 40, 100, 140], [0, 40, 60, 80, 100, 140]),
        ([0, 40, 40, 40, 40, 112, 152], [0, 40, 53, 66, 80, 112, 152]),
        ([0, 40, 40, 40], [0, 40, 60, 80]),
        ([0, MISSING, MISSING, 120], [0, 40, 80, 120]),
        ([MISSING, MISSING, 80, 120, MISSING], [0, 40, 80, 120, 160]),
        ([0, 40, 81, 80, 120], [0, 40, 80, 81, 120]),
    ],
)
def test_only_frames_that_repeat_or_lack_a_timestamp_move(pts: list[int], fixed: list[int], tmp_path: Path):
    assert repair_pts(tmp_path, pts, 40, MS) == (array("q", fixed), 1)


def test_the_time_base_is_refined_where_there_is_no_room(tmp_path: Path):
    assert repair_pts(tmp_path, [0, 1, 1, 2, 3], 1, Fraction(1, 25)) == (array("q", [0, 2, 3, 4, 6]), 2)


def test_a_frame_that_would_move_far_is_refused(tmp_path: Path):
    with pytest.raises(ClipError, match=r"x\.mkv: 4 frames from frame 1 on .*\(0\.040 s\).* 0\.120 s"):
        repair_pts(tmp_path / "x.mkv", [0, 40, 40, 40, 40, 200], 40, MS)


@pytest.mark.parametrize("numbers", [[10], [10, 16], [1, 23]])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_repeated_timestamps_keep_all_others(numbers: list[int], suffix: str, tmp_path: Path):
    plain = make_clip(tmp_path / "plain.mkv", options=NO_B_FRAMES)
    source = repeat_timestamps(plain, tmp_path / "dup.mkv", numbers)
    assert seconds(source) == pytest.approx([n / 24 for n in range(24)], abs=0.0011)
    clip = write(source, tmp_path / f"out{suffix}")
    assert read_numbers(VideoClip(tmp_path / f"out{suffix}")) == list(range(24))
    assert raw_times(tmp_path / f"out{suffix}") == pytest.approx([n / 24 for n in range(24)], abs=0.0021)
    assert clip.info.fps == 24


def test_a_repeated_timestamp_in_a_clip_of_variable_frame_rate(tmp_path: Path):
    pts = [0, 33, 67, 150, 183, 400, 433, 467, 500, 600]
    plain = make_clip(tmp_path / "plain.mkv", 10, options=NO_B_FRAMES, pts=pts, time_base=MS, audio=None)
    source = repeat_timestamps(plain, tmp_path / "dup.mkv", [6])
    assert [round(t * 1000) for t in seconds(source)] == [0, 33, 67, 150, 183, 400, 433, 467, 500, 600]
    write(source, tmp_path / "out.mkv")
    assert [round(t * 1000) for t in raw_times(tmp_path / "out.mkv")][7:] == [467, 500, 600]


def test_three_equal_timestamps_share_a_frame_duration(tmp_path: Path):
    plain = make_clip(tmp_path / "plain.mkv", options=NO_B_FRAMES)
    source = repeat_timestamps(plain, tmp_path / "dup.mkv", [10, 11])
    write(source, tmp_path / "out.mkv")
    expected = [n - {10: 0.5, 11: 1}.get(n, 0) for n in range(24)]
    assert raw_times(tmp_path / "out.mkv") == pytest.approx([n / 24 for n in expected], abs=0.0021)


def test_many_equal_timestamps_are_refused_with_the_place(tmp_path: Path):
    plain = make_clip(tmp_path / "plain.mkv", options=NO_B_FRAMES)
    source = repeat_timestamps(plain, tmp_path / "dup.mkv", range(10, 15))
    with pytest.raises(ClipError, match=r"dup\.mkv: 6 frames from frame 9 on have one timestamp \(0\.375 s\)"):
        read_timestamps(source)


PARTS = [("ts", "libx264", "aac", None), ("vob", "mpeg2video", "ac3", "vob")]


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize(("suffix", "codec", "audio", "muxer"), PARTS)
@pytest.mark.parametrize("policy", list(OnDamage))
def test_joined_recordings_follow_each_other(
    policy: OnDamage, suffix: str, codec: str, audio: str, muxer: str | None, count: int, tmp_path: Path, caplog
):
    fps = 25 if muxer else 24
    part = make_clip(tmp_path / f"part.{suffix}", codec=codec, options={"bf": "2"}, audio=audio, muxer=muxer, fps=fps)
    source, target = join_bytes(tmp_path / f"joined.{suffix}", *[part] * count), tmp_path / "out.mkv"
    clip = write(source, target, policy)
    assert len(clip.damage) == 0
    assert read_numbers(VideoClip(target)) == list(range(24)) * count
    assert caplog.text.count("its timestamps start again at frame 24 (+") == 1
    video, sound = raw_times(target), raw_times(target, "audio")
    lone_video, lone_sound = raw_times(part), raw_times(part, "audio")
    shifts = [video[24 * n] - video[0] for n in range(count)]
    assert len(sound) == count * len(lone_sound)
    for n, shift in enumerate(shifts):
        assert n * 24 / fps <= shift <= n * (24 / fps + 0.1)
        in_part = [t - shift for t in sound[n * len(lone_sound) : (n + 1) * len(lone_sound)]]
        offset = lone_sound[0] - lone_video[0]
        assert in_part[0] - video[0] == pytest.approx(offset, abs=0.002)
        assert in_part[-1] - in_part[0] == pytest.approx(lone_sound[-1] - lone_sound[0], abs=0.002)


def test_a_window_and_a_job_of_joined_recordings(tmp_path: Path):
    part = make_clip(tmp_path / "part.ts", options={"bf": "2"})
    source = join_bytes(tmp_path / "joined.ts", part, part)
    write(source, tmp_path / "window.mkv", window=TimeRange(0.9, 0.5))
    numbers = read_numbers(VideoClip(tmp_path / "window.mkv"))
    assert numbers[0] > 15
    assert 0 in numbers
    assert raw_times(tmp_path / "window.mkv", "audio")[-1] == pytest.approx(0.5, abs=0.06)
    with open_job(tmp_path / "job", source) as job:
        result = run_job(job, Pipeline(VideoClip(source)), tmp_path / "job.mkv", segment_seconds=0.7)
    assert result.frames == 48
    assert read_numbers(VideoClip(tmp_path / "job.mkv")) == list(range(24)) * 2
    write(source, tmp_path / "whole.mkv")
    for kind in ("video", "audio"):
        assert raw_times(tmp_path / "job.mkv", kind) == raw_times(tmp_path / "whole.mkv", kind)


def test_b_frames_are_no_step_back(tmp_path: Path):
    options = {"bf": "16", "b_strategy": "0", "x264-params": "b-pyramid=normal:keyint=60"}
    for suffix in ("ts", "mkv", "mp4"):
        source = make_clip(tmp_path / f"b.{suffix}", 60, options=options)
        assert read_timestamps(source).notes == ()
        assert read_timestamps(source).is_exact


def test_a_jump_forward_of_video_and_audio_stays_a_gap(tmp_path: Path):
    part = make_clip(tmp_path / "part.ts", options={"bf": "2"})

    with_gap = make_clip(tmp_path / "late.ts", options={"bf": "2"}, start_seconds=5)
    source = join_bytes(tmp_path / "gap.ts", part, with_gap)
    write(source, tmp_path / "out.mkv")
    times = raw_times(tmp_path / "out.mkv")
    assert len(times) == 48
    assert max(b - a for a, b in pairwise(times)) > 3


@pytest.mark.parametrize("suffix", [".mkv", ".ts"])
@pytest.mark.parametrize("policy", list(OnDamage))
@pytest.mark.parametrize("late", [0, 3])
def test_leading_frames_that_cannot_be_shown_are_left_out(
    late: int, policy: OnDamage, suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """late=0: an open GOP; late=3: the recording starts after the key frame."""
    whole = make_clip(tmp_path / f"whole{suffix}", 48, codec="libx265", options={"x265-params": OPEN_GOP})
    keys = key_packets(whole)
    source, target = cut_start(whole, tmp_path / f"cut{suffix}", keys[1] + late), tmp_path / "out.mkv"
    clip = write(source, target, policy)
    assert len(clip.damage) == 0
    assert caplog.text.count("cannot be displayed") == 1
    numbers = read_numbers(VideoClip(target))
    assert numbers == list(range(numbers[0], 48))
    before, after = raw_times(source), raw_times(target)
    assert 0 < len(before) - len(after) < 20
    audio_before, audio_after = raw_times(source, "audio"), raw_times(target, "audio")
    assert len(audio_before) == len(audio_after)
    assert after[-1] - audio_after[0] == pytest.approx(before[-1] - audio_before[0], abs=0.0021)


def test_a_missing_timestamp_among_others_is_between_its_neighbors(tmp_path: Path):
    plain = make_clip(tmp_path / "plain.mkv", options=NO_B_FRAMES)
    times = read_timestamps(plain)
    fixed, _ = repair_pts(plain, [MISSING if n in (4, 5) else s for n, s in enumerate(times.starts)], 42, MS)
    assert list(fixed) == pytest.approx(list(times.starts), abs=1)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_sparse_clip_is_written(suffix: str, tmp_path: Path):
    for name, pts in (("hour", [0, 40, 3_600_000, 3_600_040]), ("slides", [k * 1_000_000 for k in range(6)])):
        source = make_clip(tmp_path / f"{name}.mkv", len(pts), pts=pts, time_base=MS, audio=None)
        write(source, tmp_path / f"{name}{suffix}.out{suffix}")
        assert [round(t * 1000) for t in raw_times(tmp_path / f"{name}{suffix}.out{suffix}")] == pts
        assert end_time(tmp_path / f"{name}{suffix}.out{suffix}") == pytest.approx(pts[-1] / 1000 + 0.04, abs=0.01)
