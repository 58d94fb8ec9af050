from fractions import Fraction
from importlib import import_module

import numpy as np
import pytest
import torch
from camera_simulation import make_shake_path, make_shaken_clip, make_texture, measure_jitter, render_camera
from steadyscale.core import geometry
from steadyscale.core.clip import ClipError, ClipInfo, TensorClip
from steadyscale.core.crop.border import Border, with_border_zoom
from steadyscale.core.motion.estimate import estimate_motion
from steadyscale.core.motion.optical_flow.flow import flow_model
from steadyscale.core.path.trajectory import Correction, Trajectory, correction, inverse
from steadyscale.core.smoothing.smooth import smooth
from steadyscale.core.warping import sampling_map
from steadyscale.core.warping.warp import warp

warp_module = import_module("steadyscale.core.warping.warp")  # not the function of the same name


@pytest.fixture(params=["opencv", "torch"])
def engine(request, monkeypatch):
    """Run the test with OpenCV and with torch."""
    if request.param == "torch":
        monkeypatch.setattr(warp_module, "optional_opencv", lambda: None)
    return request.param


def fix_of(path, width, height):
    path = np.atleast_2d(path)
    matrices = geometry.matrices_from_parameters(path)
    return Correction(matrices, [slice(0, len(path))], ClipInfo(width, height, Fraction(25), len(path)), matrices)


def warped(frames, path, border, **settings):
    height, width = frames.shape[-2:]
    out = list(warp(TensorClip(frames).frames(), fix_of(path, width, height), border, **settings))
    return torch.cat([w.frames for w in out]), torch.cat([w.fill_mask for w in out])


def test_identity_changes_nothing(engine):
    frames = torch.rand(3, 3, 41, 57)
    for border in Border:
        moved, fill_mask = warped(frames, np.zeros((3, 4)), border)
        assert torch.allclose(moved, frames, atol=1e-5)
        assert not fill_mask.any()


def test_integer_shift_and_borders(engine):
    frames = torch.rand(1, 3, 20, 30)
    expected = {
        Border.MIRROR: torch.cat([frames[..., :4].flip(-1), frames[..., :-4]], -1),
        Border.WRAP: torch.cat([frames[..., -4:], frames[..., :-4]], -1),
        Border.EDGE: torch.cat([frames[..., :1].expand(-1, -1, -1, 4), frames[..., :-4]], -1),
        Border.BLACK: torch.cat([torch.zeros(1, 3, 20, 4), frames[..., :-4]], -1),
    }
    for border, right in expected.items():
        moved, fill_mask = warped(frames, [4, 0, 0, 0], border)
        assert torch.allclose(moved, right, atol=1e-4), border
        assert torch.equal(fill_mask[0], (torch.arange(30) < 4).float().expand(20, 30)), border


def test_black_is_transparent_and_alpha_is_warped(engine):
    frames = torch.rand(1, 4, 20, 30)
    moved, _ = warped(frames, [0, 5, 0, 0], Border.BLACK)
    assert torch.allclose(moved[:, 3, :5], torch.zeros(1, 5, 30), atol=1e-4)
    assert torch.allclose(moved[:, 3, 5:], frames[:, 3, :-5], atol=1e-4)


def test_opencv_and_torch_agree(monkeypatch):
    frames = make_texture(120, 160).expand(4, -1, -1, -1)
    path = make_shake_path(4, pixels=20, angle=0.1, zoom=0.05)
    for border in Border:
        ours, mask = warped(frames, path, border)
        with monkeypatch.context() as without:
            without.setattr(warp_module, "optional_opencv", lambda: None)
            theirs, other_mask = warped(frames, path, border)
        difference = (ours - theirs).abs()
        assert difference.mean() < 1e-3, border
        assert difference.quantile(0.999) < 0.02, border
        assert (mask != other_mask).float().mean() < 1e-3, border


@pytest.mark.parametrize("border", [Border.CROP, Border.CROP_ADAPTIVE])
def test_crop_contains_source_pixels_only(border, engine):
    path = make_shake_path(20, pixels=8)
    frames = torch.full((20, 3, 90, 160), 0.7)
    moved, fill_mask = warped(frames, path, border)
    assert torch.allclose(moved, frames, atol=1e-5), "a gray clip stays gray: no border is visible"
    assert not fill_mask.any()


def test_pad_adds_canvas_and_marks_it_in_the_fill_mask(engine):
    frames = torch.rand(1, 3, 20, 30)
    moved, fill_mask = warped(frames, [0, 0, 0, 0], Border.MIRROR, pad=3)
    assert moved.shape == (1, 3, 26, 36)
    assert torch.allclose(moved[..., 3:-3, 3:-3], frames, atol=1e-5)
    assert torch.allclose(moved[..., 3:-3, :3], frames[..., :3].flip(-1), atol=1e-4)
    assert fill_mask.sum() == 26 * 36 - 20 * 30


@pytest.fixture(scope="module")
def shaken():
    """A shaken clip, its true path and its estimated correction."""
    clip, truth = make_shaken_clip(frames=60)
    measured = Trajectory.of(estimate_motion(clip, flow_model()))
    return clip, truth, correction(measured, smooth(measured))


def test_known_shake_is_removed(shaken):
    _, truth, fix = shaken
    left = geometry.to_parameters(geometry.matrices_from_parameters(truth) @ np.linalg.inv(fix.matrices))
    assert measure_jitter(left, 320, 180) < measure_jitter(truth, 320, 180) / 8


@pytest.mark.parametrize("border", [Border.CROP, Border.MIRROR])
def test_pixels_are_stabilized(shaken, border, engine):
    clip, truth, fix = shaken
    steady = torch.cat([w.frames for w in warp(clip.frames(), fix, border)])
    assert len(steady) == 60
    inside = TensorClip(steady[:, :, 20:-20, 20:-20], Fraction(25))
    again = Trajectory.of(estimate_motion(inside, flow_model())).path
    assert measure_jitter(again, 280, 140) < measure_jitter(truth, 280, 140) / 4


def test_corrections_apply_to_the_upscaled_clip():
    small, large = make_texture(400, 600), None
    large = torch.nn.functional.interpolate(small, scale_factor=3, mode="bicubic").clamp(0, 1)
    path = make_shake_path(6)
    poses = geometry.matrices_from_parameters(path)
    fix = Correction(poses, [slice(0, 6)], ClipInfo(200, 120, Fraction(25), 6))  # back to the first frame's view
    shaky = render_camera(large, geometry.rescale(poses, 3, 3), 600, 360)
    steady = torch.cat([w.frames for w in warp(TensorClip(shaky).frames(), fix.scaled(3), Border.MIRROR)])
    difference = (steady - steady[:1])[..., 60:-60, 60:-60].abs()
    assert difference.mean() < 0.01
    assert (shaky - shaky[:1])[..., 60:-60, 60:-60].abs().mean() > 0.05, "the input moves"


@pytest.mark.parametrize("border", [Border.MIRROR, Border.CROP])
def test_shake_can_be_restored(shaken, border):
    clip, _, fix = shaken
    steady = (w.frames for w in warp(clip.frames(), fix, border))
    again = torch.cat([w.frames for w in warp(steady, inverse(with_border_zoom(fix, border)), Border.EDGE)])
    source = torch.cat(list(clip.frames()))
    difference = (again - source)[..., 40:-40, 60:-60].abs()
    assert difference.mean() < 0.012, "two interpolations"
    assert (steady_of(clip, fix) - source)[..., 40:-40, 60:-60].abs().mean() > 0.04, "the input moves"


def steady_of(clip, fix):
    return torch.cat([w.frames for w in warp(clip.frames(), fix, Border.EDGE)])


def test_source_coords_agree_with_float64_on_large_tilted_frames():
    matrix = geometry.matrices_from_parameters(np.array([31.7, -18.3, 0.03, 0.05]))
    matrix[2, :2] = 2e-5, -1e-5
    back = sampling_map.pixel_maps(matrix, 3840, 2160)
    x, y = sampling_map.source_coords(back, torch.empty(3, 2160, 3840))
    columns, rows = np.meshgrid(np.arange(0, 3840, 213), np.arange(0, 2160, 119))
    exact = geometry.transform_points(back, np.stack([columns.ravel(), rows.ravel()], -1).astype(float))
    assert np.abs(x.numpy()[rows, columns].ravel() - exact[:, 0]).max() < 2e-3
    assert np.abs(y.numpy()[rows, columns].ravel() - exact[:, 1]).max() < 2e-3


def test_too_few_or_too_many_frames_are_an_error():
    fix = fix_of(np.zeros((3, 4)), 30, 20)
    with pytest.raises(ClipError, match=r"ended after 2 frames.*3"):
        list(warp(TensorClip(torch.rand(2, 3, 20, 30)).frames(), fix))
    with pytest.raises(ClipError, match="more than the 3 frames"):
        list(warp(TensorClip(torch.rand(4, 3, 20, 30)).frames(), fix))
    with pytest.raises(ClipError, match="60x40"):
        list(warp(TensorClip(torch.rand(3, 3, 40, 60)).frames(), fix))


def test_crop_that_leaves_nothing_is_an_error():
    with pytest.raises(ClipError, match="frame 1 is moved so far"):
        warped(torch.rand(2, 3, 20, 30), [[0, 0, 0, 0], [29, 0, 0, 0]], Border.CROP)


def test_padded_crop_is_an_error():
    with pytest.raises(ClipError, match="another border"):
        warped(torch.rand(1, 3, 20, 30), [0, 0, 0, 0], Border.CROP, pad=4)
