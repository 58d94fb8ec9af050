"""The differentiable Whittaker smoother: exact solution, precision and gradients."""

import numpy as np
import pytest
import torch
from steadyscale.core.smoothing.smooth import whittaker
from steadyscale.models.smoother.whittaker_layer import smoothing_penalty, whittaker_smooth


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 6, 9, 64, 199])
def test_solves_the_weighted_least_squares(frames):
    random = np.random.default_rng(frames)
    path, weights = random.normal(size=(2, frames)).cumsum(axis=1), np.exp(2 * random.normal(size=(2, frames)))
    smooth = whittaker_smooth(torch.from_numpy(path), torch.from_numpy(weights), 30.0).numpy()
    second = np.diff(np.eye(frames), 2, axis=0) if frames > 2 else np.zeros((0, frames))
    for z, p, w in zip(smooth, path, weights, strict=True):
        expected = np.linalg.solve(np.diag(w) + smoothing_penalty(30.0) * second.T @ second, w * p)
        assert np.allclose(z, expected, atol=1e-8)


def test_equal_weights_give_the_whittaker_smoother():
    path = np.random.default_rng(0).normal(size=(100, 3)).cumsum(axis=0)
    smooth = whittaker_smooth(torch.from_numpy(path.T.copy()), torch.ones(3, 100, dtype=torch.float64), 20.0)
    assert np.allclose(smooth.T.numpy(), whittaker(path, 20.0), atol=1e-9)


def test_straight_lines_are_preserved_over_long_paths():
    line = 2 * torch.arange(5000.0, dtype=torch.float64)[None]
    weights = torch.rand(1, 5000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.1
    assert torch.allclose(whittaker_smooth(line, weights, 36000.0), line, atol=1e-9)


def test_gradients_reach_path_and_weights():
    generator = torch.Generator().manual_seed(0)
    path = torch.randn(2, 7, dtype=torch.float64, generator=generator).requires_grad_()
    weights = (torch.rand(2, 7, dtype=torch.float64, generator=generator) + 0.5).requires_grad_()
    assert torch.autograd.gradcheck(lambda p, w: whittaker_smooth(p, w, 5.0), (path, weights))
