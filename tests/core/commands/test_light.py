"""What commands load: no more than they need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from counting import make_video

PROGRAM = """
import json, sys
from steadyscale.core.cli import main

code = main(sys.argv[1:])
json.dump([code, [name for name in ("torch", "scipy") if name in sys.modules]], sys.stderr)
"""


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["stabilize", "--help"],
        ["stabilize", "IN", "OUT.mp4", "--json"],
        ["stabilize", "IN", "OUT.mp4", "--border", "mirror", "--flow", "tracks"],
        ["stabilize", "IN", "OUT.mkv", "--rolling-shutter", "0.5", "--codec", "ffv1"],
        ["info", "IN"],
    ],
    ids=lambda words: "-".join(words[:1] + words[3:4]),
)
def test_what_needs_no_network_does_without_torch(tmp_path: Path, words: list[str]):
    """It is half a gigabyte, and seconds, that a clip of seconds would be charged for."""
    source = make_video(tmp_path / "in.mp4", 5)
    words = [word.replace("IN", str(source)).replace("OUT", str(tmp_path / "out")) for word in words]
    ran = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, cwd=tmp_path)
    assert json.loads(ran.stderr.splitlines()[-1]) == [0, []], ran.stderr
