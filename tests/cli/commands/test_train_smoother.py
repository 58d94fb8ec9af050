"""`steadyscale train-smoother`."""

from __future__ import annotations

import json
from pathlib import Path

from steadyscale.models import load_path_smoother


def test_the_smoother_is_trained_and_loads(tmp_path: Path, run_cli):
    out = tmp_path / "path.safetensors"
    code, stdout, stderr = run_cli("train-smoother", out, "--steps", "1", "--json")
    assert (code, stderr) == (0, "")
    assert json.loads(stdout)["output"] == str(out)
    assert load_path_smoother(out).offline.layers[-1].bias.item() != 0


def test_an_invalid_output_or_seed_is_reported_before_the_training(tmp_path: Path, run_cli):
    code, _, stderr = run_cli("train-smoother", tmp_path / "path.txt", "--steps", "100000")
    assert (code, stderr) == (
        1,
        f"steadyscale: {tmp_path / 'path.txt'}: the output of the smoother must be a .safetensors file\n",
    )
    code, _, stderr = run_cli("train-smoother", tmp_path / "path.safetensors", "--seed", "-1")
    assert (code, stderr) == (1, "steadyscale: seed must be at least 0, not -1\n")
