"""The lookahead of encoders is bounded for large frames."""

from __future__ import annotations

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
