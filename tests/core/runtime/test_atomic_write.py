"""A file or folder appears complete under its name, or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from steadyscale.core.runtime.atomic_write import atomic_path, partial_path, temp_path


def test_the_target_is_replaced_when_the_block_ends(tmp_path: Path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with atomic_path(target) as partial:
        partial.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert [*tmp_path.iterdir()] == [target]


def test_an_error_leaves_the_earlier_file_and_no_temporary_one(tmp_path: Path):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def interrupted_write() -> None:
        with atomic_path(target) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted_write()
    assert target.read_text() == "old"
    assert [*tmp_path.iterdir()] == [target]


def test_a_folder_is_written_as_a_whole(tmp_path: Path):
    def write(error: Exception | None) -> None:
        with atomic_path(tmp_path / "folder") as partial:
            partial.mkdir()
            (partial / "file").write_text("1")
            if error:
                raise error

    with pytest.raises(ValueError, match="stop"):
        write(ValueError("stop"))
    assert [*tmp_path.iterdir()] == []
    write(None)
    assert (tmp_path / "folder" / "file").read_text() == "1"


def test_a_temporary_path_is_removed_when_the_block_ends(tmp_path: Path):
    with temp_path(tmp_path / "a") as partial:
        partial.mkdir()
    assert [*tmp_path.iterdir()] == []


def test_a_tag_gives_the_same_temporary_path_each_time(tmp_path: Path):
    target = tmp_path / "a.mp4"
    with atomic_path(target, "tag") as partial:
        assert partial == partial_path(target, "tag")
        partial.write_text("1")
    assert [*tmp_path.iterdir()] == [target]


def test_long_names_fit_into_the_limit_of_file_systems(tmp_path: Path):
    target = tmp_path / ("ü" * 120)
    with atomic_path(target) as partial:
        partial.write_text("1")
    assert target.read_text() == "1"


def test_where_nothing_can_be_removed_the_first_error_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(ValueError, match="first"), atomic_path(tmp_path / "a.mp4"):
        raise ValueError("the first")
