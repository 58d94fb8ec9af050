"""Commands import no more than they need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from numbered_video import make_video

PROGRAM = """
import json, sys
from steadyscale.cli.main import main

for words in json.loads(sys.argv[1]):
    code = main(words)
    loaded = [name for name in ("torch", "scipy") if name in sys.modules]
    print(json.dumps([words, code, loaded]), file=sys.stderr)
"""
WITHOUT_NETWORK = [
    ["--help"],
    ["stabilize", "--help"],
    ["stabilize", "IN", "OUT.mp4", "--json"],
    ["stabilize", "IN", "OUT.mp4", "--border", "mirror", "--flow", "tracks"],
    # In FFV1's default, 4:4:4, chroma would be resampled, which needs torch.
    ["stabilize", "IN", "OUT.mkv", "--rolling-shutter", "0.5", "--codec", "ffv1", "--pixel-format", "yuv420p"],
    ["info", "IN"],
    ["upscale", "--help"],
    ["enhance", "--help"],
    ["batch", "--help"],
    ["train", "--help"],
    ["train-smoother", "--help"],
    ["compress", "--help"],
    ["bench", "--help"],
]


def run_in_new_process(commands: list[list[str]], folder: Path) -> tuple[list[tuple[list[str], int, list[str]]], str]:
    """Run commands one after the other.

    Each with its exit code and what had been imported after it, and all that was printed as an error.
    """
    program = [sys.executable, "-c", PROGRAM, json.dumps(commands)]
    ran = subprocess.run(program, capture_output=True, text=True, cwd=folder)
    return [tuple(json.loads(line)) for line in ran.stderr.splitlines() if line.startswith("[[")], ran.stderr


def test_what_needs_no_network_does_without_torch(tmp_path: Path):
    """It is half a gigabyte, and seconds, that a clip of seconds would be charged for."""
    source = make_video(tmp_path / "in.mp4", 5)
    places = {"IN": str(source), "OUT.mp4": str(tmp_path / "out.mp4"), "OUT.mkv": str(tmp_path / "out.mkv")}
    commands = [[places.get(word, word) for word in words] for words in WITHOUT_NETWORK]
    found, errors = run_in_new_process(commands, tmp_path)
    assert found == [(words, 0, []) for words in commands], errors


def test_a_clip_that_cannot_be_read_is_reported_before_torch_is_loaded(tmp_path: Path):
    empty = tmp_path / "empty.mp4"
    empty.touch()
    commands = [[name, str(empty), str(tmp_path / "out.mp4")] for name in ("upscale", "enhance", "stabilize")]
    found, errors = run_in_new_process(commands, tmp_path)
    assert found == [(words, 1, []) for words in commands], errors
    assert errors.count("empty.mp4: the file has 0 bytes") == 3
