from dataclasses import replace
from fractions import Fraction
from importlib import import_module

import numpy as np
import pytest
import torch
from camera_simulation import make_shake_path, make_texture, render_camera
from steadyscale.core import geometry
from steadyscale.core.clip import ClipError, ClipInfo, TensorClip
from steadyscale.core.crop.border import Border
from steadyscale.core.path.trajectory import Correction
from steadyscale.core.warping import temporal_fill as fill_module
from steadyscale.core.warping.warp import warp

WIDTH, HEIGHT, COUNT = 176, 100, 24
warp_module = import_module("steadyscale.core.warping.warp")


@pytest.fixture(params=["opencv", "torch"])
def engine(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(warp_module, "optional_opencv", lambda: None)


@pytest.fixture(scope="module")
def shot():
    """Shaken frames of a static scene, the correction to a static camera, and the true result."""
    poses = geometry.matrices_from_parameters(make_shake_path(COUNT, seed=3, pixels=9))
    scene = make_texture(HEIGHT * 2, WIDTH * 2, seed=3)
    info = ClipInfo(WIDTH, HEIGHT, Fraction(25), COUNT)
    truth = render_camera(scene, np.eye(3)[None], WIDTH, HEIGHT)
    return render_camera(scene, poses, WIDTH, HEIGHT), Correction(poses, [slice(0, COUNT)], info, poses), truth


def stabilize(frames, fix, border=Border.FILL, **settings):
    out = list(warp(TensorClip(frames).frames(batch=5), fix, border, **settings))
    return torch.cat([w.frames for w in out]), torch.cat([w.fill_mask for w in out])


def errors(moved, fill_mask, truth):
    """Mean difference from the truth over the filled pixels."""
    return float(((moved - truth).abs().mean(1) * fill_mask).sum() / fill_mask.sum())


def test_border_is_filled_with_the_true_scene(shot, engine):
    frames, fix, truth = shot
    moved, fill_mask = stabilize(frames, fix)
    mirrored, same = stabilize(frames, fix, Border.MIRROR)
    assert torch.equal(fill_mask, same), "pixels from neighbors are in the mask too"
    assert fill_mask.mean() > 0.05, "the input has missing pixels"
    assert errors(moved, fill_mask, truth) < 0.016, "two interpolations of this texture; one has half the error"
    assert errors(moved, fill_mask, truth) < errors(mirrored, fill_mask, truth) / 5
    assert ((moved - truth).abs().mean(1) * (1 - fill_mask)).mean() < 0.01, "pixels of the frame itself stay"


def test_exposure_is_matched(shot):
    frames, fix, truth = shot
    light = 1 + 0.15 * torch.sin(torch.arange(COUNT) * 1.3)[:, None, None, None]
    moved, fill_mask = stabilize(frames * light * 0.8, fix)
    assert errors(moved / light / 0.8, fill_mask, truth) < 0.02


def test_unseen_pixels_are_mirrored():
    frames = make_texture(40, 60).expand(5, -1, -1, -1)
    poses = np.repeat(np.eye(3)[None], 5, 0)
    fix = Correction(
        geometry.matrices_from_parameters(np.array([[6.0, 0, 0, 0]] * 5)),
        [slice(0, 5)],
        ClipInfo(60, 40, Fraction(25), 5),
        poses,
    )
    moved, fill_mask = stabilize(frames, fix)
    assert torch.allclose(moved, stabilize(frames, fix, Border.MIRROR)[0], atol=2e-3)
    assert torch.equal(fill_mask[2], (torch.arange(60) < 6).float().expand(40, 60))


def test_other_shots_are_not_used(shot):
    frames, fix, _ = shot
    other = torch.zeros_like(frames[:12])
    cut = replace(fix, shots=[slice(0, 12), slice(12, 24)])
    before, _ = stabilize(torch.cat([other, frames[12:]]), cut)
    after, _ = stabilize(torch.cat([other + 1, frames[12:]]), cut)
    assert torch.equal(before[12:], after[12:])
    assert before[:12].max() == 0


def test_frames_are_in_order_and_the_window_is_bounded(shot, monkeypatch):
    frames, fix, _ = shot
    asked = []

    def source():
        for i, frame in enumerate(frames):
            asked.append(i)
            yield frame[None]

    monkeypatch.setattr(fill_module, "FILL_RADIUS_FRAMES", 3)
    plain = list(warp(source(), fix, Border.MIRROR))
    asked.clear()
    for i, (w, other) in enumerate(zip(warp(source(), fix, Border.FILL), plain, strict=True)):
        assert asked[-1] <= i + 3
        assert torch.allclose(w.frames[..., 50:-50, 80:-80], other.frames[..., 50:-50, 80:-80], atol=1e-3)


def test_window_is_smaller_for_large_frames(shot, monkeypatch):
    frames, fix, _ = shot
    monkeypatch.setattr(fill_module, "MAX_WINDOW_BYTES", frames[0].numel() * 2 * 5)
    asked = iter(frames.split(1))
    next(warp(asked, fix, Border.FILL))
    assert len(list(asked)) == COUNT - 3, "the window has two neighbors on each side"


def test_padding_is_filled_and_alpha_kept(shot):
    frames, fix, _ = shot
    clear = torch.cat([frames, torch.full_like(frames[:, :1], 0.5)], dim=1)
    moved, fill_mask = stabilize(clear, fix, pad=6)
    assert moved.shape == (COUNT, 4, HEIGHT + 12, WIDTH + 12)
    assert torch.allclose(moved[:, 3], torch.tensor(0.5), atol=1e-3)
    assert fill_mask[0].sum() == (HEIGHT + 12) * (WIDTH + 12) - HEIGHT * WIDTH


def test_poses_scale_with_the_correction(shot):
    frames, fix, truth = shot
    double = [torch.nn.functional.interpolate(f, scale_factor=2, mode="bicubic").clamp(0, 1) for f in (frames, truth)]
    moved, fill_mask = stabilize(double[0], fix.scaled(2))
    assert errors(moved, fill_mask, double[1]) < 0.02


def test_fill_without_poses_is_an_error(shot):
    frames, fix, _ = shot
    with pytest.raises(ClipError, match="needs the camera path"):
        stabilize(frames, replace(fix, poses=None))
