import numpy as np
import pytest
import torch
from camera_simulation import make_texture, render_camera
from steadyscale.core import geometry
from steadyscale.core.motion.fit.subpixel import align as align_frames
from steadyscale.core.motion.fit.subpixel import step_evidence
from steadyscale.core.motion.optical_flow.gray_frame import GrayFrame

WIDTH, HEIGHT = 240, 136
TRUTH = geometry.matrices_from_tangents(np.array([3.0, -2.0, 0.01, 0.008, 0.002, -0.001, 4e-5, -3e-5]))


def align(first, second, step, hidden=None):
    return align_frames(GrayFrame.of(first, hidden), GrayFrame.of(second), step)


def pair(step=TRUTH, seed=0):
    """Two gray frames; `step` maps points of the first to the second."""
    frames = render_camera(make_texture(300, 500, seed), np.stack([np.eye(3), np.linalg.inv(step)]), WIDTH, HEIGHT)
    return frames[:1, :1], frames[1:, :1]


def corner_error(step, truth=TRUTH):
    corners = geometry.corners(WIDTH, HEIGHT)
    return np.abs(geometry.transform_points(step, corners) - geometry.transform_points(truth, corners)).max()


def test_converges_from_a_start_some_pixels_off():
    assert corner_error(np.eye(3)) > 2
    assert corner_error(align(*pair(), np.eye(3))) < 0.05


def test_result_is_the_same_without_opencv(monkeypatch):
    with_opencv = align(*pair(), np.eye(3))
    monkeypatch.setattr("steadyscale.core.motion.fit.subpixel.optional_opencv", lambda: None)
    assert corner_error(align(*pair(), np.eye(3)), with_opencv) < 0.01


def test_noise_does_not_bias_the_result():
    first, second = pair()
    noise = torch.randn(2, 1, HEIGHT, WIDTH, generator=torch.manual_seed(0)) * 0.02
    dark = (first * 0.3 + noise[:1], second * 0.3 + noise[1:])
    assert corner_error(align(*dark, np.eye(3))) < 0.25


def test_exposure_is_not_motion():
    first, second = pair()
    assert corner_error(align(first, second * 0.7 + 0.05, np.eye(3))) < 0.05


def test_subject_is_rejected():
    first, second = pair()
    walk = geometry.matrices_from_parameters(np.array([-6.0, 4.0, 0, 0]))
    one, other = pair(walk, seed=3)
    first[..., 40:100, 80:160], second[..., 40:100, 80:160] = one[..., 40:100, 80:160], other[..., 40:100, 80:160]
    start = TRUTH @ geometry.matrices_from_parameters(np.array([0.3, -0.2, 0.0, 0.0]))
    assert corner_error(align(first, second, start)) < 0.15


def test_masked_pixels_are_ignored():
    """A subject that fills two thirds of the frame."""
    first, second = pair()
    hidden = np.zeros((HEIGHT, WIDTH), bool)
    hidden[:, 40:200] = True
    one, other = pair(geometry.matrices_from_parameters(np.array([1.0, 2.0, 0, 0])), seed=3)
    first[..., 44:196], second[..., 44:196] = one[..., 44:196], other[..., 44:196]
    start = TRUTH @ geometry.matrices_from_parameters(np.array([0.3, -0.2, 0.0, 0.0]))
    assert corner_error(align(first, second, start, hidden)) < 0.15
    assert corner_error(align(first, second, start)) > 0.5
    everything = np.ones((HEIGHT, WIDTH), bool)
    assert np.array_equal(align(first, second, start, everything), start)


@pytest.mark.parametrize("size", [(1, 1), (31, 200), (40, 33)])
def test_small_and_flat_frames_do_not_change_the_step(size):
    flat = torch.full((1, 1, *size), 0.5)
    assert np.allclose(align(flat, flat, TRUTH), TRUTH)


def evidence(first, second, step):
    return step_evidence(GrayFrame.of(first), GrayFrame.of(second), step)


def test_frames_speak_for_their_true_step():
    """Also where a bright overlay stays in place, which decides the correlation but not most pixels."""
    first, second = pair()
    assert evidence(first, second, TRUTH).step > 0.99
    assert not evidence(first, second, TRUTH).favors_still
    for frame in (first, second):
        frame *= 0.2
        frame[..., 20:50, 170:220] = (torch.arange(50) % 10 < 5).float()
    assert evidence(first, second, TRUTH).still > evidence(first, second, TRUTH).step
    assert evidence(first, second, TRUTH).is_clear
    assert not evidence(first, second, TRUTH).favors_still


def test_frames_of_a_still_camera_speak_against_a_step():
    first = make_texture(HEIGHT, WIDTH)[:, :1]
    second = 0.8 * first + 0.2 * make_texture(HEIGHT, WIDTH, 1)[:, :1]
    assert evidence(first, second, TRUTH).favors_still
    assert not evidence(first, second, TRUTH).is_clear
    assert not evidence(first, second, np.eye(3)).favors_still


def test_there_is_no_evidence_in_tiny_frames():
    assert evidence(torch.rand(1, 1, 20, 20), torch.rand(1, 1, 20, 20), np.eye(3)).is_empty
