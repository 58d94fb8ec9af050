"""Test the targets of distillation: the teacher's detail, the input's colors, and the share of the truth."""

from __future__ import annotations

import pytest
import teacher_pairs
import torch
import torch.nn.functional as F


@pytest.fixture
def truth():
    """(1, 3, 96, 96): a smooth image between 0.3 and 0.7."""
    noise = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(2))
    return 0.3 + 0.4 * F.interpolate(noise, size=(96, 96), mode="bilinear")


def checkerboard(side):
    """(1, 1, side, side): +1 and -1 alternating, which has no low frequencies."""
    index = torch.arange(side)
    return 1.0 - 2.0 * ((index[:, None] + index) % 2)[None, None]


def test_targets_keep_the_colors_of_the_input_and_the_detail_of_the_teacher(truth):
    detail = 0.05 * checkerboard(96)
    drift = torch.tensor([8.0, -8.0, 4.0])[:, None, None] / 255
    small = F.avg_pool2d(truth, 4)
    target = teacher_pairs.make_target(truth + drift + detail, truth, small, 0.0)
    means = (target.mean((2, 3)) - truth.mean((2, 3))).abs() * 255
    assert means.max() < 0.2, "in both directions"
    assert (target - truth - detail).abs().mean() < 1 / 255


def test_the_share_of_the_truth_blends(truth):
    small, detail = F.avg_pool2d(truth, 4), 0.05 * checkerboard(96)
    whole, half, none = (teacher_pairs.make_target(truth + detail, truth, small, share) for share in (1.0, 0.5, 0.0))
    assert torch.equal(whole, truth)
    assert (half - (whole + none) / 2).abs().max() < 1e-6
    assert (none - whole).abs().mean() > 0.04
