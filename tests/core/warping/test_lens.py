"""Frames of a fisheye are turned along its rays in every format: what it films then stands still."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import cv2
import fisheye_camera
import numpy as np
import pytest
import torch
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from steadyscale.core import geometry
from steadyscale.core.clip import ClipInfo, TensorClip
from steadyscale.core.crop.border import Border
from steadyscale.core.lens import Lens
from steadyscale.core.path.ray_camera import RayCamera
from steadyscale.core.path.trajectory import Correction
from steadyscale.core.smoothing.transfer import undo
from steadyscale.core.video.format.stream_format import BT709, Orientation, StreamFormat
from steadyscale.core.warping.warp import warp
from steadyscale.core.warping.warp_yuv import warp_yuv

WIDTH, HEIGHT, COUNT, FOV = 160, 96, 4, 150
INSIDE = (..., slice(16, -16), slice(16, -16))


@pytest.fixture(scope="module")
def rotations() -> np.ndarray:
    return fisheye_camera.shake(COUNT, 0.06)


@pytest.fixture(scope="module")
def frames(rotations) -> torch.Tensor:
    """Rendered at four times the size, so that interpolation costs little."""
    focal = 4 * WIDTH / 2 / np.radians(FOV / 2)
    large = fisheye_camera.render(rotations, focal, 4 * WIDTH, 4 * HEIGHT)
    return torch.nn.functional.interpolate(large, (HEIGHT, WIDTH), mode="area")


@pytest.fixture(scope="module")
def fix(rotations) -> Correction:
    """The exact correction to the view of the first frame."""
    views = RayCamera(Lens(FOV), WIDTH).views(np.swapaxes(rotations, 1, 2) @ rotations[0], np.ones(COUNT))
    matrices = geometry.normalize(geometry.inverse(views))
    return Correction(
        matrices, [slice(0, COUNT)], ClipInfo(WIDTH, HEIGHT, Fraction(25), COUNT), matrices, lens=Lens(FOV)
    )


def warped(frames, fix, border=Border.MIRROR, **settings):
    return torch.cat([w.frames for w in warp(TensorClip(frames, Fraction(25)).frames(), fix, border, **settings)])


def distance(frames, truth):
    return float((frames - truth)[INSIDE].abs().mean())


def test_what_a_fisheye_films_stands_still(fix, frames):
    steady, planar = warped(frames, fix), warped(frames, replace(fix, lens=None))
    assert distance(frames, frames[:1]) > 0.05, "it shook"
    assert distance(steady, frames[:1]) < 0.3 * distance(planar, frames[:1]), "what an interpolation loses"


def test_opencv_and_torch_agree(fix, frames, monkeypatch):
    expected = warped(frames, fix)
    monkeypatch.setattr("steadyscale.core.warping.warp.optional_opencv", lambda: None)
    assert distance(warped(frames, fix), expected) < 2e-3


def test_a_gpu_gives_the_frames_of_the_cpu(gpu, fix, frames):
    assert distance(warped(frames, fix, device="simgpu"), warped(frames, fix)) < 0.004


def test_alpha_is_turned_with_the_colors(fix, frames):
    moved = warped(torch.cat([frames, frames[:, :1]], dim=1), fix)
    assert torch.equal(moved[:, 3], moved[:, 0])


@pytest.mark.parametrize("border", [Border.CROP, Border.CROP_ADAPTIVE])
def test_a_crop_contains_source_pixels_only(fix, border):
    gray = torch.full((COUNT, 3, HEIGHT, WIDTH), 0.7)
    results = list(warp(TensorClip(gray, Fraction(25)).frames(), fix, border))
    assert not any(result.fill_mask.any() for result in results)
    assert torch.allclose(torch.cat([result.frames for result in results]), gray, atol=1e-5)


def test_undo_restores_the_frame(fix, frames):
    again = warped(warped(frames, fix, pad=24), undo(fix, Border.MIRROR, pad=24), pad=-24)
    assert distance(again, frames) < 0.25 * distance(frames[1:], frames[:1])


@pytest.mark.parametrize("pixel_format", ["yuv444p", "yuv420p10le"])
def test_yuv_frames_are_turned_as_rgb_frames_are(fix, frames, pixel_format):
    stored = StreamFormat("h264", pixel_format, Orientation(), Fraction(1), BT709, False, BT709, BT709)
    gray = frames.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    native = []
    for frame in gray:
        rgb = VideoFrame.from_ndarray((frame.permute(1, 2, 0) * 255).round().byte().numpy(), "rgb24")
        native.append(VideoReformatter().reformat(rgb, format=pixel_format, dst_colorspace=1))
    kind, levels = ("<u2", 4) if "10" in pixel_format else (np.uint8, 1)
    out = [f for batch in warp_yuv(cv2, ([f] for f in native), fix, Border.MIRROR, stored) for f in batch]
    for result, truth in zip(out, warped(gray, fix), strict=True):
        luma = np.frombuffer(bytes(result.planes[0]), kind).reshape(HEIGHT, -1)[:, :WIDTH].astype(float)
        assert np.abs((luma / levels - 16) / 219 - truth[0].numpy()).mean() < 0.006
