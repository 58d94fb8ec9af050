"""Only what is known to be whole, and made of the same source with the same settings, gets into a result."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from job_run import has_same_content, run_full_job, run_in_child, run_interrupted, start_process
from steadyscale.core.clip import ClipError
from steadyscale.core.jobs import fingerprint
from steadyscale.core.jobs.folder import default_job_folder
from steadyscale.core.path.border import Border
from steadyscale.core.video.encode.codecs import Encoding


class Stop(Exception):
    """Somebody else's error."""


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def foreign(file: Path) -> None:
    other = file.with_name("segment-00000.mp4")
    file.write_bytes(other.read_bytes() if other != file else b"{}")


@pytest.mark.parametrize("harm", [flipped, cut_short, foreign, Path.unlink])
def test_a_segment_that_is_not_what_was_written_is_made_again(
    harm: Callable[[Path], None], job_source: Path, reference_result: Path, tmp_path: Path
):
    target = tmp_path / "result.mp4"
    run_interrupted(job_source, target, fail_at_call=60)
    harm(default_job_folder(target) / "segment-00001.mp4")
    assert run_full_job(job_source, target).reused == 6
    assert has_same_content(target, reference_result)


@pytest.mark.parametrize("harm", [flipped, cut_short, lambda file: file.write_text('{"format": "other"}'), Path.unlink])
def test_without_a_manifest_to_trust_everything_is_made_again(
    harm: Callable[[Path], None], job_source: Path, reference_result: Path, tmp_path: Path
):
    target = tmp_path / "result.mp4"
    run_interrupted(job_source, target)
    harm(default_job_folder(target) / "job.json")
    assert run_full_job(job_source, target).reused == 0
    assert has_same_content(target, reference_result)


def test_another_setting_source_or_version_starts_afresh(
    job_source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    target = tmp_path / "result.mp4"
    mine = tmp_path / "mine.mp4"
    mine.write_bytes(job_source.read_bytes())

    def kept(**settings) -> int:
        with pytest.raises(Stop):
            run_full_job(mine, target, watch=told, **settings)
        return told_kept.pop()

    told_kept: list[int] = []

    def told(frames, made: int):
        told_kept.append(made)
        for number, frame in enumerate(frames):
            if number == 12:
                raise Stop
            yield frame

    first = kept()
    assert first == 0
    again = kept()
    assert again > 0, "the same settings go on"
    assert kept(encoding=Encoding(crf=30)) == 0
    assert "this run differs from the one before (encoding)" in caplog.text
    assert kept(border=Border.BLACK) == 0
    assert kept(seconds=0.6) == 0
    monkeypatch.setattr(fingerprint, "__version__", "0.0.1")
    assert kept(seconds=0.6) == 0
    assert kept(seconds=0.6) > 0
    stat = mine.stat()
    content = bytearray(mine.read_bytes())
    content[content.index(b"bars")] ^= 1  # neither size nor date tells
    mine.write_bytes(content)
    os.utime(mine, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert kept(seconds=0.6) == 0


def test_two_runs_at_once_do_not_meet(job_source: Path, reference_result: Path, tmp_path: Path):
    target, tally = tmp_path / "result.mp4", tmp_path / "tally"
    process = start_process(run_in_child, job_source, target, tally, 0.1)
    while not tally.exists():
        assert process.is_alive()
        process.join(0.02)
    with pytest.raises(ClipError, match=f"process {process.pid} is at work on this job"):
        run_full_job(job_source, target)
    process.kill()
    process.join()
    run_full_job(job_source, target)  # what a killed process held is free
    assert has_same_content(target, reference_result)


def test_a_folder_that_holds_other_things_is_left_alone(job_source: Path, tmp_path: Path):
    folder = default_job_folder(tmp_path / "result.mp4")
    folder.mkdir()
    (folder / "diary.txt").write_text("dear diary")
    with pytest.raises(ClipError, match=r"holds other things \(diary.txt\) and no job"):
        run_full_job(job_source, tmp_path / "result.mp4")
    assert [p.name for p in folder.iterdir()] == ["diary.txt"]


def test_what_cannot_be_done_is_refused_before_anything_is_made(job_source: Path, tmp_path: Path):
    for name, why in {
        "pictures": "a job writes a video file",
        "result.xyz": "video files are written as",
        "nowhere/result.mp4": "No such file or directory",
    }.items():
        with pytest.raises(ClipError, match=why):
            run_full_job(job_source, tmp_path / name)
    with pytest.raises(ClipError, match="missing"):
        run_full_job(tmp_path / "missing.mp4", tmp_path / "result.mp4")
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(ClipError, match="not a video"):
        run_full_job(tmp_path / "text.mp4", tmp_path / "result.mp4")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["text.mp4"]


def test_the_manifest_tells_what_was_made_and_of_what(job_source: Path, tmp_path: Path):
    run_interrupted(job_source, tmp_path / "result.mp4")
    book = json.loads((tmp_path / "result.mp4.job" / "job.json").read_text())["books"]["segment"]
    assert set(book["settings"]) == {"source", "software", "operations", "encoding", "pieces"}
    assert [(p["start"], p["stop"]) for p in book["pieces"].values()] == [(0, 9), (9, 18), (18, 27)]
    assert all(len(p["sha256"]) == 64 for p in book["pieces"].values())
