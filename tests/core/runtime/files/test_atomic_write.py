"""A file or folder appears complete under its name, or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from steadyscale.core.runtime.files.atomic_write import atomic_path, fsync_folder, partial_path, temp_path


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


WRITE = (
    "import sys, time; from pathlib import Path; from steadyscale.core.runtime.files.atomic_write import atomic_path\n"
    "with atomic_path(Path(sys.argv[1])) as partial:\n"
    "    partial.write_text('half'); print(partial, flush=True); time.sleep(60)\n"
)


def test_leftovers_of_dead_processes_are_removed_and_no_others(tmp_path: Path):
    target = tmp_path / "o.mkv"

    def start() -> tuple[subprocess.Popen[str], Path]:
        child = subprocess.Popen([sys.executable, "-c", WRITE, str(target)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        return child, Path(child.stdout.readline().strip())

    (live, live_file), (dead, dead_file) = start(), start()
    foreign = tmp_path / dead_file.name.replace(".o.mkv.", ".other.mkv.")
    foreign.write_text("of another target")
    elsewhere = tmp_path / (".o.mkv.000000" + dead_file.name[len(".o.mkv.000000") :])
    elsewhere.write_text("of another machine")
    try:
        dead.kill()
        dead.communicate()
        with atomic_path(target) as partial:
            partial.write_text("new")
        assert not dead_file.exists()
        assert all(file.exists() for file in (live_file, foreign, elsewhere))
        assert target.read_text() == "new"
    finally:
        live.kill()
        live.communicate()


@pytest.mark.skipif(os.name != "posix", reason="links need privileges on Windows")
@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path, exists: bool):
    real, link = tmp_path / "elsewhere" / "real.txt", tmp_path / "link.txt"
    real.parent.mkdir()
    if exists:
        real.write_text("old")
    link.symlink_to("elsewhere/real.txt")
    with atomic_path(link) as partial:
        partial.write_text("new")
        assert partial.parent.resolve() == real.parent, "the last rename must not cross disks"
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert [*real.parent.iterdir()] == [real]


def test_content_is_on_the_disk_before_the_name(tmp_path: Path, disk_calls):
    with atomic_path(tmp_path / "a.txt") as partial:
        partial.write_text("new")
    assert disk_calls == [("fsync", b"new"), ("rename", "a.txt")]


def test_a_partial_file_that_a_reader_would_take_for_a_result_is_hidden(tmp_path: Path):
    name = partial_path(tmp_path / "a.mp4", "tag").name
    assert name.startswith(".")
    assert name.endswith(".partial")


def test_a_folder_is_flushed_and_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    closed, close = [], os.close

    def refuse(handle: int) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    monkeypatch.setattr(os, "close", lambda handle: (closed.append(handle), close(handle)))
    fsync_folder(tmp_path)
    assert len(closed) == 1, "also where the file system cannot flush folders"
