"""`steadyscale train`: weight files, errors, resuming, and signals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from cli_process import cli_command
from steadyscale.core.training.loop.logger import read_log
from steadyscale.core.video.open import open_clip


def test_train_writes_a_network_that_upscale_reads(tmp_path: Path, clip_file: Path, run_cli):
    config = tmp_path / "run.toml"
    config.write_text("")
    code, _, stderr = run_cli("train", config)
    assert (code, stderr.count("\n")) == (1, 1)
    assert "data.train" in stderr
    changes = [f'data.train=["{clip_file}"]', f'run="{tmp_path / "run"}"', "data.crop=32", "network.features=8"]
    changes += ["network.convs=2", "network.scales=[2]", "steps=2", "batch=2"]
    words = [word for change in changes for word in ("--set", change)]
    code, stdout, _ = run_cli("train", config, *words, "--json")
    assert code == 0
    report = json.loads(stdout)
    assert report["steps"] == 2
    out = tmp_path / "out.mp4"
    assert run_cli("upscale", clip_file, out, "--model", report["files"][0], "--quiet")[0] == 0
    assert open_clip(out).info.width == 128
    code, _, stderr = run_cli("train", config, *words)
    assert code == 1
    assert "--resume" in stderr
    more = ["--set", "steps=3", "--set", f'data.validate=["{clip_file}"]']
    code, stdout, _ = run_cli("train", config, *words, *more, "--resume")
    assert code == 0
    assert re.fullmatch(r"\S+model_2x\.safetensors\non data\.validate: 2x \d+\.\d\d dB, SSIM 0\.\d{4}\n", stdout)


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow
def test_a_stop_signal_loses_no_step(tmp_path: Path, clip_file: Path, number: int):
    folder, config = tmp_path / "run", tmp_path / "run.toml"
    config.write_text(
        f'run = "{folder}"\nbatch = 2\n[data]\ntrain = ["{clip_file}"]\ncrop = 32\n'
        "[network]\nfeatures = 8\nconvs = 2\nscales = [2]\n"
    )
    child = subprocess.Popen(cli_command("train", config), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (folder / "log.jsonl").exists() or len(read_log(folder)) < 5:
        assert child.poll() is None, child.communicate()[1]
        assert time.monotonic() < deadline, "no step was taken"
        time.sleep(0.02)
    child.send_signal(number)
    _, stderr = child.communicate(timeout=60)
    assert child.returncode == 130, stderr
    assert "--resume" in stderr
    assert "what is finished is kept" in stderr
    taken = read_log(folder)[-1]["step"]
    assert [path.name for path in (folder / "checkpoints").iterdir()] == [f"step_{taken:08d}"]
