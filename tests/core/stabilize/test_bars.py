"""Bars stay bit-identical in place, and what is inside is stabilized as a clip without them."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from av.video.frame import VideoFrame
from camera_simulation import make_shake_path, make_texture, render_camera
from steadyscale.core import geometry
from steadyscale.core.bars import BarDetection, Bars
from steadyscale.core.clip import ClipError, ClipInfo, TensorClip
from steadyscale.core.crop.border import Border
from steadyscale.core.path.serialize import load_path, save_path
from steadyscale.core.path.trajectory import Correction
from steadyscale.core.pipeline.warp_op import WarpOp, union_fill_mask
from steadyscale.core.stabilize import StabilizeSettings, correct_motion, measure_motion
from steadyscale.core.video.format.stream_format import BT709, Orientation, StreamFormat
from steadyscale.core.visualize.crop_overlay import draw_crop_overlay
from steadyscale.core.warping.warp import warp
from steadyscale.core.warping.warp_yuv import can_keep_bars, warp_yuv

WIDTH, HEIGHT, COUNT = 160, 112, 10
BARS = Bars(4, 16, 8, 12)  # the center of the area inside is not that of the frame
AREA = (..., *BARS.area(HEIGHT, WIDTH))
YUV = StreamFormat("h264", "yuv420p", Orientation(), Fraction(1), BT709, False, BT709, BT709)


@pytest.fixture(scope="module")
def inside() -> torch.Tensor:
    """(N, 3, h, w): frames of a hand-held camera."""
    poses = geometry.matrices_from_parameters(make_shake_path(COUNT, pixels=4, zoom=0))
    height, width = HEIGHT - BARS.top - BARS.bottom, WIDTH - BARS.left - BARS.right
    return render_camera(make_texture(200, 260), poses, width, height) * 0.8 + 0.2


@pytest.fixture(scope="module")
def barred(inside: torch.Tensor) -> torch.Tensor:
    """The same with bars, a subtitle in the lower one, and noise."""
    noise = torch.rand(COUNT, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    frames = 0.03 * noise
    frames[5:, :, -8:-4, 50:110] = 0.8
    frames[AREA] = inside
    return frames


@pytest.fixture(scope="module")
def fix(barred: torch.Tensor) -> Correction:
    return correct_motion(measure_motion(TensorClip(barred, Fraction(25))))


def moved_correction(width: int = WIDTH, height: int = HEIGHT) -> Correction:
    """A correction by whole pixels, 6 to the right and 2 down."""
    matrices = geometry.matrices_from_parameters(np.tile([6.0, 2.0, 0, 0], (COUNT, 1)))
    info = BARS.active_info(ClipInfo(width, height, Fraction(25), COUNT))
    return Correction(matrices, [slice(0, COUNT)], info, matrices, bars=BARS)


def test_the_area_inside_is_measured_as_a_clip_of_its_own(fix, inside):
    own = measure_motion(TensorClip(inside, Fraction(25)))
    assert fix.bars == BARS
    assert fix.info.size == own.info.size
    barred_poses, poses = (c.poses for c in (fix, correct_motion(own)))
    assert geometry.to_parameters(barred_poses)[:, :2] == pytest.approx(geometry.to_parameters(poses)[:, :2], abs=0.35)


@pytest.mark.parametrize("border", [Border.CROP, Border.MIRROR, Border.FILL])
def test_bars_stay_and_the_rest_is_warped_alone(fix, barred, inside, border):
    results = list(warp(iter(barred.split(3)), fix, border))
    frames, fill_mask = (torch.cat([getattr(w, name) for w in results]) for name in ("frames", "fill_mask"))
    alone = torch.cat([w.frames for w in warp(iter(inside.split(3)), replace(fix, bars=None), border)])
    assert torch.equal(frames[AREA], alone)
    kept = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    kept[AREA] = False
    assert torch.equal(frames[..., kept], barred[..., kept])
    assert fill_mask[..., kept].max() == 0
    assert bool(fill_mask.any()) is (border is not Border.CROP)
    union = union_fill_mask(WarpOp(fix, border), ClipInfo(WIDTH, HEIGHT, Fraction(25), COUNT))
    assert union.shape == (1, HEIGHT, WIDTH)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p", "yuv420p10le"])
def test_bars_of_yuv_frames_stay(pixel_format):
    frame = VideoFrame(WIDTH, HEIGHT, pixel_format)
    random, dtype = np.random.default_rng(0), np.uint8 if pixel_format[-2:] != "le" else np.dtype("<u2")
    stored = []
    for plane in frame.planes:
        values = random.integers(0, 256, (plane.height, plane.line_size // np.dtype(dtype).itemsize))
        plane.update(values.astype(dtype).tobytes())
        stored.append(values[:, : plane.width])
    fix = moved_correction()
    fix = replace(fix, matrices=fix.matrices[:1], shots=[slice(0, 1)])
    import cv2

    ((warped,),) = warp_yuv(cv2, iter([[frame]]), fix, Border.EDGE, replace(YUV, pixel_format=pixel_format))
    for index, (before, plane) in enumerate(zip(stored, warped.planes, strict=True)):
        after = np.frombuffer(bytes(plane), dtype).reshape(plane.height, -1)[:, : plane.width]
        scale = 2 if index and "420" in pixel_format else 1
        rows, columns = BARS.scaled(1 / scale, 1 / scale).area(*before.shape)
        kept = np.ones(before.shape, bool)
        kept[rows, columns] = False
        assert np.array_equal(after[kept], before[kept])
        right, down = 6 // scale, 2 // scale
        expected = before[rows, columns][:-down, :-right]
        assert np.array_equal(after[rows, columns][down:, right:], expected)


def test_odd_or_rotated_bars_are_left_to_rgb():
    assert can_keep_bars(YUV, BARS)
    assert not can_keep_bars(YUV, Bars(top=3))
    assert can_keep_bars(replace(YUV, pixel_format="yuv444p"), Bars(top=3))
    assert not can_keep_bars(replace(YUV, orientation=Orientation(True)), BARS)


def test_the_correction_suits_the_clip_at_any_size(fix):
    double = fix.scaled(2)
    assert double.bars == Bars(8, 32, 16, 24)
    assert double.frame_info.size == (2 * WIDTH, 2 * HEIGHT)
    assert double.matrices[:, :2, 2] == pytest.approx(2 * fix.matrices[:, :2, 2])
    with pytest.raises(ClipError, match=f"measured on frames of {WIDTH}x{HEIGHT}"):
        fix.resized(WIDTH, WIDTH)


def test_bars_are_saved(fix, tmp_path: Path):
    save_path(fix, tmp_path / "fix.json")
    loaded = load_path(tmp_path / "fix.json")
    assert isinstance(loaded, Correction)
    assert loaded.bars == BARS
    text = (tmp_path / "fix.json").read_text().replace("[4, 16, 8, 12]", "[4, 16, 8]")
    (tmp_path / "fix.json").write_text(text)
    with pytest.raises(ClipError, match="bars has the shape"):
        load_path(tmp_path / "fix.json")


def test_bars_are_given_or_left_out(barred):
    clip = TensorClip(barred[:3], Fraction(25))
    given = measure_motion(clip, StabilizeSettings(bars=Bars(top=16)))
    assert given.bars == Bars(top=16)
    assert given.info.size == (WIDTH, HEIGHT - 16)
    assert measure_motion(TensorClip(barred, Fraction(25)), StabilizeSettings(bars=BarDetection.NONE)).bars is None
    padded = measure_motion(TensorClip(barred, Fraction(25)), StabilizeSettings(border=Border.BLACK, pad=8))
    assert padded.bars is None
    with pytest.raises(ClipError, match="leave nothing"):
        measure_motion(clip, StabilizeSettings(bars=Bars(top=60, bottom=60)))
    with pytest.raises(ClipError, match="choose a pad of 0"):
        next(warp(iter([barred]), moved_correction(), Border.BLACK, pad=4))


def test_the_overlay_shows_the_area_inside(barred):
    overlay = draw_crop_overlay(barred[:1], moved_correction(), 0, Border.CROP)
    assert overlay.shape[-1] == WIDTH - BARS.left - BARS.right
