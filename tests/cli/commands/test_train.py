"""`steadyscale train`: weight files, errors, resuming, and signals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from cli_process import cli_command
from safetensors.torch import load_file
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


def test_one_of_several_processes_reports(tmp_path: Path, clip_file: Path, run_cli, monkeypatch: pytest.MonkeyPatch):
    config = tmp_path / "run.toml"
    config.write_text(f'run = "{tmp_path}/run"\n[data]\ntrain = ["{clip_file}"]\n')
    monkeypatch.setattr("steadyscale.core.training.train", lambda config, resume: (report for report in ()))
    outputs = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        outputs.append(run_cli("train", config))
    assert [output[:2] for output in outputs] == [(0, f"{tmp_path}/run: nothing left to do\n"), (0, "")]


KILLED_ONCE = """
import os, signal, sys, torch
from steadyscale.cli.main import run_and_exit
from steadyscale.core.training.loop import trainer

torch.set_num_threads(1)
take_step, (victim, *sys.argv[1:]) = trainer.train_step, sys.argv[1:]


def train_step(state, *args, **named):
    if (os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"], state.step) == (victim, "0", 5):
        os.kill(os.getpid(), signal.SIGKILL)
    return take_step(state, *args, **named)


trainer.train_step = train_step
sys.exit(run_and_exit())
"""


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.slow
def test_torchrun_starts_a_run_again_that_lost_a_process(tmp_path: Path, clip_file: Path):
    script, checkpoints = tmp_path / "train.py", {}
    script.write_text(KILLED_ONCE)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    for victim in ("1", "none"):
        folder, config = tmp_path / victim, tmp_path / f"{victim}.toml"
        config.write_text(
            f'run = "{folder}"\nsteps = 8\nbatch = 4\n[data]\ntrain = ["{clip_file}"]\ncrop = 32\n'
            "[network]\nfeatures = 8\nconvs = 2\nscales = [2]\n[output]\ncheckpoint_every = 2\n"
            '[runtime]\ndevice = "cpu"\nnum_workers = 0\n'
        )
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        ran = subprocess.run(
            [*torchrun, "--max-restarts=1", str(script), victim, "train", str(config), "--resume"],
            env=environment, capture_output=True, text=True, timeout=500,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout == f"{folder / 'model_2x.safetensors'}\n", "one process reports, and nothing is left to do"
        steps = [line["step"] for line in read_log(folder)]
        assert steps == [1, 2, 3, 4, 5, 6, 7, 8]
        newest = folder / "checkpoints" / "step_00000008"
        checkpoints[victim] = {file.name: load_file(file) for file in sorted(newest.glob("*.safetensors"))}
        assert ("exitcode: -9" in ran.stderr) == (victim == "1"), ran.stderr
    killed, unbroken = checkpoints["1"], checkpoints["none"]
    assert killed.keys() == unbroken.keys() != set()
    for name, tensors in unbroken.items():
        assert all(torch.equal(tensor, killed[name][key]) for key, tensor in tensors.items())


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
