"""What happens to the output of a command does not change its exit code."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from cli_process import cli_command

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs /dev/full and shell redirection")


def _stabilize(redirect: str, source: Path, target: Path, **environment: str) -> tuple[int, bytes]:
    """Run a command that starts fast, as it needs no torch."""
    words = cli_command("stabilize", source, target, "--device", "cpu", "--flow", "tracks", "--border", "mirror")
    shell = ["bash", "-c", f'"$@" {redirect}', "bash", *words]
    done = subprocess.run(shell, capture_output=True, check=False, env={**os.environ, **environment})
    return done.returncode, done.stdout + done.stderr


def test_a_name_that_the_console_cannot_encode_is_escaped(tmp_path: Path, clip_file: Path):
    target = tmp_path / "アニメ.mp4"
    code, output = _stabilize("", clip_file, target, PYTHONIOENCODING="cp1252")
    assert code == 0, output
    assert b"\\u30a2\\u30cb\\u30e1.mp4: 12 frames" in output
    assert target.exists()


@pytest.mark.parametrize("redirect", [">/dev/full", ">/dev/full 2>&1", ">&- 2>&-"])
def test_a_closed_or_full_stdout_is_no_failure(tmp_path: Path, clip_file: Path, redirect: str):
    code, output = _stabilize(redirect, clip_file, tmp_path / "out.mp4")
    assert code == 0, output
    assert (tmp_path / "out.mp4").exists()
    assert (b"could not be printed" in output) == (redirect == ">/dev/full")


def test_a_failure_stays_one(tmp_path: Path):
    assert _stabilize(">/dev/full 2>&1", tmp_path / "no.mp4", tmp_path / "out.mp4")[0] == 1
