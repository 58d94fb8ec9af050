"""Options without effect are named in one warning each, and change nothing."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from steadyscale.cli.main import build_parser
from steadyscale.cli.unused_options import warn_of_unused_options

VIDEO, IMAGES = "in.mp4 out.mp4", "frames out"


@pytest.mark.parametrize(
    ("words", "unused"),
    [
        (f"upscale {VIDEO}", []),
        (f"upscale {VIDEO} --fps 30", ["--fps"]),
        (f"upscale {IMAGES} --fps 30 --bits 16", []),
        (f"enhance {VIDEO} --bits 16", ["--bits"]),
        (f"stabilize {VIDEO} --reference 4", ["--reference"]),
        (f"stabilize {VIDEO} --reference 4 --smoothing kalman", ["--reference"]),
        (f"stabilize {VIDEO} --reference 0 --smoothing locked", []),
        (f"stabilize {VIDEO} --reference 4 --horizon 0.5", []),  # its roll is level then
        (f"enhance {VIDEO} --fps 30 --bits 8 --reference 4", ["--fps", "--bits", "--reference"]),
        (f"stabilize {VIDEO} --preset fast", []),
        (f"stabilize {VIDEO} --preset fast --codec ffv1", []),  # refused by the command
        ("stabilize in.mp4 out.mkv --preset fast --codec ffv1", ["--preset"]),
        ("upscale in.mp4 out.webm --preset fast", ["--preset"]),
        (f"upscale {IMAGES} --preset fast", ["--preset"]),
        (f"upscale {'x' * 300} out.mp4 --fps 30", []),
    ],
)
def test_each_option_without_effect_is_named_once(words: str, unused: list[str], caplog: pytest.LogCaptureFixture):
    command = words.split()[0]
    warn_of_unused_options(build_parser(command).parse_args(words.split()))
    assert [message.partition(" has no effect: ")[0] for message in caplog.messages] == unused
    assert all(record.levelno == logging.WARNING for record in caplog.records)


@pytest.mark.parametrize("command", ["stabilize", "enhance", "upscale"])
def test_commands_warn(command: str, tmp_path: Path, run_cli):
    code, _, stderr = run_cli(command, tmp_path / "none.mp4", tmp_path / "out.mp4", "--fps", "30")
    assert code == 1
    assert "--fps has no effect" in stderr
