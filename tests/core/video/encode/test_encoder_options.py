"""The lookahead of encoders is bounded for large frames, and what breaks with small ones is off."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode.codecs import Encoding
from steadyscale.core.video.encode.writer import write_video
from video_file_checks import CLIP_INFO, split_batches


def lookahead_of(path: Path) -> int:
    """Read the settings that x264 stores in its stream."""
    content = path.read_bytes()
    start = content.index(b"rc_lookahead=") + len("rc_lookahead=")
    return int(content[start : start + 3].split()[0])


@pytest.mark.parametrize(
    ("size", "lookahead"), [((64, 48), 40), ((1280, 720), 11), ((1920, 1080), 8), ((3840, 2160), 8)]
)
def test_the_lookahead_is_shorter_for_large_frames(tmp_path: Path, size: tuple[int, int], lookahead: int):
    width, height = size
    write_video(tmp_path / "out.mp4", iter([torch.zeros(1, 3, height, width)]), CLIP_INFO)
    assert lookahead_of(tmp_path / "out.mp4") == lookahead


@pytest.mark.parametrize("codec", ["hevc", "av1"])
def test_the_other_encoders_accept_a_shorter_lookahead(tmp_path: Path, codec: str):
    frames = torch.zeros(1, 3, 1080, 1920) + torch.linspace(0, 1, 3).view(3, 1, 1, 1)
    assert write_video(tmp_path / "out.mp4", split_batches(frames, 1), CLIP_INFO, encoding=Encoding(codec)) == 3
    means = [float(f.mean()) for f in VideoClip(tmp_path / "out.mp4").frames()]
    assert means == pytest.approx([0, 0.5, 1], abs=0.02)


MALLOC_CHECKER = Path("/lib/x86_64-linux-gnu/libc_malloc_debug.so.0")
ENCODE_NARROW = """
import sys, torch
from pathlib import Path
from steadyscale.core.video.encode.codecs import Encoding
from steadyscale.core.video.encode.writer import write_video
from steadyscale.core.clip import ClipInfo
from fractions import Fraction
frames = torch.rand(6, 3, 32, 48, generator=torch.Generator().manual_seed(0)).split(1)
print(write_video(Path(sys.argv[1]), iter(frames), ClipInfo(48, 32, Fraction(25)), encoding=Encoding("hevc")))
"""


@pytest.mark.skipif(not MALLOC_CHECKER.exists(), reason="needs the malloc checker of glibc")
def test_narrow_hevc_is_written_within_its_memory(tmp_path: Path):
    checked = {**os.environ, "LD_PRELOAD": str(MALLOC_CHECKER), "MALLOC_CHECK_": "3"}
    command = [sys.executable, "-c", ENCODE_NARROW, str(tmp_path / "out.mp4")]
    done = subprocess.run(command, env=checked, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "6\n"), done.stderr
