"""A folder has one holder at a time, and a killed process leaves no lock behind."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from steadyscale.core.clip import ClipError
from steadyscale.core.runtime.files.folder_lock import LOCK_NAME, folder_lock

HOLD = (
    "import sys, time; from pathlib import Path; from steadyscale.core.runtime.files.folder_lock import folder_lock\n"
    "with folder_lock(Path(sys.argv[1])):\n"
    "    print('locked', flush=True); time.sleep(60)\n"
)


def test_the_holder_is_named_and_the_lock_file_is_removed(tmp_path: Path):
    with folder_lock(tmp_path):
        for _ in range(2):  # the first refusal must not wipe the holder's id
            with (
                pytest.raises(ClipError, match=f"process {os.getpid()} is at work on this job"),
                folder_lock(tmp_path),
            ):
                pass
        assert (tmp_path / LOCK_NAME).read_text() == f"{os.getpid()}\n"
    assert [*tmp_path.iterdir()] == []
    with folder_lock(tmp_path):
        pass


def test_a_killed_process_leaves_no_stale_lock(tmp_path: Path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "locked\n"
        with pytest.raises(ClipError, match=f"process {child.pid} is at work"), folder_lock(tmp_path):
            pass
        child.kill()
        child.wait()
        assert (tmp_path / LOCK_NAME).exists()
        with folder_lock(tmp_path):
            pass
    assert [*tmp_path.iterdir()] == []


def test_the_lock_is_released_on_an_error(tmp_path: Path):
    with pytest.raises(KeyError), folder_lock(tmp_path):
        raise KeyError
    with folder_lock(tmp_path):
        pass


def test_a_missing_folder_is_created(tmp_path: Path):
    with folder_lock(tmp_path / "missing"):
        assert (tmp_path / "missing").is_dir()


@pytest.mark.skipif(os.name != "posix", reason="needs flock")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_locks_is_used_without_one(tmp_path: Path, monkeypatch, caplog, number: int):
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    with folder_lock(tmp_path):
        (tmp_path / "work").touch()
    assert "this disk has no file locks" in caplog.text
