from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from camera_simulation import make_shake_path, make_texture, render_camera
from steadyscale.core import geometry
from steadyscale.core.clip import ClipError, ClipInfo
from steadyscale.core.crop.border import Border
from steadyscale.core.path.trajectory import Trajectory, correction
from steadyscale.core.smoothing.smooth import smooth
from steadyscale.core.smoothing.transfer import TransferMode, transfer, undo
from steadyscale.core.warping.warp import warp

WIDTH, HEIGHT, COUNT = 160, 96, 12


def path_of(poses, *, shots=None, width=WIDTH, height=HEIGHT):
    count = len(poses)
    return Trajectory(poses, shots or [slice(0, count)], ClipInfo(width, height, Fraction(25), count))


def shaken():
    """A clip, and the correction of its true path."""
    measured = path_of(geometry.matrices_from_parameters(make_shake_path(COUNT, pixels=3.0)))
    scene = make_texture(
        HEIGHT * 2, WIDTH * 2, spectral_slope=2.2
    )  # without the finest detail, which two interpolations remove
    return render_camera(scene, measured.poses, WIDTH, HEIGHT), correction(measured, smooth(measured, seconds=1.0))


def run(frames, fix, border, pad=0):
    done = list(warp(iter([frames]), fix, border, pad=pad))
    return torch.cat([w.frames for w in done]), torch.cat([w.fill_mask for w in done])


@pytest.mark.parametrize("border", [Border.BLACK, Border.MIRROR, Border.FILL])
def test_undo_restores_frames_that_were_padded(border):
    source, fix = shaken()
    pad = 24
    steady, _ = run(source, fix, Border.BLACK, pad)
    assert (steady[..., pad:-pad, pad:-pad] - source).abs().mean() > 0.01, "it was moved"
    back, fill_mask = run(steady, undo(fix, Border.BLACK, pad), border, -pad)
    assert back.shape == source.shape
    assert not fill_mask.any()
    # The outermost pixels were blended with the black around them.
    assert (back - source)[..., 2:-2, 2:-2].abs().mean() < 0.001
    assert (back[:-1] - source[1:]).abs().mean() > 0.01, "a shift by one frame is detectable"


@pytest.mark.parametrize("border", [Border.CROP, Border.CROP_ADAPTIVE, Border.MIRROR])
def test_undo_inverts_the_zoom_and_masks_lost_pixels(border):
    source, fix = shaken()
    steady, _ = run(source, fix, border)
    back, fill_mask = run(steady, undo(fix, border), Border.MIRROR)
    in_source = fill_mask == 0
    share = in_source.float().mean()
    assert 0.6 < share < 0.999
    error = (back - source).abs().mean(1)
    assert error[in_source].mean() < 0.001
    assert error[fill_mask == 1].mean() > 10 * error[in_source].mean()


def test_undo_works_on_upscaled_frames():
    source, fix = shaken()
    steady, _ = run(source, fix, Border.CROP)
    large = torch.nn.functional.interpolate(steady, scale_factor=2, mode="bicubic", align_corners=False).clamp(0, 1)
    back, fill_mask = run(large, undo(fix.scaled(2), Border.CROP), Border.MIRROR)
    wanted = torch.nn.functional.interpolate(source, scale_factor=2, mode="bicubic", align_corners=False)
    assert (back - wanted).abs().mean(1)[fill_mask == 0].mean() < 0.001


def test_shake_is_transferred_with_its_amplitude():
    """A static scene with the shake equals the same scene filmed by the shaking camera."""
    path = make_shake_path(COUNT, pixels=3.0)
    measured = path_of(geometry.matrices_from_parameters(path))
    still = path_of(np.broadcast_to(np.eye(3), measured.poses.shape).copy())
    fix = correction(measured, still)
    scene = make_texture(HEIGHT * 2, WIDTH * 2, seed=5)
    tripod = render_camera(scene, still.poses, WIDTH, HEIGHT)
    hand = render_camera(scene, measured.poses, WIDTH, HEIGHT)
    for what in (TransferMode.SHAKE, TransferMode.MOVE):  # equal for a camera that only shakes
        motion = transfer(fix, measured.info, COUNT, what)
        shaken_frames, fill_mask = run(tripod, motion, Border.MIRROR)
        error = (shaken_frames - hand).abs().mean(1)
        assert error[fill_mask == 0].mean() < 0.001
        assert (tripod - hand).abs().mean() > 0.02


def test_move_includes_the_pan_and_shake_does_not():
    parameters = make_shake_path(COUNT, pixels=2.0) + np.arange(COUNT)[:, None] * np.array([3.0, 0, 0, 0])
    measured = path_of(geometry.matrices_from_parameters(parameters))
    pan = path_of(geometry.matrices_from_parameters(np.arange(COUNT)[:, None] * np.array([3.0, 0, 0, 0])))
    fix = correction(measured, pan)
    info = ClipInfo(WIDTH, HEIGHT, Fraction(25))
    move = geometry.to_parameters(transfer(fix, info, COUNT, TransferMode.MOVE).matrices)
    shaking = geometry.to_parameters(transfer(fix, info, COUNT, TransferMode.SHAKE).matrices)
    assert move[-1, 0] < -25, "the camera pans right, so the content moves left"
    assert np.abs(shaking[:, 0]).max() < 10


def test_motion_scales_with_the_frame_size():
    _, fix = shaken()
    same = transfer(fix, fix.info, COUNT).matrices
    double = transfer(fix, fix.info.scaled(2), COUNT)
    assert np.allclose(double.matrices, geometry.rescale(same, 2, 2))
    assert (double.info.width, double.info.height) == (2 * WIDTH, 2 * HEIGHT)
    square = transfer(fix, ClipInfo(400, 400, Fraction(25)), COUNT).matrices
    factor = 400 * 2**0.5 / np.hypot(WIDTH, HEIGHT)
    assert np.allclose(square, geometry.rescale(same, factor, factor)), (
        "rotations stay rotations for another aspect ratio"
    )


@pytest.mark.parametrize(
    ("count", "rows"),
    [(2, [4, 5]), (4, [4, 5, 6, 7]), (9, [4, 5, 6, 7, 6, 5, 4, 5, 6]), (7, [0, 1, 2, 3, 4, 5, 6])],
)
def test_other_lengths_repeat_the_longest_shot_back_and_forth(count, rows):
    poses = geometry.matrices_from_parameters(make_shake_path(8, pixels=4.0))
    if count == 7:  # the measured number: frame by frame, with cuts
        poses, shots = poses[:7], [slice(0, 3), slice(3, 7)]
    else:
        shots = [slice(0, 3), slice(3, 4), slice(4, 8)]
    measured = path_of(poses, shots=shots)
    fix = correction(measured, path_of(np.broadcast_to(np.eye(3), poses.shape).copy(), shots=shots))
    if count == 7:
        measured_length = transfer(fix, fix.info, 7)
        assert measured_length.shots == shots
    else:
        measured_length = transfer(fix, fix.info, count)
        assert measured_length.shots == [slice(0, count)]
    assert np.allclose(measured_length.matrices, np.linalg.inv(poses)[rows])
    assert len(list(warp(iter(torch.rand(count, 1, 3, HEIGHT, WIDTH)), measured_length, Border.EDGE))) == count


def test_missing_poses_are_an_error():
    _, fix = shaken()
    bare = replace(fix, poses=None)
    with pytest.raises(ClipError, match="does not contain the camera path"):
        transfer(bare, fix.info, COUNT, TransferMode.MOVE)
    assert np.allclose(transfer(bare, fix.info, COUNT).matrices, transfer(fix, fix.info, COUNT).matrices)
    with pytest.raises(ValueError, match="undo"):
        transfer(fix, fix.info, COUNT, TransferMode.UNDO)
