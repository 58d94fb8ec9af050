"""The examples of docs/examples run as written, and their results are what they say."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
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


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run an example as a program, in this process: its output."""

    def call(name: str, *arguments: object, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        try:
            runpy.run_path(str(FOLDER / name), run_name="__main__")
            ended = 0
        except SystemExit as end:
            ended = end.code or 0
        out, err = capsys.readouterr()
        assert ended == code, err
        return out

    return call


def size(path: Path) -> tuple[int, int]:
    with av.open(str(path)) as container:
        return container.streams.video[0].width, container.streams.video[0].height


def test_upscale_with_progress(source: Path, tmp_path: Path, run) -> None:
    output = run("upscale_with_progress.py", source, tmp_path / "large.mp4")
    assert "upscaling: 12 of 12 frames" in output
    assert size(tmp_path / "large.mp4") == (128, 96)
    assert read_numbers(VideoClip(tmp_path / "large.mp4")) == list(range(12))


def test_stabilize_folder(source: Path, tmp_path: Path, run) -> None:
    (source.parent / "broken.mp4").write_bytes(b"no video")
    output = run("stabilize_folder.py", source.parent, tmp_path / "out", code=1)
    assert "broken.mp4" in output, "one of the two files failed"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["clip.mp4"]


def test_process_frames(source: Path, tmp_path: Path, run) -> None:
    assert run("process_frames.py", source, tmp_path / "out.mp4").endswith("12 frames\n")
    frame = next(VideoClip(tmp_path / "out.mp4").frames())[0]
    plain = next(VideoClip(source).frames())[0]
    strip = frame[:, :8].mean(dim=0).mean(dim=0)
    assert strip[:4].mean() < 0.85 * strip[60:68].mean(), "the corners are darker than the middle"
    assert float(plain[:, 1, :2].mean() - plain[:, 1, 30:32].mean()) == pytest.approx(0, abs=0.05)


def test_custom_smoother(source: Path, tmp_path: Path, run) -> None:
    assert "12 frames" in run("custom_smoother.py", source, tmp_path / "out.mp4")


def test_reuse_motion(source: Path, tmp_path: Path, run) -> None:
    first = run("reuse_motion.py", source, tmp_path / "motion.json")
    assert first.count("magnified by up to") == 4
    source.unlink()
    assert run("reuse_motion.py", source, tmp_path / "motion.json") == first, "the saved motion is enough"
