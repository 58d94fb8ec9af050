"""Only intact segments of the same source and settings get into a result."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from job_run import has_same_content, run_full_job, run_in_child, run_interrupted, start_process
from steadyscale.core.clip import ClipError
from steadyscale.core.crop.border import Border
from steadyscale.core.jobs.state import fingerprint
from steadyscale.core.jobs.state.folder import default_job_folder
from steadyscale.core.jobs.state.job_plan import load_plan
from steadyscale.core.jobs.state.layout import JobFolder
from steadyscale.core.video.encode.codecs import Encoding

EARLIER_JOB = Path(__file__).parents[3] / "compatibility" / "files" / "job"


class Stop(Exception):
    """An error that is neither ours nor the system's."""


def flip_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def overwrite(file: Path) -> None:
    [other] = file.parent.glob("00000-*.mp4")
    file.write_bytes(other.read_bytes())


@pytest.mark.parametrize("harm", [flip_bit, truncate, overwrite, Path.unlink])
def test_a_damaged_segment_is_computed_again(
    harm: Callable[[Path], None], job_source: Path, reference_result: Path, tmp_path: Path
):
    target = tmp_path / "result.mp4"
    run_interrupted(job_source, target, fail_at_call=30)
    [part] = default_job_folder(target).glob("parts/00001-*.mp4")
    harm(part)
    assert run_full_job(job_source, target).reused == 5
    assert has_same_content(target, reference_result)


@pytest.mark.parametrize("harm", [flip_bit, truncate, lambda file: file.write_text('{"format": "other"}'), Path.unlink])
def test_without_a_valid_plan_everything_is_computed_again(
    harm: Callable[[Path], None], job_source: Path, reference_result: Path, tmp_path: Path
):
    target = tmp_path / "result.mp4"
    run_interrupted(job_source, target)
    harm(default_job_folder(target) / "plan.json")
    assert run_full_job(job_source, target).reused == 0
    assert has_same_content(target, reference_result)


def test_finished_segments_of_other_settings_sources_or_versions_are_discarded(
    job_source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    target = tmp_path / "result.mp4"
    source = tmp_path / "mine.mp4"
    source.write_bytes(job_source.read_bytes())

    def count_reused(**settings) -> int:
        with pytest.raises(Stop):
            run_full_job(source, target, progress=stop, **settings)
        return counts.pop()

    counts: list[int] = []

    def stop(frames, computed: int):
        counts.append(computed)
        for number, frame in enumerate(frames):
            if number == 6:
                raise Stop
            yield frame

    first_count = count_reused()
    assert first_count == 0
    second_count = count_reused()
    assert second_count > 0, "the same settings are resumed"
    assert count_reused(encoding=Encoding(crf=30)) == 0
    assert "the settings of this run differ (encoding)" in caplog.text
    assert count_reused(border=Border.BLACK) == 0
    assert count_reused(seconds=0.3) == 0
    monkeypatch.setattr(fingerprint, "__version__", "0.0.1")
    assert count_reused(seconds=0.3) == 0
    assert count_reused(seconds=0.3) > 0
    stat = source.stat()
    content = bytearray(source.read_bytes())
    content[content.index(b"bars")] ^= 1  # neither size nor date changes
    source.write_bytes(content)
    os.utime(source, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert count_reused(seconds=0.3) == 0


def test_a_second_run_is_refused_while_the_first_one_works(job_source: Path, reference_result: Path, tmp_path: Path):
    target, counter_file = tmp_path / "result.mp4", tmp_path / "tally"
    process = start_process(run_in_child, job_source, target, counter_file, 0.1)
    while not counter_file.exists():
        assert process.is_alive()
        process.join(0.02)
    with pytest.raises(ClipError, match=f"process {process.pid} is at work on this job"):
        run_full_job(job_source, target)
    process.kill()
    process.join()
    run_full_job(job_source, target)  # the lock of a killed process is free
    assert has_same_content(target, reference_result)


def test_a_folder_with_other_files_is_refused(job_source: Path, tmp_path: Path):
    folder = default_job_folder(tmp_path / "result.mp4")
    folder.mkdir()
    (folder / "diary.txt").write_text("dear diary")
    with pytest.raises(ClipError, match=r"contains other files \(diary.txt\) and no job"):
        run_full_job(job_source, tmp_path / "result.mp4")
    assert [p.name for p in folder.iterdir()] == ["diary.txt"]


def test_invalid_sources_and_targets_are_refused_without_leaving_files(job_source: Path, tmp_path: Path):
    for name, why in {
        "images": "a job writes a video file",
        "result.xyz": "video files are written as",
        "nowhere/result.mp4": "No such file or directory",
    }.items():
        with pytest.raises(ClipError, match=why):
            run_full_job(job_source, tmp_path / name)
    with pytest.raises(ClipError, match="missing"):
        run_full_job(tmp_path / "missing.mp4", tmp_path / "result.mp4")
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(ClipError, match="cannot be read as video"):
        run_full_job(tmp_path / "text.mp4", tmp_path / "result.mp4")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["text.mp4"]


def test_the_plan_lists_settings_and_each_part_its_frames(job_source: Path, tmp_path: Path):
    run_interrupted(job_source, tmp_path / "result.mp4")
    folder = JobFolder(tmp_path / "result.mp4.job")
    plan = load_plan(folder)
    assert set(plan.settings) == {"source", "software", "runtime", "operations", "encoding", "pieces"}
    records = [folder.read(folder.part_record(index)) for index in range(4)]
    assert [(record["start"], record["stop"]) for record in records[:3]] == [(0, 5), (5, 9), (9, 14)]
    assert [(piece.start, piece.stop) for piece in plan.pieces[:3]] == [(0, 5), (5, 9), (9, 14)]
    assert all(len(record["sha256"]) == 64 for record in records[:3])
    assert records[3] is None


def test_segments_that_an_earlier_version_left_are_removed_with_a_message(
    job_source: Path, reference_result: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    target = tmp_path / "result.mp4"
    folder = default_job_folder(target)
    shutil.copytree(EARLIER_JOB, folder)
    assert run_full_job(job_source, target).reused == 0
    assert f"{folder}: 2 segments of an earlier version cannot be used" in caplog.text
    assert has_same_content(target, reference_result)
    assert [file.name for file in tmp_path.iterdir()] == ["result.mp4"]
