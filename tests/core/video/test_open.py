from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from numbered_video import make_video, numbered_frames, read_numbers
from recorded_calls import RecordedCalls
from steadyscale.core.clip import ClipError, ClipInfo
from steadyscale.core.video.decode.corruption_report import OnDamage
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode.codecs import Encoding
from steadyscale.core.video.format.stream_format import BT709, SRGB
from steadyscale.core.video.images.image_clip import ImageClip
from steadyscale.core.video.images.png_writer import write_images
from steadyscale.core.video.open import check_target, open_clip, write_clip

INFO = ClipInfo(64, 48, Fraction(24))


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out", "out/f_%03d.png", "out.frames/"])
def test_what_is_written_can_be_opened(tmp_path: Path, name: str):
    target = tmp_path / name
    if name == "out.frames/":
        target.mkdir()
    assert write_clip(target, iter(numbered_frames(4).split(3)), INFO) == 4
    clip = open_clip(target, fps=Fraction(12))
    assert isinstance(clip, VideoClip if target.suffix in (".mp4", ".mkv") else ImageClip)
    assert clip.info.fps == (24 if isinstance(clip, VideoClip) else 12)
    assert read_numbers(clip) == [0, 1, 2, 3]


def test_video_to_images_and_back(tmp_path: Path, clip_file: Path):
    clip = open_clip(clip_file)
    assert write_clip(tmp_path / "frames", clip.frames(5), clip.info, source=clip_file) == 12
    images = open_clip(tmp_path / "frames", fps=Fraction(24))
    assert write_clip(tmp_path / "back.mp4", images.frames(), images.info, source=tmp_path / "frames") == 12
    back = VideoClip(tmp_path / "back.mp4")
    assert read_numbers(back) == list(range(12))
    assert (back.stream_format.primaries, back.stream_format.transfer) == (BT709, SRGB)


def test_the_source_is_never_replaced(tmp_path: Path, clip_file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    before = clip_file.read_bytes()
    with pytest.raises(ClipError, match="source itself"):
        write_clip("source.mp4", iter([numbered_frames(12)]), INFO, source=clip_file)
    assert clip_file.read_bytes() == before
    write_images(tmp_path / "f", iter([numbered_frames(3)]))
    for target in (tmp_path / "f", tmp_path / "f" / "frame_%06d.png"):
        with pytest.raises(ClipError, match="source"):
            write_clip(target, iter([numbered_frames(3)]), INFO, source=tmp_path / "f" / "frame_*.png")
    assert read_numbers(ImageClip(tmp_path / "f")) == [0, 1, 2]


def test_the_source_is_never_replaced_by_way_of_a_link(tmp_path: Path):
    write_images(tmp_path / "real", iter([numbered_frames(3)]))
    (tmp_path / "links").mkdir()
    for file in (tmp_path / "real").iterdir():
        (tmp_path / "links" / file.name).symlink_to(file)
    (tmp_path / "same").symlink_to("real")
    for source, target in (("links", "real"), ("real", "same"), ("same", "real"), ("links", "same")):
        with pytest.raises(ClipError, match="source"):
            write_clip(tmp_path / target, iter([numbered_frames(3).flip(0)]), INFO, source=tmp_path / source)
    assert read_numbers(ImageClip(tmp_path / "real")) == [0, 1, 2]


def test_other_names_in_the_folder_of_the_source_are_fine(tmp_path: Path):
    write_images(tmp_path / "f" / "small_%d.png", iter([numbered_frames(3)]))
    write_clip(
        tmp_path / "f" / "large_%d.png", iter([numbered_frames(3)]), INFO, source=tmp_path / "f" / "small_%d.png"
    )
    assert len(list((tmp_path / "f").iterdir())) == 6


def test_a_video_named_like_a_folder_is_still_a_file(tmp_path: Path):
    make_video(tmp_path / "x.mp4", 2).rename(tmp_path / "x")
    assert read_numbers(open_clip(tmp_path / "x")) == [0, 1]


@pytest.mark.parametrize("name", ["out.mp4", "out", "new/deep/f_%03d.png"])
def test_a_folder_that_cannot_be_written_to_is_reported_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    monkeypatch.setattr("os.access", lambda folder, mode: Path(folder) != tmp_path)  # root may write anywhere
    with pytest.raises(ClipError, match=r"cannot be written to; choose another name"):
        check_target(tmp_path / name)
    (tmp_path / "own").mkdir()
    check_target(tmp_path / "own" / name if "/" not in name else tmp_path / "own" / "f_%03d.png")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "the name of the result is empty"),
        ("-", "only stabilize --live writes to stdout"),
        ("a\0b.mp4", "NUL"),
        ("a" * 300 + ".mp4", "too long"),
    ],
)
def test_a_name_that_no_result_can_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ClipError, match=message):
        check_target(name)
    assert [*tmp_path.iterdir()] == []


def test_a_hard_link_to_the_source_is_the_source(tmp_path: Path, clip_file: Path):
    (tmp_path / "twin.mp4").hardlink_to(clip_file)
    with pytest.raises(ClipError, match="source itself"):
        check_target(tmp_path / "twin.mp4", source=clip_file)
    write_images(tmp_path / "f", iter([numbered_frames(3)]))
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "frame_000002.png").hardlink_to(tmp_path / "f" / "frame_000003.png")
    with pytest.raises(ClipError, match="would replace frame_000003"):
        check_target(tmp_path / "g", source=tmp_path / "f")


def test_a_link_to_itself_is_refused(tmp_path: Path):
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    with pytest.raises(ClipError, match="points to itself"):
        check_target(tmp_path / "loop.mp4")


@pytest.mark.parametrize("name", ["100%done.png", "50%dark [1].png"])
def test_a_percent_sign_in_a_name_is_no_pattern(tmp_path: Path, name: str):
    assert write_clip(tmp_path / name, iter([numbered_frames(1)]), INFO) == 1
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_an_image_is_written_through_a_link(tmp_path: Path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "still.png"
    link.symlink_to("real/a.png")
    write_clip(link, iter([numbered_frames(1)]), INFO)
    assert link.is_symlink()
    assert [file.name for file in (tmp_path / "real").iterdir()] == ["a.png"]


def test_every_argument_of_opening_arrives(monkeypatch, tmp_path):
    calls = RecordedCalls(monkeypatch)
    calls.replace("steadyscale.core.video.open.VideoClip", "video")
    calls.replace("steadyscale.core.video.open.ImageClip", "images")
    arguments = {"max_pixels": 4321, "on_damage": OnDamage.KEEP, "hwaccel": "auto"}
    assert open_clip("a.mp4", fps=Fraction(50), **arguments) == "video"
    video = calls.one("VideoClip")
    assert {name: video[name] for name in arguments} == arguments
    assert open_clip(tmp_path, fps=Fraction(50), max_pixels=4321) == "images"
    images = calls.one("ImageClip")
    assert (images["fps"], images["max_pixels"]) == (50, 4321)


def test_every_argument_of_writing_arrives(monkeypatch, tmp_path):
    calls = RecordedCalls(monkeypatch)
    calls.replace("steadyscale.core.video.open.check_target")
    calls.replace("steadyscale.core.video.open.write_video", 3)
    calls.replace("steadyscale.core.video.open.write_images", 4)
    encoding, info, source = Encoding("hevc"), ClipInfo(64, 48, Fraction(24)), make_video(tmp_path / "in.mp4", 3)
    write_images(tmp_path / "images", iter(numbered_frames(2).split(1)))
    assert write_clip(tmp_path / "out.mp4", iter([]), info, encoding=encoding, source=source) == 3
    checked, written = calls.one("check_target"), calls.one("write_video")
    assert (checked["encoding"], checked["source"]) == (encoding, source)
    assert (written["info"], written["encoding"], written["source"]) == (info, encoding, source)
    write_clip(tmp_path / "out.mp4", iter([]), info, source=tmp_path / "images")
    assert calls.all("write_video")[-1]["source"] is None, "images have no audio"
    assert write_clip(tmp_path / "folder", iter([]), info, bits=16) == 4
    assert calls.one("write_images")["bits"] == 16
