from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from counting import number_of, numbered, numbers_of, picture
from files_made import remains
from PIL import Image, ImageCms
from steadyscale.core.clip import ClipError
from steadyscale.core.video.images import ImageClip, write_images


def save(folder: Path, names: list[str], **options) -> Path:
    """Numbered pictures under these names, in this order."""
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        Image.fromarray(picture(number)).save(folder / name, **options)
    return folder


# --- reading


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("batch", [1, 4, 50])
def test_a_folder_is_read_in_natural_order(tmp_path: Path, suffix: str, batch: int):
    folder = save(tmp_path / "in", [f"frame{n}{suffix}" for n in range(1, 13)])  # frame10 sorts before frame2 as text
    clip = ImageClip(folder)
    assert (clip.info.width, clip.info.height, clip.info.fps, clip.info.length) == (64, 48, 24, 12)
    assert max(len(frames) for frames in clip.frames(batch)) <= batch
    assert numbers_of(clip, batch) == list(range(12))
    assert numbers_of(clip, batch) == list(range(12))


def test_patterns_choose_among_files(tmp_path: Path):
    folder = save(tmp_path / "in", ["a_01.png", "a_02.png", "a_10.png"])
    Image.fromarray(picture(77)).save(folder / "b_01.png")
    assert numbers_of(ImageClip(folder / "a_*.png")) == [0, 1, 2]
    assert numbers_of(ImageClip(folder / "a_%02d.png")) == [0, 1, 2]
    assert numbers_of(ImageClip(folder / "a_%d.png")) == [0, 1, 2]
    assert numbers_of(ImageClip(folder / "b_01.png")) == [77]


def test_a_percent_sign_in_an_existing_name_is_no_pattern(tmp_path: Path):
    folder = save(tmp_path / "in", ["x_%d.png"])
    Image.fromarray(picture(9)).save(folder / "x_1.png")
    assert numbers_of(ImageClip(folder / "x_%d.png")) == [0]


def test_a_gap_in_the_numbers_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    folder = save(tmp_path / "in", ["f_001.png", "f_002.png", "f_005.png"])
    assert numbers_of(ImageClip(folder)) == [0, 1, 2]
    assert "go from 2 to 5" in caplog.text


def test_fps_is_taken_as_given(tmp_path: Path):
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
def test_every_kind_of_png_gives_its_exact_values(tmp_path: Path, mode: str, value, expected: list[int]):
    Image.new(mode, (7, 5), value).save(tmp_path / "p.png")
    (frames,) = ImageClip(tmp_path / "p.png").frames()
    wanted = torch.tensor(expected).float().view(1, -1, 1, 1).expand(1, len(expected), 5, 7) / 255
    assert torch.equal((frames * 255).round(), (wanted * 255).round())


def test_a_palette_gives_its_colours(tmp_path: Path):
    Image.fromarray(picture(5)).quantize(4).save(tmp_path / "p.png")
    (frames,) = ImageClip(tmp_path / "p.png").frames()
    assert number_of(frames[0]) == 5


def test_a_turned_photograph_comes_upright(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    Image.fromarray(picture(3)).save(tmp_path / "p.jpg", exif=exif)
    clip = ImageClip(tmp_path / "p.jpg")
    assert (clip.info.width, clip.info.height) == (48, 64)
    assert number_of(torch.rot90(next(clip.frames())[0], 1, dims=(1, 2))) == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p.write_bytes(b""), "0 bytes"),
        (lambda p: p.write_text("no picture"), "not a picture"),
        (lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 50), "not a picture|cannot be decoded|cut off"),
        (lambda p: p.write_text("ffconcat version 1.0\nfile other.png\n"), "not a picture"),
    ],
)
def test_what_is_no_picture(tmp_path: Path, make, message: str):
    save(tmp_path, ["a1.png", "a2.png"])
    make(tmp_path / "a2.png")
    with pytest.raises(ClipError, match=rf"a2\.png: .*({message})"):
        list(ImageClip(tmp_path).frames())


def test_a_cut_off_picture(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    for suffix in (".png", ".jpg", ".webp"):
        file = tmp_path / f"p{suffix}"
        Image.fromarray(noise).save(file)
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        with pytest.raises(ClipError, match=r"p\.(png|jpg|webp): "):
            list(ImageClip(file).frames())


def test_pictures_must_be_alike(tmp_path: Path):
    save(tmp_path, ["a1.png", "a2.png"])
    Image.new("RGB", (32, 32)).save(tmp_path / "a3.png")
    with pytest.raises(ClipError, match=r"a3\.png: 32x32, but a1\.png is 64x48"):
        list(ImageClip(tmp_path).frames())
    Image.new("RGBA", (64, 48)).save(tmp_path / "a3.png")
    with pytest.raises(ClipError, match=r"a3\.png: has alpha, but a1\.png has none"):
        list(ImageClip(tmp_path).frames())
    (tmp_path / "a4.jpg").touch()
    with pytest.raises(ClipError, match=r"several kinds \(\.jpg, \.png\)"):
        ImageClip(tmp_path)


def test_no_pictures_at_all(tmp_path: Path):
    with pytest.raises(ClipError, match="no pictures there"):
        ImageClip(tmp_path)
    with pytest.raises(ClipError, match="no pictures there"):
        ImageClip(tmp_path / "x_%03d.png")
    with pytest.raises(ClipError, match="no such file"):
        ImageClip(tmp_path / "nothing.png")


def test_a_huge_picture_is_refused_before_it_is_decoded(tmp_path: Path):
    for suffix in (".png", ".jpg"):
        Image.new("RGB", (600, 500)).save(tmp_path / f"p{suffix}")
        with pytest.raises(ClipError, match="600x500 exceed"):
            ImageClip(tmp_path / f"p{suffix}", max_pixels=100_000)


# --- writing


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [3, 4])
def test_what_is_written_comes_back_exactly(tmp_path: Path, bits: int, channels: int):
    top = 2**bits - 1
    frames = torch.randint(0, top + 1, (7, channels, 33, 21), generator=torch.Generator().manual_seed(0)) / top
    assert write_images(tmp_path / "out", iter(frames.split(3)), bits=bits) == 7
    assert remains(tmp_path / "out") == [f"frame_{n:06d}.png" for n in range(1, 8)]
    back = torch.cat(list(ImageClip(tmp_path / "out").frames(2)))
    assert torch.equal((back * top).round(), (frames * top).round())
    if bits == 8:
        with Image.open(tmp_path / "out" / "frame_000003.png") as other:  # another program sees the same
            seen = np.asarray(other).transpose(2, 0, 1)
        assert np.array_equal(seen, (frames[2] * 255).round().byte().numpy())


def test_sixteen_bits_are_really_there(tmp_path: Path):
    ramp = torch.linspace(0, 1, 4096).view(1, 1, 1, 4096).expand(1, 3, 2, 4096)
    write_images(tmp_path / "out", iter([ramp]), bits=16)
    assert len(next(ImageClip(tmp_path / "out").frames()).unique()) == 4096


def test_the_pattern_names_the_files(tmp_path: Path):
    assert write_images(tmp_path / "new" / "50%_f%03d.png", iter(numbered(3).split(2))) == 3
    assert remains(tmp_path / "new") == ["50%_f001.png", "50%_f002.png", "50%_f003.png"]
    assert numbers_of(ImageClip(tmp_path / "new")) == [0, 1, 2]


def test_a_single_name_takes_a_single_frame(tmp_path: Path):
    assert write_images(tmp_path / "still.png", iter([numbered(1)])) == 1
    assert remains(tmp_path) == ["still.png"]
    with pytest.raises(ClipError, match=r"several frames; write other_%04d\.png"):
        write_images(tmp_path / "other.png", iter([numbered(2)]))
    assert remains(tmp_path) == ["still.png"]


def test_a_shorter_run_leaves_nothing_of_a_longer_one(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    out = tmp_path / "out"
    write_images(out, iter([numbered(5)]))
    (out / "notes.txt").write_text("keep me")
    (out / "frame_x.png").write_text("keep me too")
    write_images(out, iter([numbered(2).flip(0)]))
    assert remains(out) == ["frame_000001.png", "frame_000002.png", "frame_x.png", "notes.txt"]
    assert numbers_of(ImageClip(out / "frame_%06d.png")) == [1, 0]
    assert "3 pictures of an earlier run" in caplog.text


def failing_after(count: int, error: BaseException):
    yield numbered(count)
    raise error


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()])
def test_an_error_upstream_leaves_everything_as_it_was(tmp_path: Path, error: BaseException):
    with pytest.raises(type(error)):
        write_images(tmp_path / "fresh", failing_after(3, error))
    assert remains(tmp_path) == []
    write_images(tmp_path / "old", iter([numbered(2)]))
    with pytest.raises(type(error)):
        write_images(tmp_path / "old", failing_after(3, error))
    assert remains(tmp_path / "old") == ["frame_000001.png", "frame_000002.png"]


@pytest.mark.parametrize(
    ("name", "bits", "message"),
    [
        ("x_%03d.jpg", 8, "written as .png"),
        ("x_*.png", 8, "one number"),
        ("x_%d_%d.png", 8, "one number"),
        ("out", 12, "8 or 16 bits"),
    ],
)
def test_impossible_names_say_what_is_possible(tmp_path: Path, name: str, bits: int, message: str):
    with pytest.raises(ClipError, match=message):
        write_images(tmp_path / name, iter([numbered(1)]), bits=bits)
    assert remains(tmp_path) == []


def test_no_frames_change_of_size_and_nan(tmp_path: Path):
    with pytest.raises(ClipError, match="no frames to write"):
        write_images(tmp_path / "out", iter(()))
    with pytest.raises(ClipError, match=r"frame 2 has .*\(3, 32, 32\)"):
        write_images(tmp_path / "out", iter([numbered(2), numbered(1, 32, 32)]))
    bad = numbered(3)
    bad[1] = float("inf")
    with pytest.raises(ClipError, match="frame 1 holds values that are no numbers"):
        write_images(tmp_path / "out", iter([bad]))
    assert remains(tmp_path) == []


def test_pngs_with_colour_profiles_do_not_end_the_program(tmp_path):
    """PyAV frees a profile's name twice where side data was looked at, and sooner or later the program dies of it."""
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
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["150"] * 6), done.stderr
