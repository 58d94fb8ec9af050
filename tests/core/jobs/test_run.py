"""A job's result is the same however often it was interrupted."""

from __future__ import annotations

import os
import random
import re
import time
from pathlib import Path

import pytest
import torch
from corrupt_videos import corrupt_packet, make_moving_video
from frame_picker import frame_picker
from job_run import (
    FRAME_COUNT,
    SEGMENT_COUNT,
    SlowNearest,
    audio_packets,
    frame_hashes,
    has_same_content,
    make_pipeline,
    make_source,
    run_full_job,
    run_in_child,
    run_interrupted,
    start_process,
)
from numbered_video import make_video, read_numbers
from steadyscale.core.clip import ClipError
from steadyscale.core.crop.border import Border
from steadyscale.core.jobs import join as joining
from steadyscale.core.jobs import run as jobs
from steadyscale.core.jobs import shard
from steadyscale.core.jobs.state.folder import open_job, with_resume_hint
from steadyscale.core.video.decode.corruption_report import OnDamage
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode.codecs import Encoding
from steadyscale.core.video.encode.writer import write_video
from steadyscale.core.video.images.image_clip import ImageClip
from steadyscale.core.video.images.png_writer import write_images
from steadyscale.core.video.verify.verify import VerificationError
from video_file_checks import assert_released

LONGEST = 5  # frames of the longest segment
AHEAD = 4  # frames that stages may compute ahead of the encoder
PAUSE = 0.01  # seconds that the network takes for a frame, so that most of the time goes into computing frames
KILLS = int(os.environ.get("STEADYSCALE_KILLS", "6"))


@pytest.mark.parametrize("border", [Border.FILL, Border.CROP, Border.CROP_ADAPTIVE, Border.BLACK])
def test_the_result_equals_that_of_a_run_without_a_job(border: Border, tmp_path: Path):
    source, lossless = make_source(tmp_path / "in.mp4", 18), Encoding("ffv1")
    assert run_full_job(source, tmp_path / "job.mkv", border=border, encoding=lossless) == (18, 4, 0)
    plain = make_pipeline(VideoClip(source), SlowNearest(), border)
    write_video(tmp_path / "plain.mkv", plain.frames(), plain.info, encoding=lossless, source=source)
    assert frame_hashes(tmp_path / "job.mkv") == frame_hashes(tmp_path / "plain.mkv")
    assert audio_packets(tmp_path / "job.mkv") == audio_packets(tmp_path / "plain.mkv")


def test_networks_that_read_several_frames_see_beyond_their_segment(tmp_path: Path):
    source, lossless = make_moving_video(tmp_path / "in.mp4", count=18), Encoding("ffv1")
    hashes = []
    for position in (0, 2):
        network, target = frame_picker(position), tmp_path / f"{position}.mkv"
        frames, segments, _ = run_full_job(source, target, network, border=Border.BLACK, encoding=lossless)
        assert (frames, segments >= 3) == (18, True)
        plain = make_pipeline(VideoClip(source), network, Border.BLACK)
        write_video(tmp_path / "plain.mkv", plain.frames(), plain.info, encoding=lossless, source=source)
        hashes.append(frame_hashes(target))
        assert hashes[-1] == frame_hashes(tmp_path / "plain.mkv")
    assert [a == b for a, b in zip(*hashes, strict=True)] == [True, *[False] * 16, True]  # mirrored at the ends


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".mov"])
def test_all_frames_and_timestamps_are_kept_in_every_container(suffix: str, job_source: Path, tmp_path: Path):
    with open_job(tmp_path / "job", job_source) as job:
        jobs.run_job(job, VideoClip(job_source), tmp_path / f"copy{suffix}", segment_seconds=0.3)
    assert read_numbers(VideoClip(tmp_path / f"copy{suffix}")) == [*range(FRAME_COUNT)]
    times = [time for _, time in frame_hashes(tmp_path / f"copy{suffix}")]
    assert max(abs(a - b) for a, (_, b) in zip(times, frame_hashes(job_source), strict=True)) <= 0.0005


def test_the_source_is_decoded_once_in_order(job_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    read, frames = [], VideoClip.frames

    def count_frames(self: VideoClip, *args: int, **named: int):
        for frame in frames(self, *args, **named):
            read.append(frame)
            yield frame

    monkeypatch.setattr(VideoClip, "frames", count_frames)
    run_full_job(job_source, tmp_path / "result.mp4")
    assert len(read) == 1 + FRAME_COUNT, "the plan reads the first one"


def test_a_job_killed_at_any_moment_is_resumed_with_the_same_result(
    job_source: Path, reference_result: Path, tmp_path: Path
):
    target, counter_file, rng = tmp_path / "result.mp4", tmp_path / "tally", random.Random(5)
    start_process(os.getpid).join(120)  # imports everything in the fork server
    first_run = start_process(run_in_child, job_source, target, counter_file, PAUSE)
    started = time.monotonic()
    first_run.join(120)
    seconds = time.monotonic() - started
    assert first_run.exitcode == 0
    assert has_same_content(target, reference_result)
    full_runs, killed = 1, 0
    target.unlink()
    counter_file.unlink()
    while killed < KILLS:
        process = start_process(run_in_child, job_source, target, counter_file, PAUSE)
        process.join(rng.uniform(0, 0.8 * seconds))
        process.kill()
        process.join()
        killed += 1
        if target.exists():  # it was complete before the kill
            assert has_same_content(target, reference_result)
            target.unlink()
            full_runs += 1
    process = start_process(run_in_child, job_source, target, counter_file, 0.0)
    process.join(120)
    assert process.exitcode == 0
    assert has_same_content(target, reference_result)
    recomputed = len(counter_file.read_bytes()) - full_runs * (1 + FRAME_COUNT)
    assert recomputed <= 1 + killed * (1 + LONGEST + AHEAD), "at most one segment is computed again for each kill"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["result.mp4", "tally"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("broken")])
def test_an_error_is_raised_unchanged_and_finished_segments_are_kept(
    error: BaseException, job_source: Path, reference_result: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    target, counter_file = tmp_path / "result.mp4", tmp_path / "tally"
    files = run_interrupted(job_source, target, error=error)
    assert [re.sub("-[0-9a-f]{16}", "-HASH", name) for name in files] == [
        "correction-HASH.json",
        *(name for i in range(3) for name in (f"parts/{i:05d}-HASH.mp4", f"parts/{i:05d}.json")),
        "plan.json",
    ]
    assert "3 finished segments are kept in" in caplog.text
    assert "run the same command again to resume" in caplog.text
    assert run_full_job(job_source, target, SlowNearest(counter_file)) == (FRAME_COUNT, SEGMENT_COUNT, 3)
    assert "resuming, 3 of 8 segments are finished" in caplog.text
    assert has_same_content(target, reference_result)


@pytest.mark.parametrize(("error", "is_logged"), [(KeyboardInterrupt(), True), (ClipError("broken"), False)])
@pytest.mark.parametrize(
    ("count", "hint"),
    [
        (0, "no segment was finished: run the same command again"),
        (1, "1 finished segment is kept in JOB: run the same command again to resume"),
        (2, "2 finished segments are kept in JOB: run the same command again to resume"),
    ],
)
def test_the_hint_how_to_resume_states_what_is_kept(
    count: int, hint: str, error: BaseException, is_logged: bool, job_source: Path, tmp_path: Path, caplog
):
    with (
        open_job(tmp_path / "job", job_source) as job,
        pytest.raises(type(error)) as raised,
        with_resume_hint(job, "segment", lambda: count),
    ):
        raise error
    text = caplog.messages[-1] if is_logged else str(raised.value).removeprefix("broken. ")
    assert text == hint.replace("JOB", str(tmp_path / "job"))


def test_a_full_disk_is_one_clear_error(job_source: Path, reference_result: Path, tmp_path: Path):
    target, counter_file = tmp_path / "result.mp4", tmp_path / "tally"
    limit = reference_result.stat().st_size * 2 // 3  # enough for each segment, but not for the result
    process = start_process(run_in_child, job_source, target, counter_file, 0.0, limit)
    process.join(120)
    assert process.exitcode == 1
    message = counter_file.with_suffix(".error").read_text()
    assert message.startswith(f"{target}: ")
    assert "File too large" in message
    assert "8 finished segments are kept in" in message
    assert sorted(p.name for p in tmp_path.iterdir()) == ["result.mp4.job", "tally", "tally.error"]
    assert run_full_job(job_source, target).reused == SEGMENT_COUNT
    assert has_same_content(target, reference_result)


def test_the_error_of_a_full_disk_has_the_free_space(job_source: Path, tmp_path: Path):
    def fail(calls: int) -> None:
        if calls == 16:
            raise OSError(28, "No space left on device")

    with pytest.raises(ClipError, match=r"No space left on device \(.* MB are free\)\. 3 finished segments are kept"):
        run_full_job(job_source, tmp_path / "result.mp4", SlowNearest(fail=fail))


def test_finished_segments_are_kept_if_the_result_fails_verification(
    job_source: Path, reference_result: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    target, join = tmp_path / "result.mp4", joining.concat_segments

    def without_source(segments, partial: Path, **named) -> str:
        return join(segments, partial, **(named | {"source": None}))

    monkeypatch.setattr(joining, "concat_segments", without_source)
    with pytest.raises(
        VerificationError, match=r"result\.mp4: the result failed verification.*1 audio tracks.*8 finished segments"
    ):
        run_full_job(job_source, target)
    assert [p.name for p in tmp_path.iterdir()] == ["result.mp4.job"]
    monkeypatch.undo()
    assert run_full_job(job_source, target).reused == SEGMENT_COUNT
    assert has_same_content(target, reference_result)


def test_images_can_be_the_source(tmp_path: Path):
    write_images(tmp_path / "in", VideoClip(make_video(tmp_path / "a.mp4", 20)).frames())
    clip = ImageClip(tmp_path / "in")
    with open_job(tmp_path / "job", tmp_path / "in") as job:
        assert jobs.run_job(job, clip, tmp_path / "out.mp4", segment_seconds=0.25) == (20, 4, 0)
    assert read_numbers(VideoClip(tmp_path / "out.mp4")) == [*range(20)]


def test_transparency_is_kept_in_every_segment(tmp_path: Path):
    clip = VideoClip(make_video(tmp_path / "in.mp4", 12))
    frames = (torch.cat([frame, ((frame[:, :1] > 0.5) | (number >= 6)).float()], dim=1)
              for number, frame in enumerate(clip.frames()))  # fmt: skip
    write_video(tmp_path / "alpha.mkv", frames, clip.info, encoding=Encoding("ffv1"))
    for name, encoding in {"out.webm": Encoding("vp9"), "out.mkv": Encoding("ffv1")}.items():
        clip = VideoClip(tmp_path / "alpha.mkv")
        with open_job(tmp_path / "job", clip.path) as job:
            jobs.run_job(job, clip, tmp_path / name, encoding=encoding, segment_seconds=0.25)
        alpha = torch.cat([frame[:, 3:] for frame in VideoClip(tmp_path / name).frames()])
        truth = torch.cat([frame[:, 3:] for frame in clip.frames()])
        assert (alpha - truth).abs().mean() < 0.02
        assert float(alpha[:6].min()) < 0.1


def test_at_most_the_frame_that_is_written_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def checked_write(path, frames, *args, **named):
        return write_video(path, assert_released(frames), *args, **named)

    monkeypatch.setattr(shard, "write_video", checked_write)
    source = make_video(tmp_path / "a.mp4", 12)
    with open_job(tmp_path / "job", source) as job:
        jobs.run_job(job, VideoClip(source), tmp_path / "b.mp4", segment_seconds=0.2)
    assert read_numbers(VideoClip(tmp_path / "b.mp4")) == list(range(12))


@pytest.mark.parametrize("trait", ["has_native_engine", "engine"])
def test_segments_of_another_engine_are_not_reused(
    trait: str,
    job_source: Path,
    reference_result: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    """One engine is known before the run starts, the other after its first segment."""
    target = tmp_path / "result.mp4"
    run_interrupted(job_source, target)
    counter_file = tmp_path / "calls"
    model = SlowNearest(counter_file)
    monkeypatch.setattr(SlowNearest, trait, True if trait == "has_native_engine" else "onnx (CPU)", raising=False)
    assert run_full_job(job_source, target, model).reused == 0
    expected = (
        "settings of this run differ (runtime)"
        if trait == "has_native_engine"
        else "computed by onnx (CPU) fp32, not torch fp32"
    )
    assert expected in caplog.text
    assert len(counter_file.read_bytes()) >= FRAME_COUNT
    assert has_same_content(target, reference_result)


def test_a_source_that_is_edited_while_the_job_runs_gives_no_result(job_source: Path, tmp_path: Path):
    source, target = tmp_path / "in.mp4", tmp_path / "result.mp4"
    source.write_bytes(job_source.read_bytes())

    def edit(calls: int) -> None:
        if calls == FRAME_COUNT:
            content = bytearray(source.read_bytes())
            content[content.index(b"bars")] ^= 1
            source.write_bytes(content)

    with pytest.raises(ClipError, match=r"in\.mp4: the file was changed during the run; run again"):
        run_full_job(source, target, SlowNearest(fail=edit))
    assert not target.exists()


def test_a_damaged_segment_that_is_joined_is_found_before_the_result_appears(
    job_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    target, join = tmp_path / "result.mp4", joining.concat_segments

    def damage(segments, partial: Path, **named) -> str:
        digest = join(segments, partial, **named)
        content = bytearray(partial.read_bytes())
        start = content.index(b"mdat") + 2000
        content[start : start + 6000] = bytes(6000)
        partial.write_bytes(content)
        return digest

    monkeypatch.setattr(joining, "concat_segments", damage)
    with pytest.raises(ClipError, match=r"result\.mp4: (the result failed verification|cannot be read)"):
        run_full_job(job_source, target)
    assert not target.exists()


def test_the_result_and_its_name_are_on_the_disk_before_the_job_is_removed(
    job_source: Path, tmp_path: Path, disk_calls
):
    target = tmp_path / "result.mp4"
    run_full_job(job_source, target)
    renamed = disk_calls.index(("rename", "result.mp4"))
    assert disk_calls[renamed - 1] == ("fsync", target.read_bytes())
    assert ("fsync", tmp_path) in disk_calls[renamed:]


def test_a_segment_is_on_the_disk_before_it_counts(job_source: Path, tmp_path: Path, disk_calls):
    run_interrupted(job_source, tmp_path / "result.mp4")
    folder = tmp_path / "result.mp4.job"
    for number in range(3):
        [part] = folder.glob(f"parts/{number:05d}-*.mp4")
        flushed = disk_calls.index(("fsync", part.read_bytes()))
        renamed = disk_calls.index(("rename", part.name))
        assert flushed < renamed
        following = disk_calls[renamed:]
        assert following.index(("fsync", folder / "parts")) < following.index(("rename", f"{number:05d}.json"))


def test_damage_that_an_earlier_run_found_is_reported_after_resuming(tmp_path: Path):
    """The second run only joins segments: it decodes nothing of the source."""
    broken = corrupt_packet(make_moving_video(tmp_path / "source.mp4"), 6, 0.5)

    def run(target: str) -> tuple[jobs.JobResult, list]:
        clip = VideoClip(broken, on_damage=OnDamage.KEEP)
        with open_job(tmp_path / "job", broken) as job:
            result = jobs.run_job(job, clip, tmp_path / target, segment_seconds=0.5, keep_files=True)
        return result, clip.damage.to_table()

    (first, damage), (second, again) = run("first.mkv"), run("second.mkv")
    assert (first.reused, second.reused) == (0, second.segments)
    assert damage == again != []
