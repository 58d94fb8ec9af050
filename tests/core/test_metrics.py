"""Metrics of inputs whose value is known."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from camera_simulation import make_texture
from steadyscale.core import geometry
from steadyscale.core.clip import ClipInfo
from steadyscale.core.metrics import jitter, warping_error

INFO = ClipInfo(640, 360, Fraction(30), 200)


def test_jitter_is_the_amplitude_of_a_fast_oscillation_and_ignores_a_pan():
    path = np.zeros((200, 4))
    path[:, 0] = 7 * np.arange(200) + 5 * np.sin(2 * np.pi * np.arange(200) / 5)
    assert jitter(geometry.matrices_from_parameters(path), INFO) == pytest.approx(5 / np.sqrt(2), rel=0.02)
    path[:, 0] = 7 * np.arange(200)
    assert jitter(geometry.matrices_from_parameters(path), INFO) < 1e-6
    assert jitter(geometry.matrices_from_parameters(path[:20]), INFO) == 0


def test_warping_error_is_zero_for_the_true_flow():
    first = make_texture(60, 80)
    second = torch.roll(first, 3, dims=-1)
    flow = torch.zeros(1, 2, 60, 80)
    flow[:, 0] = 3
    assert warping_error(first, second, flow)[0] < 1e-6
    assert warping_error(first, second, flow * 0)[0] > 1e-3
    assert warping_error(first, second * 0.9, flow)[0] > 1e-3
