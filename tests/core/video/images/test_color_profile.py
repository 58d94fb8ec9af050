"""ICC profiles and PNG's color chunks go from images to images; a video file cannot hold them."""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from steadyscale.core.video.images.image_clip import ImageClip
from steadyscale.core.video.images.metadata import png_chunks
from steadyscale.core.video.images.png_writer import write_images
from steadyscale.core.video.open import open_clip, write_clip

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


def save(path: Path, **options) -> Path:
    Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(path, **options)
    return path


def add_chunks(path: Path, *chunks: tuple[bytes, bytes]) -> None:
    content = path.read_bytes()
    added = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    path.write_bytes(content[:33] + added + content[33:])


def convert(source: Path, target: Path) -> None:
    clip = open_clip(source)
    write_clip(target, clip.frames(), clip.info, source=source)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_icc_profiles_are_kept(suffix: str, tmp_path: Path):
    convert(save(tmp_path / f"in{suffix}", icc_profile=SRGB), tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as image:
        assert image.info["icc_profile"] == SRGB
        assert np.abs(np.asarray(image).astype(int) - 90).max() <= 2


def test_color_chunks_of_png_are_kept(tmp_path: Path):
    chunks = [
        (b"gAMA", struct.pack(">I", 45455)),
        (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)),
        (b"cICP", bytes([9, 16, 0, 1])),
    ]
    add_chunks(save(tmp_path / "in.png"), *chunks)
    convert(tmp_path / "in.png", tmp_path / "out.png")
    found = [chunk for chunk in png_chunks((tmp_path / "out.png").read_bytes()) if chunk[0] in dict(chunks)]
    assert found == chunks
    assert torch.equal(next(open_clip(tmp_path / "out.png").frames()), next(open_clip(tmp_path / "in.png").frames()))


def test_a_profile_that_is_not_for_rgb_is_left_out_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    convert(save(tmp_path / "in.png", icc_profile=LAB), tmp_path / "out.png")
    assert "profile (Lab) is not for RGB" in caplog.text
    with Image.open(tmp_path / "out.png") as image:
        assert "icc_profile" not in image.info


def test_a_video_says_once_that_it_drops_the_profile(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    for name in ("1.png", "2.png", "3.png"):
        (tmp_path / "in").mkdir(exist_ok=True)
        save(tmp_path / "in" / name, icc_profile=SRGB)
    convert(tmp_path / "in", tmp_path / "out.mp4")
    assert [record.message for record in caplog.records if "ICC profile" in record.message] == [
        f"{tmp_path / 'out.mp4'}: a video file cannot hold the ICC profile of the images; its colors are taken as sRGB "
        "(write PNG to keep it)"
    ]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_stay_sixteen_bits(suffix: str, tmp_path: Path):
    levels = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    if suffix == ".png":
        frames = torch.from_numpy(levels.astype(np.float32) / 65535).expand(1, 3, 64, 64)
        write_images(tmp_path / "in.png", iter([frames]), bits=16)
    else:
        rgb = np.repeat(levels[..., None], 3, 2)
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb48le")
        encoder = av.CodecContext.create("tiff", "w")
        encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 64, 64, "rgb48le", Fraction(1)
        (tmp_path / "in.tif").write_bytes(b"".join(bytes(p) for p in [*encoder.encode(frame), *encoder.encode(None)]))
    source = tmp_path / f"in{suffix}"
    assert ImageClip(source).bit_depth == 16
    convert(source, tmp_path / "out.png")
    result = (next(open_clip(tmp_path / "out.png").frames())[0] * 65535).round().numpy()
    assert (result == levels).all()
    convert(source, tmp_path / "out.mkv")
    assert open_clip(tmp_path / "out.mkv").bit_depth == 10, "H.264 has at most 10"


def test_an_animated_png_is_read_as_a_video_whatever_its_name(tmp_path: Path):
    with av.open(str(tmp_path / "moving.apng"), "w", format="apng") as sink:
        stream = sink.add_stream("apng", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "rgb24"
        for number in range(4):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 50 * number, np.uint8), format="rgb24")
            frame.pts = number
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))
    (tmp_path / "moving.png").write_bytes((tmp_path / "moving.apng").read_bytes())
    clips = [open_clip(tmp_path / f"moving{suffix}") for suffix in (".apng", ".png")]
    frames = [torch.cat(list(clip.frames())) for clip in clips]
    assert len(frames[0]) == 4
    assert torch.equal(*frames)
    assert clips[0].info == clips[1].info
    write_clip(tmp_path / "out.mp4", clips[1].frames(), clips[1].info, source=tmp_path / "moving.png")
    assert len(torch.cat(list(open_clip(tmp_path / "out.mp4").frames()))) == 4


def test_an_animated_png_among_images_is_its_first_frame(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    test_an_animated_png_is_read_as_a_video_whatever_its_name(tmp_path)
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "moving.png").rename(folder / "1.png")
    assert next(ImageClip(folder).frames()).shape == (1, 3, 32, 32)
    assert "only the first is read" in caplog.text
