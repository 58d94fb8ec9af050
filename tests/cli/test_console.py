"""What happens to the output of a command does not change its exit code."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from cli_process import cli_command

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs /dev/full and shell redirection")


def _upscale(redirect: str, source: Path, target: Path, weights: Path, **environment: str) -> tuple[int, bytes]:
    words = cli_command("upscale", source, target, "--model", weights, "--device", "cpu")
    shell = ["bash", "-c", f'"$@" {redirect}', "bash", *words]
    done = subprocess.run(shell, capture_output=True, check=False, env={**os.environ, **environment})
    return done.returncode, done.stdout + done.stderr


def test_a_name_that_the_console_cannot_encode_is_escaped(tmp_path: Path, clip_file: Path, weights: Path):
    target = tmp_path / "アニメ.mp4"
    code, output = _upscale("", clip_file, target, weights, PYTHONIOENCODING="cp1252")
    assert code == 0, output
    assert b"\\u30a2\\u30cb\\u30e1.mp4: 12 frames" in output
    assert target.exists()


@pytest.mark.parametrize("redirect", [">/dev/full", ">/dev/full 2>&1", ">&- 2>&-"])
def test_a_closed_or_full_stdout_is_no_failure(tmp_path: Path, clip_file: Path, weights: Path, redirect: str):
    code, output = _upscale(redirect, clip_file, tmp_path / "out.mp4", weights)
    assert code == 0, output
    assert (tmp_path / "out.mp4").exists()
    assert (b"could not be printed" in output) == (redirect == ">/dev/full")


def test_a_failure_stays_one(tmp_path: Path, weights: Path):
    assert _upscale(">/dev/full 2>&1", tmp_path / "no.mp4", tmp_path / "out.mp4", weights)[0] == 1
