"""Losses of camera paths against hand-computed values, and their gradients."""

import math

import pytest
import torch
from steadyscale.core.training.smoother import losses
from steadyscale.models.smoother.whittaker_layer import smoothing_penalty

ASPECT = 16 / 9


def horizontal_path(*values):
    """(1, n, 8): a horizontal path; the x of each corner is the value and its y is 0."""
    path = torch.zeros(1, len(values), 8, dtype=torch.float64)
    path[0, :, 0] = torch.tensor(values, dtype=torch.float64)
    return path


def test_fidelity_is_the_mean_square_over_corners():
    assert torch.allclose(
        losses.fidelity(horizontal_path(1, 1), horizontal_path(1, 3), ASPECT), torch.tensor([2.0 * 2 / 4]).double()
    )


def test_temporal_is_the_mean_square_of_second_differences():
    found = losses.temporal(horizontal_path(0, 1, 4, 9), 20.0, ASPECT)
    assert torch.allclose(found, torch.tensor([2.0**2 / 2 * smoothing_penalty(20.0)]).double())
    assert losses.temporal(horizontal_path(3, 5, 7, 9), 20.0, ASPECT) == 0


def test_an_oscillation_of_the_period_costs_the_same_kept_or_removed():
    oscillation = horizontal_path(*(math.sin(2 * math.pi * i / 20) for i in range(2000)))
    kept = losses.temporal(oscillation, 20.0, ASPECT)
    removed = losses.fidelity(oscillation * 0, oscillation, ASPECT)
    assert torch.allclose(kept, removed, rtol=0.01)


def test_smoothness_is_the_mean_square_of_third_differences():
    found = losses.smoothness(horizontal_path(0, 1, 8, 27, 64), 20.0, ASPECT)
    assert torch.allclose(found, torch.tensor([6.0**2 / 2 * smoothing_penalty(20.0) ** 1.5]).double())
    assert losses.smoothness(horizontal_path(0, 1, 4, 9), 20.0, ASPECT) == 0


def test_crop_penalty_is_zero_within_the_margin():
    path = horizontal_path(0, 0, 0, 0)
    assert losses.crop_penalty(horizontal_path(0, 0.5, -1, 0.99), path, ASPECT) == 0
    assert torch.allclose(
        losses.crop_penalty(horizontal_path(0, 3, 0, -1), path, ASPECT), torch.tensor([(2.0**2 + 2) / 4]).double()
    )


def test_consistency_losses_are_zero_for_consistent_paths():
    path = horizontal_path(0, 2, 3, 5)
    assert losses.mirror_consistency(path, path, ASPECT) == 0
    assert torch.allclose(
        losses.mirror_consistency(path, path + horizontal_path(1, 1, 1, 1), ASPECT), torch.tensor([0.5]).double()
    )


@pytest.mark.parametrize("frames", [1, 2])
def test_paths_without_differences_have_zero_loss(frames):
    path = horizontal_path(*range(frames))
    assert losses.temporal(path, 20.0, ASPECT) == losses.smoothness(path, 20.0, ASPECT) == 0


def test_gradients():
    generator = torch.Generator().manual_seed(0)
    smooth, path = (torch.randn(2, 6, 8, dtype=torch.float64, generator=generator) for _ in range(2))
    smooth.requires_grad_()
    for loss in (losses.fidelity, losses.crop_penalty, losses.mirror_consistency):
        assert torch.autograd.gradcheck(lambda z, loss=loss: loss(z, path, ASPECT), (smooth,))
    for loss in (losses.temporal, losses.smoothness):
        assert torch.autograd.gradcheck(lambda z, loss=loss: loss(z, 6.0, ASPECT), (smooth,))
