"""400 seeded mutations of each kind of input: a clean error or a right result, never a raw exception or a crash."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("run_cases.py")
SUPPORT = Path(__file__).parents[1] / "support"
KINDS = ("images", "containers", "weights", "ncnn", "json", "toml")
COUNT = 400


@pytest.mark.skipif(sys.platform != "linux", reason="the memory limit needs Linux")
@pytest.mark.parametrize("kind", KINDS)
def test_mutated_input_is_refused_in_one_line_or_read_right(kind):
    paths = [str(SUPPORT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "STEADYSCALE_NATIVE": "0"}
    command = [sys.executable, str(SCRIPT), kind, "--count", str(COUNT)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=500, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"{lines[-1] if lines else 'before the first case'}: {done.stderr[-3000:]}"
    results = [line for line in lines if "outcome" in line]
    failed = [line for line in results if line["outcome"] == "failed"]
    assert not failed, "\n".join(f"seed {line['seed']}, {line['file']}: {line['reason']}" for line in failed[:5])
    assert len(results) == COUNT
    # Mutations that are all refused, or all accepted, test little.
    outcomes = [line["outcome"] for line in results]
    assert outcomes.count("refused") >= COUNT // 20
    assert outcomes.count("accepted") >= COUNT // 20
