from __future__ import annotations

import json
from pathlib import Path

import pytest


def test_bench_measures_what_it_says(weights: Path, run_cli):
    code, stdout, _ = run_cli("bench", weights, "--size", "48x32", "--frames", "3", "--device", "cpu", "--json")
    report = json.loads(stdout)
    assert (code, report["command"], report["frames"], report["scale"]) == (0, "bench", 3, 2)
    assert (report["width"], report["height"], report["precision"]) == (48, 32, "fp32")
    assert report["fps"] == pytest.approx(3 / report["seconds"])
    code, stdout, _ = run_cli("bench", weights, "--size", "96x64", "--tile", "32", "--frames", "2", "--device", "cpu")
    assert code == 0
    assert "tiles of" in stdout
