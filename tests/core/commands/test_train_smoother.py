from __future__ import annotations

import json
from pathlib import Path

from steadyscale.models import load_path_smoother


def test_the_smoother_can_be_trained_anew(tmp_path: Path, run):
    out = tmp_path / "path.safetensors"
    code, stdout, stderr = run("train-smoother", out, "--steps", "1", "--json")
    assert (code, stderr) == (0, "")
    assert json.loads(stdout)["output"] == str(out)
    assert load_path_smoother(out).offline.layers[-1].bias.item() != 0
