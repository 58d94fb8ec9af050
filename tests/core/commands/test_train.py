from __future__ import annotations

import json
from pathlib import Path

from steadyscale.core.video.files import open_clip


def test_train_leaves_a_network_that_upscale_takes(tmp_path: Path, clip_file: Path, run):
    config = tmp_path / "run.toml"
    config.write_text("")
    code, _, stderr = run("train", config)
    assert (code, stderr.count("\n")) == (1, 1)
    assert "data.train" in stderr
    changes = [f'data.train=["{clip_file}"]', f'run="{tmp_path / "run"}"', "data.crop=32", "network.features=8"]
    changes += ["network.convs=2", "network.scales=[2]", "steps=2", "batch=2"]
    words = [word for change in changes for word in ("--set", change)]
    code, stdout, _ = run("train", config, *words, "--json")
    assert code == 0
    report = json.loads(stdout)
    assert report["steps"] == 2
    out = tmp_path / "out.mp4"
    assert run("upscale", clip_file, out, "--model", report["files"][0], "--quiet")[0] == 0
    assert open_clip(out).info.width == 128
    code, _, stderr = run("train", config, *words)
    assert code == 1
    assert "--resume" in stderr
