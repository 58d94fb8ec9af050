from __future__ import annotations

import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from numbered_video import draw_number, read_number, read_numbers
from PIL import Image, ImageCms
from steadyscale.core.clip import ClipError
from steadyscale.core.video.images.image_clip import ImageClip


def save(folder: Path, names: list[str], **options) -> Path:
    """Save numbered images under these names, in this order."""
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        Image.fromarray(draw_number(number)).save(folder / name, **options)
    return folder


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("batch", [1, 4, 50])
def test_a_folder_is_read_in_natural_order(tmp_path: Path, suffix: str, batch: int):
    folder = save(tmp_path / "in", [f"frame{n}{suffix}" for n in range(1, 13)])  # frame10 sorts before frame2 as text
    clip = ImageClip(folder)
    assert (clip.info.width, clip.info.height, clip.info.fps, clip.info.length) == (64, 48, 24, 12)
    assert max(len(frames) for frames in clip.frames(batch)) <= batch
    assert read_numbers(clip, batch) == list(range(12))
    assert read_numbers(clip, batch) == list(range(12))


def test_patterns_select_files(tmp_path: Path):
    folder = save(tmp_path / "in", ["a_01.png", "a_02.png", "a_10.png"])
    Image.fromarray(draw_number(77)).save(folder / "b_01.png")
    assert read_numbers(ImageClip(folder / "a_*.png")) == [0, 1, 2]
    assert read_numbers(ImageClip(folder / "a_%02d.png")) == [0, 1, 2]
    assert read_numbers(ImageClip(folder / "a_%d.png")) == [0, 1, 2]
    assert read_numbers(ImageClip(folder / "b_01.png")) == [77]


def test_a_percent_sign_in_an_existing_file_name_is_no_pattern(tmp_path: Path):
    folder = save(tmp_path / "in", ["x_%d.png"])
    Image.fromarray(draw_number(9)).save(folder / "x_1.png")
    assert read_numbers(ImageClip(folder / "x_%d.png")) == [0]


def test_a_gap_in_the_numbers_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    folder = save(tmp_path / "in", ["f_001.png", "f_002.png", "f_005.png"])
    assert read_numbers(ImageClip(folder)) == [0, 1, 2]
    assert "go from 2 to 5" in caplog.text


def test_the_frame_rate_is_the_given_one(tmp_path: Path):
    assert ImageClip(save(tmp_path / "in", ["1.png"]), Fraction(30000, 1001)).info.fps == Fraction(30000, 1001)


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("L", 100, [100, 100, 100]),
        ("RGB", (200, 100, 50), [200, 100, 50]),
        ("RGBA", (200, 100, 50, 128), [200, 100, 50, 128]),
        ("LA", (80, 40), [80, 80, 80, 40]),
    ],
)
def test_every_type_of_png_is_read_exactly(tmp_path: Path, mode: str, value, expected: list[int]):
    Image.new(mode, (7, 5), value).save(tmp_path / "p.png")
    (frames,) = ImageClip(tmp_path / "p.png").frames()
    expected_frames = torch.tensor(expected).float().view(1, -1, 1, 1).expand(1, len(expected), 5, 7) / 255
    assert torch.equal((frames * 255).round(), (expected_frames * 255).round())


def test_a_palette_is_read_as_colors(tmp_path: Path):
    Image.fromarray(draw_number(5)).quantize(4).save(tmp_path / "p.png")
    (frames,) = ImageClip(tmp_path / "p.png").frames()
    assert read_number(frames[0]) == 5


def test_the_alpha_of_a_palette_is_read(tmp_path: Path):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([9, 8, 7, 60, 50, 40, 200, 100, 0])
    image.save(tmp_path / "p.png", transparency=bytes([0, 128]))
    (frames,) = ImageClip(tmp_path / "p.png").frames()
    expected = [[9, 8, 7, 0], [60, 50, 40, 128], [200, 100, 0, 255]]
    assert (frames * 255).round()[0, :, 0].T.tolist() == expected
    image.save(tmp_path / "p.png")
    assert next(ImageClip(tmp_path / "p.png").frames()).shape == (1, 3, 1, 3)


def test_a_rotated_photograph_is_read_upright(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored rotated
    Image.fromarray(draw_number(3)).save(tmp_path / "p.jpg", exif=exif)
    clip = ImageClip(tmp_path / "p.jpg")
    assert (clip.info.width, clip.info.height) == (48, 64)
    assert read_number(torch.rot90(next(clip.frames())[0], 1, dims=(1, 2))) == 3


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_read_upright(tmp_path: Path, suffix: str, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3
    Image.fromarray(stored).save(tmp_path / f"p{suffix}", exif=exif, lossless=True)
    upright = [stored, stored[:, ::-1], stored[::-1, ::-1], stored[::-1]]  # in the order of the EXIF standard
    transposed = stored.swapaxes(0, 1)
    upright += [transposed, transposed[:, ::-1], transposed[::-1, ::-1], transposed[::-1]]
    (frames,) = ImageClip(tmp_path / f"p{suffix}").frames()
    assert np.array_equal((frames[0] * 255).round().byte().permute(1, 2, 0).numpy(), upright[orientation - 1])


def test_the_orientation_of_16_bit_images_is_applied(tmp_path: Path):
    stored = np.array([[1000, 2001, 3002], [4003, 5004, 6005]], np.uint16)
    Image.fromarray(stored).save(tmp_path / "p.tif", tiffinfo={0x0112: 2})
    (frames,) = ImageClip(tmp_path / "p.tif").frames()
    assert (frames[0, 0] * 65535).round().tolist() == [[3002, 2001, 1000], [6005, 5004, 4003]]


def test_jpeg_within_tiff_is_read(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (16, 8), (200, 100, 50)).save(tmp_path / "p.tif", compression="jpeg", exif=exif)
    (frames,) = ImageClip(tmp_path / "p.tif").frames()
    expected = torch.tensor([200, 100, 50]).view(1, 3, 1, 1) / 255
    assert frames.shape == (1, 3, 16, 8)
    assert (frames - expected).abs().max() < 3 / 255


def test_12_bit_jpeg_within_tiff_is_refused(tmp_path: Path):
    Image.new("L", (16, 8), 100).save(tmp_path / "p.tif", compression="jpeg")
    eight, twelve = (struct.pack("<HHIHH", 0x0102, 3, 1, bits, 0) for bits in (8, 12))
    content = (tmp_path / "p.tif").read_bytes()
    assert content.count(eight) == 1
    (tmp_path / "p.tif").write_bytes(content.replace(eight, twelve))
    with pytest.raises(ClipError, match=r"p\.tif: JPEG of 12 bits"):
        ImageClip(tmp_path / "p.tif")


@pytest.mark.parametrize("suffix", [".tif", ".webp"])
def test_several_frames_in_one_file_are_refused_and_in_a_sequence_reported(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
):
    pages = [Image.fromarray(draw_number(number)) for number in range(3)]
    pages[0].save(tmp_path / f"p{suffix}")
    assert read_numbers(ImageClip(tmp_path / f"p{suffix}")) == [0]
    assert caplog.text == ""
    pages[0].save(tmp_path / f"p{suffix}", save_all=True, append_images=pages[1:])
    with pytest.raises(ClipError, match="has several frames, of which only the first could be read"):
        ImageClip(tmp_path / f"p{suffix}")
    assert read_numbers(ImageClip(tmp_path / f"*{suffix}")) == [0]
    assert caplog.text.count("only the first is read") == 1


@pytest.mark.parametrize(
    ("size", "kind"), [((32, 24), 0), ((64, 48), 1), ((64, 48), 4)], ids=["size", "preview", "mask"]
)
def test_the_preview_and_the_mask_of_a_tiff_are_no_frames(
    tmp_path: Path, size: tuple[int, int], kind: int, caplog: pytest.LogCaptureFixture
):
    first, second = Image.fromarray(draw_number(5)), Image.fromarray(draw_number(6)).resize(size)
    second.encoderinfo = {"tiffinfo": {254: kind}}
    first.save(tmp_path / "p.tif", save_all=True, append_images=[second])
    with Image.open(tmp_path / "p.tif") as image:
        image.seek(1)
        assert (image.size, image.tag_v2.get(254, 0)) == (size, kind)
    assert read_numbers(ImageClip(tmp_path / "p.tif")) == [5]
    assert "only the first is read" in caplog.text


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p.write_bytes(b""), "0 bytes"),
        (lambda p: p.write_text("no image"), "cannot be read as an image"),
        (
            lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 50),
            "cannot be read as image|cannot be decoded|truncated",
        ),
        (lambda p: p.write_text("ffconcat version 1.0\nfile other.png\n"), "cannot be read as an image"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path: Path, make, message: str):
    save(tmp_path, ["a1.png", "a2.png"])
    make(tmp_path / "a2.png")
    with pytest.raises(ClipError, match=rf"a2\.png: .*({message})"):
        list(ImageClip(tmp_path).frames())


def test_a_truncated_image_is_refused(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    for suffix in (".png", ".jpg", ".webp"):
        file = tmp_path / f"p{suffix}"
        Image.fromarray(noise).save(file)
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        with pytest.raises(ClipError, match=r"p\.(png|jpg|webp): "):
            list(ImageClip(file).frames())


def test_images_must_have_one_size_type_and_number_of_channels(tmp_path: Path):
    save(tmp_path, ["a1.png", "a2.png"])
    Image.new("RGB", (32, 32)).save(tmp_path / "a3.png")
    with pytest.raises(ClipError, match=r"a3\.png: 32x32, but a1\.png is 64x48"):
        list(ImageClip(tmp_path).frames())
    Image.new("RGBA", (64, 48)).save(tmp_path / "a3.png")
    with pytest.raises(ClipError, match=r"a3\.png: has alpha, but a1\.png has none"):
        list(ImageClip(tmp_path).frames())
    (tmp_path / "a4.jpg").touch()
    with pytest.raises(ClipError, match=r"several types \(\.jpg, \.png\)"):
        ImageClip(tmp_path)


def test_a_sequence_without_images_is_refused(tmp_path: Path):
    with pytest.raises(ClipError, match="no images found"):
        ImageClip(tmp_path)
    with pytest.raises(ClipError, match="no images found"):
        ImageClip(tmp_path / "x_%03d.png")
    with pytest.raises(ClipError, match="no such file"):
        ImageClip(tmp_path / "nothing.png")


def test_a_huge_image_is_refused_before_it_is_decoded(tmp_path: Path):
    for suffix in (".png", ".jpg"):
        Image.new("RGB", (600, 500)).save(tmp_path / f"p{suffix}")
        with pytest.raises(ClipError, match="600x500 exceed"):
            ImageClip(tmp_path / f"p{suffix}", max_pixels=100_000)


def test_pngs_with_color_profiles_do_not_crash_the_process(tmp_path: Path):
    """PyAV frees the name of a profile twice if side data is read."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for number in range(6):
        Image.new("RGB", (64, 48), (10 * number, 90, 30)).save(tmp_path / f"{number}.png", icc_profile=profile)
    program = (
        "import gc, sys\n"
        "from pathlib import Path\n"
        "from steadyscale.core import open_clip\n"
        "for _ in range(6):\n"
        "    print(sum(round(float(f[0, 0, 0, 0]) * 255) for f in open_clip(Path(sys.argv[1])).frames()))\n"
        "    gc.collect()\n"
    )
    process = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout.split()) == (0, ["150"] * 6), process.stderr


def test_frames_are_float32_whatever_the_default_dtype_of_torch_is(tmp_path: Path):
    clip = ImageClip(save(tmp_path / "in", ["1.png", "2.png"]))
    try:
        torch.set_default_dtype(torch.float64)
        assert [frames.dtype for frames in clip.frames()] == [torch.float32] * 2
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_damaged_exif_is_ignored(tmp_path: Path, name: str):
    """Offsets that point nowhere, counts that are too large, and a rational of 1/0."""
    entries = [(282, 5, 1, 0xFFFFFF), (34665, 4, 1, 0xFFFFFFF0), (37510, 7, 0x7FFFFFFF, 3)]
    exif = b"MM\0*\0\0\0\x08" + struct.pack(">H", 99) + b"".join(struct.pack(">HHII", *entry) for entry in entries)
    Image.fromarray(draw_number(5)).save(tmp_path / name, exif=b"Exif\0\0" + exif)
    image = next(ImageClip(tmp_path / name).frames())
    assert read_number(image[0]) == 5


def test_an_error_in_exif_does_not_lose_the_image(tmp_path: Path, monkeypatch, caplog):
    def transpose(_: Image.Image) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("PIL.ImageOps.exif_transpose", transpose)
    assert read_numbers(ImageClip(save(tmp_path / "in", ["a.jpg"]))) == [0]
    assert "the EXIF data is damaged (ZeroDivisionError)" in caplog.text
