from __future__ import annotations

import json
from pathlib import Path

from steadyscale.models import load_path_smoother


def test_the_smoother_can_be_trained_anew(tmp_path: Path, run_cli):
    out = tmp_path / "path.safetensors"
    code, stdout, stderr = run_cli("train-smoother", out, "--steps", "1", "--json")
    assert (code, stderr) == (0, "")
    assert json.loads(stdout)["output"] == str(out)
    assert load_path_smoother(out).offline.layers[-1].bias.item() != 0


def test_a_name_that_is_no_weight_file_is_told_before_the_training(tmp_path: Path, run_cli):
    code, _, stderr = run_cli("train-smoother", tmp_path / "path.txt", "--steps", "100000")
    assert (code, stderr) == (
        1,
        f"steadyscale: {tmp_path / 'path.txt'}: the smoother is written as a .safetensors file\n",
    )
    code, _, stderr = run_cli("train-smoother", tmp_path / "path.safetensors", "--seed", "-1")
    assert (code, stderr) == (1, "steadyscale: seed is at least 0, not -1\n")
