"""Corrupt files: found, reported and counted, without a frame too few or too many."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from corrupt_videos import FRAME_COUNT, GOP_SIZE, corrupt_packet, drop_start, make_moving_video, truncate_end
from steadyscale.core.clip import ClipError
from steadyscale.core.jobs import join
from steadyscale.core.jobs.run import JobResult, run_job
from steadyscale.core.jobs.state.folder import open_job
from steadyscale.core.pipeline.pipeline import Pipeline
from steadyscale.core.video.decode.corruption import MAX_CONSECUTIVE_REPEATS, decode_checked
from steadyscale.core.video.decode.corruption_report import CorruptionReport, OnDamage
from steadyscale.core.video.decode.packets.demux import open_media, software_decoder
from steadyscale.core.video.decode.timestamps import read_timestamps
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode.writer import write_video

KEY = 2 * GOP_SIZE  # a key frame, from which others are predicted

FILES = [("h264", ".mp4"), ("h264", ".mkv"), ("hevc", ".mp4"), ("hevc", ".mkv"), ("vp9", ".webm"), ("ffv1", ".mkv")]


def decode_all(path: Path) -> tuple[VideoClip, list[torch.Tensor]]:
    clip = VideoClip(path, on_damage=OnDamage.KEEP)
    return clip, [frame for batch in clip.frames() for frame in batch]


@pytest.fixture(params=FILES, ids=lambda f: "".join(f))
def intact_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    codec, suffix = request.param
    return make_moving_video(tmp_path / f"clip{suffix}", codec)


def test_an_intact_file_has_no_damage(intact_file: Path):
    clip, frames = decode_all(intact_file)
    assert len(frames) == FRAME_COUNT
    assert (len(clip.damage), clip.damage.to_table()) == (0, [])
    strict = [frame for batch in VideoClip(intact_file).frames() for frame in batch]
    assert all(torch.equal(a, b) for a, b in zip(frames, strict, strict=True))


@pytest.mark.parametrize("skip", [0.0, 0.5])
def test_noise_is_found_reported_and_counted(intact_file: Path, skip: float, caplog: pytest.LogCaptureFixture):
    _, healthy = decode_all(intact_file)
    broken = corrupt_packet(intact_file, KEY, skip)
    with pytest.raises(ClipError, match=r"noise_clip\.\w+: (near )?frame 2\d \(\d\.\d+ s\).*--on-damage keep") as error:
        list(VideoClip(broken).frames())
    assert "\n" not in str(error.value)
    with caplog.at_level(logging.WARNING):
        clip, frames = decode_all(broken)
    assert len(frames) == FRAME_COUNT == len(read_timestamps(broken).starts)
    assert 1 <= len(clip.damage) <= GOP_SIZE
    assert str(broken) in caplog.text
    assert str(clip.damage) in caplog.text
    for row in clip.damage.to_table():
        assert KEY - 3 <= row["first"] <= row["last"] < KEY + GOP_SIZE
        assert row["seconds"] == pytest.approx(row["first"] / 24, abs=0.002)
    outside = [*range(KEY - 3), *range(KEY + GOP_SIZE, FRAME_COUNT)]
    assert all(torch.equal(frames[n], healthy[n]) for n in outside), "intact frames are unchanged and at their place"
    assert any(not torch.equal(frames[n], healthy[n]) for n in range(KEY - 3, KEY + GOP_SIZE))
    for number in clip.damage.repeated:
        assert torch.equal(frames[number], frames[number - 1])
    before = clip.damage.to_table()
    assert sum(1 for _ in clip.luma_frames(64)) == FRAME_COUNT
    assert clip.damage.to_table() == before, "a second pass finds the same"


@pytest.mark.parametrize(("codec", "suffix"), [*FILES, ("mpeg4", ".avi"), ("h264", ".ts")])
def test_a_truncated_file_gives_one_frame_per_packet(codec: str, suffix: str, tmp_path: Path):
    broken = truncate_end(make_moving_video(tmp_path / f"clip{suffix}", codec))
    clip, frames = decode_all(broken)
    assert FRAME_COUNT // 4 < len(frames) < FRAME_COUNT
    assert len(frames) == len(read_timestamps(broken).starts)
    assert len(clip.damage) <= 4


def test_a_truncated_mp4_is_refused_at_once_or_kept_with_its_audio(tmp_path: Path):
    broken = truncate_end(make_moving_video(tmp_path / "clip.mp4", with_audio=True), 0.7)
    with pytest.raises(ClipError, match=r"the file is truncated: \d+ of 48 frames.*--on-damage keep"):
        VideoClip(broken)
    clip = VideoClip(broken, on_damage=OnDamage.KEEP)
    count = write_video(tmp_path / "out.mp4", clip.frames(), clip.info, source=broken)
    assert FRAME_COUNT // 4 < count == len(read_timestamps(tmp_path / "out.mp4").starts) < FRAME_COUNT


@pytest.mark.parametrize("policy", list(OnDamage))
def test_a_broadcast_without_its_start_begins_with_its_first_key_frame(
    policy: OnDamage, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    whole = make_moving_video(tmp_path / "clip.ts")
    healthy = decode_all(whole)[1]
    broken = drop_start(whole)
    clip = VideoClip(broken, on_damage=policy)
    frames = [frame for batch in clip.frames() for frame in batch]
    first = FRAME_COUNT - len(frames)
    assert first % GOP_SIZE == 0
    assert 0 < first < FRAME_COUNT
    assert all(torch.equal(a, b) for a, b in zip(frames, healthy[first:], strict=True))
    assert len(clip.damage) == 0
    assert len(read_timestamps(broken).starts) == len(frames)
    assert caplog.text.count("cannot be displayed") == 1
    assert "the file claims" not in caplog.text


def test_a_written_file_keeps_number_and_times_of_all_frames(tmp_path: Path):
    broken = corrupt_packet(make_moving_video(tmp_path / "clip.webm", "vp9"), KEY)
    clip = VideoClip(broken, on_damage=OnDamage.KEEP)
    assert write_video(tmp_path / "out.mkv", clip.frames(), clip.info, source=broken) == FRAME_COUNT
    old, new = read_timestamps(broken), read_timestamps(tmp_path / "out.mkv")
    assert [s * new.time_base for s in new.starts] == [s * old.time_base for s in old.starts]
    with pytest.raises(ClipError, match="near frame"):
        write_video(tmp_path / "never.mkv", VideoClip(broken).frames(), clip.info, source=broken)
    assert not (tmp_path / "never.mkv").exists()


def test_a_job_stores_the_damage_of_finished_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    broken, target = corrupt_packet(make_moving_video(tmp_path / "clip.mp4"), KEY, 0.5), tmp_path / "out.mp4"

    def run(policy: OnDamage) -> tuple[VideoClip, JobResult]:
        clip = VideoClip(broken, on_damage=policy)
        with open_job(tmp_path / "job", broken) as job:
            return clip, run_job(job, Pipeline(clip), target, segment_seconds=0.5)

    with pytest.raises(ClipError, match=r"is damaged.*2 finished segments are kept"):
        run(OnDamage.FAIL)
    monkeypatch.setattr(join, "concat_segments", Mock(side_effect=ClipError("disk full")))
    with pytest.raises(ClipError, match=r"disk full.*4 finished segments are kept"):
        run(OnDamage.KEEP)
    monkeypatch.undo()
    clip, finished = run(OnDamage.KEEP)
    assert finished == (FRAME_COUNT, 4, 4), "nothing is decoded again"
    assert clip.damage.to_table() == decode_all(broken)[0].damage.to_table() != []


def test_too_many_missing_frames_in_a_row_are_an_error_with_keep_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("steadyscale.core.video.decode.corruption.MAX_CONSECUTIVE_REPEATS", 5)
    broken = corrupt_packet(make_moving_video(tmp_path / "clip.mp4"), KEY)
    with pytest.raises(ClipError, match="5 frames in a row cannot be decoded before frame 2"):
        decode_all(broken)
    assert MAX_CONSECUTIVE_REPEATS > 24, "more than a second"


class _DroppingDecoder:
    """Decodes all packets but one, without an error, as decoders of lossless codecs do with some damage."""

    def __init__(self, stream: VideoStream, dropped: int) -> None:
        self._decoder, self._dropped = software_decoder(stream), dropped

    def decode(self, packet: Packet[Any], /) -> list[VideoFrame]:
        return [] if packet.pts == self._dropped else self._decoder.decode(packet)


@pytest.mark.parametrize("dropped", [0, 4, 11])
def test_a_packet_of_a_lossless_codec_without_a_frame_is_damage(tmp_path: Path, dropped: int):
    path, report = make_moving_video(tmp_path / "clip.mkv", "ffv1", count=12), CorruptionReport()

    def decode(policy: OnDamage) -> int:
        with open_media(path) as container:
            stream = container.streams.video[0]
            make = lambda stream: _DroppingDecoder(stream, dropped)  # noqa: E731
            return sum(1 for _ in decode_checked(path, container, stream, policy, report, make_decoder=make))

    assert decode(OnDamage.KEEP) == 12
    assert [*report.repeated] == [dropped]
    with pytest.raises(ClipError, match=f"frame {dropped} .* cannot be decoded"):
        decode(OnDamage.FAIL)
