from fractions import Fraction

import numpy as np
import pytest
import torch
from camera_simulation import make_shake_path, make_texture
from steadyscale.core import geometry
from steadyscale.core.clip import ClipInfo
from steadyscale.core.metrics import cropping_ratio, distortion, jitter, stability, warping_error
from steadyscale.core.path.trajectory import Correction

INFO = ClipInfo(640, 360, Fraction(30), 200)


def corrections(tangents):
    return Correction(
        geometry.matrices_from_tangents(np.asarray(tangents, dtype=float)), [slice(0, len(tangents))], INFO
    )


def test_jitter_is_the_amplitude_of_a_quick_swing_and_ignores_a_pan():
    path = np.zeros((200, 4))
    path[:, 0] = 7 * np.arange(200) + 5 * np.sin(2 * np.pi * np.arange(200) / 5)
    assert jitter(geometry.matrices_from_parameters(path), INFO) == pytest.approx(5 / np.sqrt(2), rel=0.02)
    path[:, 0] = 7 * np.arange(200)
    assert jitter(geometry.matrices_from_parameters(path), INFO) < 1e-6
    assert jitter(geometry.matrices_from_parameters(path[:20]), INFO) == 0


def test_a_shaky_path_is_less_stable_than_a_smooth_one():
    smooth = np.outer(np.sin(np.arange(200) / 40), [50, 20, 0.1, 0])
    assert stability(smooth) > 0.95
    assert stability(smooth + make_shake_path(200)) < 0.5
    assert stability(np.zeros((200, 4))) == 1


def test_cropping_and_distortion_of_known_corrections():
    half = corrections([[0, 0, 0, np.log(2), 0, 0, 0, 0]] * 3)
    assert cropping_ratio(half) == pytest.approx(0.5)
    assert distortion(half) == pytest.approx(1)
    sheared = corrections([[0] * 8, [5, 3, 0.2, 0, 0.1, 0, 0, 0]])
    assert distortion(sheared) == pytest.approx(0.9 / 1.1)


def test_the_true_flow_leaves_no_warping_error():
    first = make_texture(60, 80)
    second = torch.roll(first, 3, dims=-1)
    flow = torch.zeros(1, 2, 60, 80)
    flow[:, 0] = 3
    assert warping_error(first, second, flow)[0] < 1e-6
    assert warping_error(first, second, flow * 0)[0] > 1e-3
    assert warping_error(first, second * 0.9, flow)[0] > 1e-3
