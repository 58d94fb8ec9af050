"""Damaged files: found, named and counted, and no frame too few or too many comes out of them."""

from __future__ import annotations

import logging
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from corrupt_videos import FRAME_COUNT, GOP_SIZE, corrupt_packet, drop_start, make_moving_video, truncate_end
from steadyscale.core.clip import ClipError
from steadyscale.core.jobs import run as jobs
from steadyscale.core.jobs.folder import open_job
from steadyscale.core.jobs.run import JobResult, run_job
from steadyscale.core.pipeline.pipeline import Pipeline
from steadyscale.core.video.decode.corruption import MAX_CONSECUTIVE_REPEATS, CorruptionReport, OnDamage
from steadyscale.core.video.decode.timestamps import read_timestamps
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode.writer import write_video

KEY = 2 * GOP_SIZE  # a packet that others are built on

FILES = [("h264", ".mp4"), ("h264", ".mkv"), ("hevc", ".mp4"), ("hevc", ".mkv"), ("vp9", ".webm"), ("ffv1", ".mkv")]


def kept(path: Path) -> tuple[VideoClip, list[torch.Tensor]]:
    clip = VideoClip(path, on_damage=OnDamage.KEEP)
    return clip, [frame for batch in clip.frames() for frame in batch]


@pytest.fixture(params=FILES, ids=lambda f: "".join(f))
def sound_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    codec, suffix = request.param
    return make_moving_video(tmp_path / f"clip{suffix}", codec)


def test_a_whole_file_has_no_damage(sound_file: Path):
    clip, frames = kept(sound_file)
    assert len(frames) == FRAME_COUNT
    assert (len(clip.damage), clip.damage.to_table()) == (0, [])
    strict = [frame for batch in VideoClip(sound_file).frames() for frame in batch]
    assert all(torch.equal(a, b) for a, b in zip(frames, strict, strict=True))


@pytest.mark.parametrize("skip", [0.0, 0.5])
def test_noise_is_found_named_and_counted(sound_file: Path, skip: float, caplog: pytest.LogCaptureFixture):
    _, healthy = kept(sound_file)
    broken = corrupt_packet(sound_file, KEY, skip)
    with pytest.raises(ClipError, match=r"noise_clip\.\w+: (near )?frame 2\d \(\d\.\d+ s\).*--on-damage keep") as error:
        list(VideoClip(broken).frames())
    assert "\n" not in str(error.value)
    with caplog.at_level(logging.WARNING):
        clip, frames = kept(broken)
    assert len(frames) == FRAME_COUNT == len(read_timestamps(broken).starts)
    assert 1 <= len(clip.damage) <= GOP_SIZE
    assert str(broken) in caplog.text
    assert str(clip.damage) in caplog.text
    for row in clip.damage.to_table():
        assert KEY - 3 <= row["first"] <= row["last"] < KEY + GOP_SIZE
        assert row["seconds"] == pytest.approx(row["first"] / 24, abs=0.002)
    outside = [*range(KEY - 3), *range(KEY + GOP_SIZE, FRAME_COUNT)]
    assert all(torch.equal(frames[n], healthy[n]) for n in outside), "what is not damaged is as it was, at its place"
    assert any(not torch.equal(frames[n], healthy[n]) for n in range(KEY - 3, KEY + GOP_SIZE))
    for number in clip.damage.repeated:
        assert torch.equal(frames[number], frames[number - 1])
    before = clip.damage.to_table()
    assert sum(1 for _ in clip.luma_frames(64)) == FRAME_COUNT
    assert clip.damage.to_table() == before, "a second pass finds the same"


@pytest.mark.parametrize(("codec", "suffix"), [*FILES, ("mpeg4", ".avi"), ("h264", ".ts")])
def test_what_is_left_of_a_cut_file_is_kept_as_its_packets_tell(codec: str, suffix: str, tmp_path: Path):
    broken = truncate_end(make_moving_video(tmp_path / f"clip{suffix}", codec))
    clip, frames = kept(broken)
    assert FRAME_COUNT // 4 < len(frames) < FRAME_COUNT
    assert len(frames) == len(read_timestamps(broken).starts)
    assert len(clip.damage) <= 4


def test_a_cut_mp4_is_refused_at_once_and_kept_with_its_sound(tmp_path: Path):
    broken = truncate_end(make_moving_video(tmp_path / "clip.mp4", with_audio=True), 0.7)
    with pytest.raises(ClipError, match=r"the file is cut off: \d+ of 48 frames.*--on-damage keep"):
        VideoClip(broken)
    clip = VideoClip(broken, on_damage=OnDamage.KEEP)
    count = write_video(tmp_path / "out.mp4", clip.frames(), clip.info, source=broken)
    assert FRAME_COUNT // 4 < count == len(read_timestamps(tmp_path / "out.mp4").starts) < FRAME_COUNT


def test_a_broadcast_switched_on_late_begins_with_its_first_picture(tmp_path: Path):
    broken = drop_start(make_moving_video(tmp_path / "clip.ts"))
    with pytest.raises(ClipError, match=r"frame 0 \(\d\.\d+ s\) cannot be decoded"):
        list(VideoClip(broken).frames())
    clip, frames = kept(broken)
    lost = len(clip.damage.repeated)
    assert 0 < lost < GOP_SIZE
    assert sorted(clip.damage.repeated) == [*range(lost)]
    assert all(torch.equal(frame, frames[lost]) for frame in frames[:lost])
    assert not torch.equal(frames[lost], frames[lost + 1])
    assert len(frames) == len(read_timestamps(broken).starts)


def test_a_written_file_keeps_number_and_times_of_all_frames(tmp_path: Path):
    broken = corrupt_packet(make_moving_video(tmp_path / "clip.webm", "vp9"), KEY)
    clip = VideoClip(broken, on_damage=OnDamage.KEEP)
    assert write_video(tmp_path / "out.mkv", clip.frames(), clip.info, source=broken) == FRAME_COUNT
    old, new = read_timestamps(broken), read_timestamps(tmp_path / "out.mkv")
    assert [s * new.time_base for s in new.starts] == [s * old.time_base for s in old.starts]
    with pytest.raises(ClipError, match="near frame"):
        write_video(tmp_path / "never.mkv", VideoClip(broken).frames(), clip.info, source=broken)
    assert not (tmp_path / "never.mkv").exists()


def test_a_job_remembers_the_damage_in_segments_that_are_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    broken, target = corrupt_packet(make_moving_video(tmp_path / "clip.mp4"), KEY, 0.5), tmp_path / "out.mp4"

    def run(policy: OnDamage) -> tuple[VideoClip, JobResult]:
        clip = VideoClip(broken, on_damage=policy)
        with open_job(tmp_path / "job", broken) as job:
            return clip, run_job(job, Pipeline(clip), target, segment_seconds=0.5)

    with pytest.raises(ClipError, match=r"is damaged.*2 finished segments are kept"):
        run(OnDamage.FAIL)
    monkeypatch.setattr(jobs, "concat_segments", Mock(side_effect=ClipError("no room")))
    with pytest.raises(ClipError, match=r"no room.*4 finished segments are kept"):
        run(OnDamage.KEEP)
    monkeypatch.undo()
    clip, finished = run(OnDamage.KEEP)
    assert finished == (FRAME_COUNT, 4, 4), "nothing is decoded any more"
    assert clip.damage.to_table() == kept(broken)[0].damage.to_table() != []


def test_too_much_in_a_row_is_an_end_with_keep_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("steadyscale.core.video.decode.corruption.MAX_CONSECUTIVE_REPEATS", 5)
    broken = corrupt_packet(make_moving_video(tmp_path / "clip.mp4"), KEY)
    with pytest.raises(ClipError, match="5 frames in a row cannot be decoded before frame 2"):
        kept(broken)
    assert MAX_CONSECUTIVE_REPEATS > 24, "a moment"


def test_a_table_of_damage_can_be_handed_on():
    damage = CorruptionReport({3: 0.125, 4: 1 / 6, 9: 0.375}, {5: 5 / 24})
    assert damage.to_table() == [
        {"first": 3, "last": 4, "seconds": 0.125, "kind": "concealed"},
        {"first": 5, "last": 5, "seconds": 0.208, "kind": "repeated"},
        {"first": 9, "last": 9, "seconds": 0.375, "kind": "concealed"},
    ]
    assert str(damage) == ("4 damaged frames: 3-4 concealed (0.125 s), 5 repeated (0.208 s), 9 concealed (0.375 s)")
    again = CorruptionReport()
    again.merge(damage.to_table(range(4, 9)))
    assert sorted({*again.concealed, *again.repeated}) == [4, 5]
