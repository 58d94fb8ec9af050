"""A folder of a job has no other files, and its own are removed, those of killed processes and earlier versions too."""

from __future__ import annotations

from pathlib import Path

import pytest
from steadyscale.core.clip import ClipError
from steadyscale.core.jobs.state.folder import open_job
from steadyscale.core.jobs.state.job_files import check_job_folder, remove_earlier_segments, remove_partial_files
from steadyscale.core.jobs.state.layout import JobFolder

TAG = "0a1b2c-77-123-0a1b2c3d"
PARTIAL = [f".plan.json.{TAG}.partial", f".correction.json.{TAG}.partial", f".segment-00001.mp4.{TAG}.partial"]
CORRECTIONS = ["correction.json", "correction-0123456789abcdef.json"]
EARLIER = ["job.json", "motion-00000.json", "segment-00000.mp4", "segment-00001.mp4"]


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One with all kinds of files of a job, and one of the user."""
    for name in (*PARTIAL, *CORRECTIONS, *EARLIER, "notes.txt"):
        (tmp_path / name).write_bytes(b"content")
    return tmp_path


def test_all_files_of_a_job_are_removed_and_no_others(folder: Path):
    job = JobFolder(folder)
    for name in (job.part_record(0), job.attempt(0, 1), job.motion_piece(0), "plan.json", "joined.json"):
        job.write(name, {})
    (folder / "parts" / f".00001.{TAG}.partial").mkdir()
    (folder / "motion" / f".00001.json.{TAG}.partial").touch()
    (folder / "claims" / f".00001-1.json.{TAG}.partial").touch()
    job.remove()
    assert names(folder) == {"notes.txt"}


def test_partial_files_of_a_killed_run_and_earlier_segments_are_removed(folder: Path):
    remove_partial_files(folder)
    assert names(folder) == {*CORRECTIONS, *EARLIER, "notes.txt"}
    assert remove_earlier_segments(folder) == 2
    assert names(folder) == {*CORRECTIONS, *EARLIER[:2], "notes.txt"}


@pytest.mark.parametrize("name", [*PARTIAL, *CORRECTIONS, *EARLIER, "motion", "parts", "claims", "plan.json", "lock"])
def test_what_a_killed_process_leaves_is_a_job(name: str, tmp_path: Path):
    (tmp_path / name).touch()
    check_job_folder(tmp_path)


def test_a_folder_of_other_files_is_refused(tmp_path: Path):
    (tmp_path / "notes.json").touch()
    (tmp_path / "lock").touch()
    with pytest.raises(ClipError, match=r"contains other files \(notes\.json\) and no job"):
        check_job_folder(tmp_path)


def test_a_source_that_is_edited_during_a_job_is_refused(tmp_path: Path, job_source: Path):
    source = tmp_path / "source.mp4"
    source.write_bytes(job_source.read_bytes())
    with open_job(tmp_path / "job", source) as job:
        job.check_source()
        content = source.read_bytes()
        source.touch()
        job.check_source()  # Another date, and the same content.
        source.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(ClipError) as error:
            job.check_source()
    assert str(error.value) == f"{source}: the file was changed during the run; run again"
