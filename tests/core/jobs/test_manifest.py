"""The manifest of a job is on the disk before a piece counts, and damage is reported and computed again."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest
from steadyscale.core.clip import ClipError
from steadyscale.core.jobs.folder import open_job
from steadyscale.core.jobs.layout import JobFolder
from steadyscale.core.jobs.manifest import MANIFEST_NAME, Manifest, fsync_folder

SETTINGS = {"crf": 16}
NAME = "segment-00000.mp4"


def add_piece(folder: Path, content: bytes = b"content", index: int = 0) -> Manifest:
    """A manifest with one finished piece."""
    manifest = Manifest(folder)
    manifest.begin("segment", SETTINGS)
    file = folder / f"segment-{index:05d}.mp4"
    file.write_bytes(content)
    manifest.add("segment", index, file, {"start": 0, "stop": 5})
    return manifest


def test_a_piece_is_listed_after_its_name_and_manifest_are_on_the_disk(tmp_path: Path, disk_calls):
    manifest = Manifest(tmp_path)
    manifest.begin("segment", SETTINGS)
    (tmp_path / NAME).write_bytes(b"content")
    disk_calls.clear()
    manifest.add("segment", 0, tmp_path / NAME, {})
    names, content, rename, again = disk_calls
    assert names == again == ("fsync", tmp_path), "the name of the piece, then that of the manifest"
    assert content[0] == "fsync"
    assert json.loads(content[1])["books"]["segment"]["pieces"]["0"]["file"] == NAME
    assert rename == ("rename", MANIFEST_NAME)


def test_a_folder_is_flushed_and_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    closed, close = [], os.close

    def refuse(handle: int) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    monkeypatch.setattr(os, "close", lambda handle: (closed.append(handle), close(handle)))
    fsync_folder(tmp_path)
    assert len(closed) == 1, "also where the file system cannot flush folders"


def test_a_piece_that_cannot_be_listed_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    manifest = add_piece(tmp_path)
    (tmp_path / "segment-00001.mp4").write_bytes(b"more")

    def interrupt(_: Manifest) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Manifest, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        manifest.add("segment", 1, tmp_path / "segment-00001.mp4", {})
    assert [*manifest.pieces("segment")] == [0]


@pytest.mark.parametrize("content", [b"conten_", b"content and more", b"", None])
def test_damage_that_is_found_when_resuming_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture, content):
    add_piece(tmp_path)
    if content is None:
        (tmp_path / NAME).unlink()
    else:
        (tmp_path / NAME).write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert Manifest(tmp_path).begin("segment", SETTINGS) == {}
    assert f"{tmp_path}: {NAME} is damaged and will be computed again" in caplog.text
    assert not (tmp_path / NAME).exists()
    assert Manifest(tmp_path).begin("segment", SETTINGS) == {}, "it is no longer listed"


def test_an_intact_piece_is_resumed_without_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    add_piece(tmp_path)
    with caplog.at_level(logging.WARNING):
        pieces = Manifest(tmp_path).begin("segment", SETTINGS)
    assert [(piece["start"], piece["stop"], piece["file"]) for piece in pieces.values()] == [(0, 5, NAME)]
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is damaged or not a manifest"),
        ("[]", "is damaged or not a manifest"),
        (None, "wrong checksum"),
        ('{"format": "other", "version": 1, "seal": "", "books": {}}', "unknown format or version"),
        ('{"format": "steadyscale-job", "version": 2, "seal": "", "books": {}}', "unknown format or version"),
    ],
)
def test_an_unusable_manifest_is_reported_and_the_job_starts_again(tmp_path: Path, caplog, text, reason):
    add_piece(tmp_path)
    file = tmp_path / MANIFEST_NAME
    file.write_text(file.read_text().replace('"stop": 5', '"stop": 6') if text is None else text)
    with caplog.at_level(logging.WARNING):
        assert Manifest(tmp_path).begin("segment", SETTINGS) == {}
    assert reason in caplog.text
    assert f"{file} " in caplog.text
    assert "starts from the beginning" in caplog.text


def test_partial_files_of_a_killed_run_are_removed_and_unlisted_pieces_only_of_their_stage(tmp_path: Path):
    add_piece(tmp_path)
    left = [".segment-00001.mp4.0a1b2c3d.partial", "segment-00001.mp4", "motion-00001.json"]
    for name in left:
        (tmp_path / name).write_bytes(b"left")
    manifest = Manifest(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {NAME, MANIFEST_NAME, *left[1:]}
    manifest.begin("segment", SETTINGS)
    assert {file.name for file in tmp_path.iterdir()} == {NAME, MANIFEST_NAME, "motion-00001.json"}


def test_all_files_of_a_job_are_removed_and_no_others(tmp_path: Path):
    add_piece(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    JobFolder(tmp_path).remove()
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


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
