"""The examples of docs/examples run as written, and their results are what they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import pytest
from numbered_video import make_video, read_numbers
from steadyscale.core import VideoClip

FOLDER = Path(__file__).parents[2] / "docs" / "examples"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_video(tmp_path / "in" / "clip.mp4")


@pytest.fixture(autouse=True)
def input_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()


def run(name: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, FOLDER / name, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def size(path: Path) -> tuple[int, int]:
    with av.open(str(path)) as container:
        return container.streams.video[0].width, container.streams.video[0].height


def test_upscale_with_progress(source: Path, tmp_path: Path) -> None:
    output = run("upscale_with_progress.py", source, tmp_path / "large.mp4")
    assert "upscaling: 12 of 12 frames" in output
    assert size(tmp_path / "large.mp4") == (128, 96)
    assert read_numbers(VideoClip(tmp_path / "large.mp4")) == list(range(12))


def test_stabilize_folder(source: Path, tmp_path: Path) -> None:
    (source.parent / "broken.mp4").write_bytes(b"no video")
    command = [sys.executable, FOLDER / "stabilize_folder.py", source.parent, tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, "one of the two files failed"
    assert "broken.mp4" in done.stdout
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["clip.mp4"]


def test_process_frames(source: Path, tmp_path: Path) -> None:
    assert run("process_frames.py", source, tmp_path / "out.mp4").endswith("12 frames\n")
    frame = next(VideoClip(tmp_path / "out.mp4").frames())[0]
    plain = next(VideoClip(source).frames())[0]
    strip = frame[:, :8].mean(dim=0).mean(dim=0)
    assert strip[:4].mean() < 0.85 * strip[60:68].mean(), "the corners are darker than the middle"
    assert float(plain[:, 1, :2].mean() - plain[:, 1, 30:32].mean()) == pytest.approx(0, abs=0.05)


def test_custom_smoother(source: Path, tmp_path: Path) -> None:
    assert "12 frames" in run("custom_smoother.py", source, tmp_path / "out.mp4")


def test_reuse_motion(source: Path, tmp_path: Path) -> None:
    first = run("reuse_motion.py", source, tmp_path / "motion.json")
    assert first.count("magnified by up to") == 4
    source.unlink()
    assert run("reuse_motion.py", source, tmp_path / "motion.json") == first, "the saved motion is enough"
