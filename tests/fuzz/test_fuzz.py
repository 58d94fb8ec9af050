"""Seeded mutations of each kind of input: a clean error or a right result, never a raw exception or a crash.

The first 200 of each kind are tested every time, 200 more with the slow tests.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from job_run import start_process

KINDS = ("images", "containers", "weights", "ncnn", "json", "toml")
COUNT = 200


@pytest.mark.skipif(sys.platform != "linux", reason="the memory limit needs Linux")
@pytest.mark.parametrize("first", [0, pytest.param(COUNT, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_mutated_input_is_refused_in_one_line_or_read_right(kind: str, first: int, tmp_path: Path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))  # also of the process
    from run_cases import run_into_file

    process = start_process(run_into_file, kind, first, COUNT, tmp_path / "cases.jsonl")
    process.join(500)
    process.kill()
    process.join()
    lines = [json.loads(line) for line in (tmp_path / "cases.jsonl").read_text().splitlines()]
    errors = (tmp_path / "cases.log").read_text()
    assert process.exitcode == 0, f"{lines[-1] if lines else 'before the first case'}: {errors[-3000:]}"
    results = [line for line in lines if "outcome" in line]
    failed = [line for line in results if line["outcome"] == "failed"]
    assert not failed, "\n".join(f"seed {line['seed']}, {line['file']}: {line['reason']}" for line in failed[:5])
    assert len(results) == COUNT
    # Mutations that are all refused, or all accepted, test little.
    outcomes = [line["outcome"] for line in results]
    assert outcomes.count("refused") >= COUNT // 20
    assert outcomes.count("accepted") >= COUNT // 20
