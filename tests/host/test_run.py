"""Test `steadyscale run` on a real ComfyUI with the graphs of workflows/api."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
from cli_process import cli_command
from comfyhost import Host
from numbered_video import make_video, read_numbers
from steadyscale.core.video.open import open_clip

pytestmark = pytest.mark.host

API = Path(__file__).parents[2] / "workflows" / "api"


def words(host: Host, name: str, out: Path, *more: object) -> list[str]:
    return cli_command("run", API / f"{name}.json", "--server", host.url, "--output", out, "--json", *more)


def test_local_clip_is_uploaded_upscaled_and_downloaded(any_host: Host, tmp_path: Path) -> None:
    clip = make_video(tmp_path / "mine, and long.mp4")
    settings = ["--set", f"Load Video.file={clip}", "--set", "SteadyScale_UpscaleFrames.factor=1.5"]
    done = subprocess.run(words(any_host, "upscale", tmp_path / "out", *settings), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    (made,) = (tmp_path / "out").iterdir()
    assert report["files"] == [{"node": "4", "file": str(made)}]
    assert made.suffix == ".mp4"
    before, after = open_clip(clip), open_clip(made)
    assert (after.info.width, after.info.height) == (before.info.width * 3 // 2, before.info.height * 3 // 2)
    assert read_numbers(after) == read_numbers(before)


@pytest.mark.parametrize(
    ("setting", "words_of_the_host"),
    [
        ("1.file=nowhere.mp4", "Load Video (node 1): Custom validation failed for node: file - Invalid video file"),
        ("3.factor=1000", "Upscale Frames (node 3): Value 1000.0 bigger than max of"),
    ],
)
def test_refusal_quotes_the_host(
    host: Host, clip_name: str, tmp_path: Path, setting: str, words_of_the_host: str
) -> None:
    settings = ["--set", f"1.file={clip_name}", "--set", setting]
    done = subprocess.run(words(host, "upscale", tmp_path / "out", *settings), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert words_of_the_host in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_interrupts_the_run_on_the_host(any_host: Host, clip_name: str, tmp_path: Path) -> None:
    settings = ["--set", f"1.file={clip_name}", "--set", "3.tile=32", "--set", "3.factor=8"]
    command = words(any_host, "upscale", tmp_path / "out", *settings)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not any_host.get("/queue")["queue_running"] and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "was stopped on the server" in stderr
    run = stderr.split("the run ")[1].split()[0]
    while not (entry := any_host.history(run)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "execution_interrupted" in [kind for kind, _ in entry["status"]["messages"]]
    assert list((tmp_path / "out").iterdir()) == []
