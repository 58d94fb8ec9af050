import math

import pytest
import torch
from steadyscale.core.training.smoother import losses
from steadyscale.models.smoother.whittaker_layer import smoothing_penalty

ASPECT = 16 / 9


def along_x(*values):
    """(1, n, 8): a path that moves sideways only; each corner's x is the value and its y is 0."""
    path = torch.zeros(1, len(values), 8, dtype=torch.float64)
    path[0, :, 0] = torch.tensor(values, dtype=torch.float64)
    return path


def test_fidelity_is_the_mean_square_over_corners():
    assert torch.allclose(losses.fidelity(along_x(1, 1), along_x(1, 3), ASPECT), torch.tensor([2.0 * 2 / 4]).double())


def test_temporal_counts_second_differences():
    found = losses.temporal(along_x(0, 1, 4, 9), 20.0, ASPECT)
    assert torch.allclose(found, torch.tensor([2.0**2 / 2 * smoothing_penalty(20.0)]).double())
    assert losses.temporal(along_x(3, 5, 7, 9), 20.0, ASPECT) == 0


def test_a_swing_of_the_period_costs_as_much_to_leave_in_as_to_take_out():
    swing = along_x(*(math.sin(2 * math.pi * i / 20) for i in range(2000)))
    left_in, taken_out = losses.temporal(swing, 20.0, ASPECT), losses.fidelity(swing * 0, swing, ASPECT)
    assert torch.allclose(left_in, taken_out, rtol=0.01)


def test_smoothness_counts_third_differences():
    found = losses.smoothness(along_x(0, 1, 8, 27, 64), 20.0, ASPECT)
    assert torch.allclose(found, torch.tensor([6.0**2 / 2 * smoothing_penalty(20.0) ** 1.5]).double())
    assert losses.smoothness(along_x(0, 1, 4, 9), 20.0, ASPECT) == 0


def test_crop_counts_only_what_is_beyond_the_room():
    path = along_x(0, 0, 0, 0)
    assert losses.crop_penalty(along_x(0, 0.5, -1, 0.99), path, ASPECT) == 0
    assert torch.allclose(
        losses.crop_penalty(along_x(0, 3, 0, -1), path, ASPECT), torch.tensor([(2.0**2 + 2) / 4]).double()
    )


def test_cycles_cost_nothing_where_they_close():
    path = along_x(0, 2, 3, 5)
    assert losses.reversal_consistency(path, path.flip(1), ASPECT) == 0
    assert losses.reversal_consistency(path, path, ASPECT) > 1
    assert losses.mirror_consistency(path, path, ASPECT) == 0
    assert torch.allclose(
        losses.mirror_consistency(path, path + along_x(1, 1, 1, 1), ASPECT), torch.tensor([0.5]).double()
    )


@pytest.mark.parametrize("frames", [1, 2])
def test_paths_too_short_to_bend_cost_nothing(frames):
    path = along_x(*range(frames))
    assert losses.temporal(path, 20.0, ASPECT) == losses.smoothness(path, 20.0, ASPECT) == 0


def test_gradients_are_those_of_the_formulas():
    random = torch.Generator().manual_seed(0)
    smooth, path = (torch.randn(2, 6, 8, dtype=torch.float64, generator=random) for _ in range(2))
    smooth.requires_grad_()
    for loss in (losses.fidelity, losses.crop_penalty, losses.reversal_consistency, losses.mirror_consistency):
        assert torch.autograd.gradcheck(lambda z, loss=loss: loss(z, path, ASPECT), (smooth,))
    for loss in (losses.temporal, losses.smoothness):
        assert torch.autograd.gradcheck(lambda z, loss=loss: loss(z, 6.0, ASPECT), (smooth,))
