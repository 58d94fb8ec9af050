"""Commands import no more than they need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from numbered_video import make_video

PROGRAM = """
import json, sys
from steadyscale.cli.main import main

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
        # In FFV1's default, 4:4:4, chroma would be resampled, which needs torch.
        ["stabilize", "IN", "OUT.mkv", "--rolling-shutter", "0.5", "--codec", "ffv1", "--pixel-format", "yuv420p"],
        ["info", "IN"],
        ["upscale", "--help"],
        ["enhance", "--help"],
        ["train", "--help"],
        ["train-smoother", "--help"],
        ["compress", "--help"],
        ["bench", "--help"],
    ],
    ids=lambda words: "-".join(words[:1] + words[3:4]),
)
def test_what_needs_no_network_does_without_torch(tmp_path: Path, words: list[str]):
    """It is half a gigabyte, and seconds, that a clip of seconds would be charged for."""
    source = make_video(tmp_path / "in.mp4", 5)
    words = [word.replace("IN", str(source)).replace("OUT", str(tmp_path / "out")) for word in words]
    ran = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, cwd=tmp_path)
    assert json.loads(ran.stderr.splitlines()[-1]) == [0, []], ran.stderr


@pytest.mark.parametrize("command", ["upscale", "enhance", "stabilize"])
def test_a_clip_that_cannot_be_read_is_reported_before_torch_is_loaded(tmp_path: Path, command: str):
    empty = tmp_path / "empty.mp4"
    empty.touch()
    words = [command, str(empty), str(tmp_path / "out.mp4")]
    ran = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True)
    message, loaded = ran.stderr.splitlines()[-2:]
    assert json.loads(loaded) == [1, []]
    assert "empty.mp4: the file has 0 bytes" in message
