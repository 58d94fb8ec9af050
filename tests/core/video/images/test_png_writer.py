from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from numbered_video import numbered_frames, read_numbers
from PIL import Image
from steadyscale.core.clip import ClipError
from steadyscale.core.video.images.image_clip import ImageClip
from steadyscale.core.video.images.png_writer import write_images
from video_file_checks import assert_released, list_files


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [3, 4])
def test_images_are_written_losslessly(tmp_path: Path, bits: int, channels: int):
    max_level = 2**bits - 1
    frames = (
        torch.randint(0, max_level + 1, (7, channels, 33, 21), generator=torch.Generator().manual_seed(0)) / max_level
    )
    assert write_images(tmp_path / "out", iter(frames.split(3)), bits=bits) == 7
    assert list_files(tmp_path / "out") == [f"frame_{n:06d}.png" for n in range(1, 8)]
    back = torch.cat(list(ImageClip(tmp_path / "out").frames(2)))
    assert torch.equal((back * max_level).round(), (frames * max_level).round())
    if bits == 8:
        with Image.open(tmp_path / "out" / "frame_000003.png") as other:  # also to an independent reader
            pixels = np.asarray(other).transpose(2, 0, 1)
        assert np.array_equal(pixels, (frames[2] * 255).round().byte().numpy())


def test_all_16_bits_are_written(tmp_path: Path):
    ramp = torch.linspace(0, 1, 4096).view(1, 1, 1, 4096).expand(1, 3, 2, 4096)
    write_images(tmp_path / "out", iter([ramp]), bits=16)
    assert len(next(ImageClip(tmp_path / "out").frames()).unique()) == 4096


def test_the_pattern_names_the_files(tmp_path: Path):
    assert write_images(tmp_path / "new" / "50%_f%03d.png", iter(numbered_frames(3).split(2))) == 3
    assert list_files(tmp_path / "new") == ["50%_f001.png", "50%_f002.png", "50%_f003.png"]
    assert read_numbers(ImageClip(tmp_path / "new")) == [0, 1, 2]


def test_a_file_name_without_a_number_takes_one_frame(tmp_path: Path):
    assert write_images(tmp_path / "still.png", iter([numbered_frames(1)])) == 1
    assert list_files(tmp_path) == ["still.png"]
    with pytest.raises(ClipError, match=r"several frames; write other_%04d\.png"):
        write_images(tmp_path / "other.png", iter([numbered_frames(2)]))
    assert list_files(tmp_path) == ["still.png"]


def test_a_file_name_may_contain_wildcards_of_patterns(tmp_path: Path):
    assert write_images(tmp_path / "still [1].png", iter([numbered_frames(1)])) == 1
    assert list_files(tmp_path) == ["still [1].png"]


def test_a_shorter_run_leaves_nothing_of_a_longer_one(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    out = tmp_path / "out"
    write_images(out, iter([numbered_frames(5)]))
    (out / "notes.txt").write_text("keep me")
    (out / "frame_x.png").write_text("keep me too")
    write_images(out, iter([numbered_frames(2).flip(0)]))
    assert list_files(out) == ["frame_000001.png", "frame_000002.png", "frame_x.png", "notes.txt"]
    assert read_numbers(ImageClip(out / "frame_%06d.png")) == [1, 0]
    assert "3 images of an earlier run" in caplog.text


@pytest.mark.parametrize(("pattern", "other"), [("f_%04d.png", "f_000123.png"), ("f_%d.png", "f_0009.png")])
def test_files_that_the_pattern_does_not_write_are_kept(tmp_path: Path, pattern: str, other: str):
    (tmp_path / other).write_bytes(b"of another program")
    write_images(tmp_path / pattern, iter([numbered_frames(5)]))
    assert write_images(tmp_path / pattern, iter([numbered_frames(2)])) == 2
    assert (tmp_path / other).read_bytes() == b"of another program"
    assert len(list_files(tmp_path)) == 3


def failing_after(count: int, error: BaseException):
    yield numbered_frames(count)
    raise error


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()])
def test_an_error_upstream_leaves_everything_as_it_was(tmp_path: Path, error: BaseException):
    with pytest.raises(type(error)):
        write_images(tmp_path / "fresh", failing_after(3, error))
    assert list_files(tmp_path) == []
    write_images(tmp_path / "old", iter([numbered_frames(2)]))
    with pytest.raises(type(error)):
        write_images(tmp_path / "old", failing_after(3, error))
    assert list_files(tmp_path / "old") == ["frame_000001.png", "frame_000002.png"]


@pytest.mark.parametrize("number", [3, 9])
def test_a_folder_with_the_name_of_an_image_is_reported_before_the_first_frame(tmp_path: Path, number: int):
    (tmp_path / "out" / f"frame_{number:06d}.png").mkdir(parents=True)
    with pytest.raises(ClipError, match=rf"frame_{number:06d}\.png: this folder has the name of an image"):
        write_images(tmp_path / "out", failing_after(3, AssertionError("the work has begun")))
    assert list_files(tmp_path / "out") == [f"frame_{number:06d}.png"]


@pytest.mark.parametrize("refused", ["frame_000002.png", "frame_000003.png", "frame_000004.png"])
def test_a_folder_is_restored_when_one_image_cannot_be_moved(tmp_path: Path, monkeypatch, refused: str):
    """Number 2 replaces an image, 3 is new, and 4 is of an earlier run."""
    out, replace = tmp_path / "out", os.replace
    write_images(out, iter([numbered_frames(4)]))
    (out / "frame_000003.png").unlink()
    before = {file.name: file.read_bytes() for file in out.iterdir()}

    def refuse(file: Path, to: Path) -> None:
        if refused in (file.name, to.name) and (to if refused == "frame_000003.png" else file).parent == out:
            raise PermissionError(1, "Operation not permitted", str(file))
        replace(file, to)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(ClipError, match="Operation not permitted"):
        write_images(out, iter([numbered_frames(3).flip(0)]))
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "bits", "message"),
    [
        ("x_%03d.jpg", 8, "written as .png"),
        ("x_*.png", 8, "exactly one number"),
        ("x_%d_%d.png", 8, "one number"),
        ("x_%4d.png", 8, "spaces; write %04d"),
        ("out", 12, "8 or 16 bits"),
    ],
)
def test_errors_of_invalid_names_say_what_is_valid(tmp_path: Path, name: str, bits: int, message: str):
    with pytest.raises(ClipError, match=message):
        write_images(tmp_path / name, iter([numbered_frames(1)]), bits=bits)
    assert list_files(tmp_path) == []


def test_no_frames_a_change_of_size_and_infinity_are_errors(tmp_path: Path):
    with pytest.raises(ClipError, match="no frames to write"):
        write_images(tmp_path / "out", iter(()))
    with pytest.raises(ClipError, match=r"frame 2 has .*\(3, 32, 32\)"):
        write_images(tmp_path / "out", iter([numbered_frames(2), numbered_frames(1, 32, 32)]))
    bad = numbered_frames(3)
    bad[1] = float("inf")
    with pytest.raises(ClipError, match="frame 1 has non-finite values"):
        write_images(tmp_path / "out", iter([bad]))
    assert list_files(tmp_path) == []


def test_images_keep_their_order_however_long_each_takes_to_compress(tmp_path: Path):
    frames = numbered_frames(40, 256, 192)
    noise = torch.rand(3, 128, 256, generator=torch.Generator().manual_seed(0))
    frames[::3, :, 64:] = noise  # takes many times as long as a flat image
    assert write_images(tmp_path / "out", iter(frames.split(7))) == 40
    back = torch.cat(list(ImageClip(tmp_path / "out").frames()))
    assert torch.equal((back * 255).round(), (frames * 255).round())


def test_at_most_the_frame_that_is_written_is_alive_when_the_next_is_computed(tmp_path: Path):
    assert write_images(tmp_path / "out", assert_released(frame[None].clone() for frame in numbered_frames(6))) == 6
    assert read_numbers(ImageClip(tmp_path / "out")) == list(range(6))


@pytest.mark.parametrize(("name", "shape"), [("out", (1, 3, 32, 32)), ("x.jpg", (1, 3, 48, 64))])
def test_the_stream_of_frames_is_closed_when_writing_fails(tmp_path: Path, name: str, shape: tuple[int, ...]):
    closed = []

    def frames():
        try:
            yield numbered_frames(1)
            yield numbered_frames(1)
            while True:
                yield torch.zeros(shape)
        finally:
            closed.append(True)

    stream = frames()
    next(stream)  # A generator that was never started has no finally block to run.
    with pytest.raises(ClipError):
        write_images(tmp_path / name, stream)
    assert closed == [True]
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("steadyscale")] == []
    assert list_files(tmp_path) == []
