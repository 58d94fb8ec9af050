"""PathNet: geometry of its units, symmetries, and preservation of constant velocity."""

import numpy as np
import pytest
import torch
from steadyscale.core import geometry
from steadyscale.models.smoother.path_net import PathNet, corner_displacements, crop_margin, margin_usage, tangent_scale


@pytest.fixture
def network():
    """Random weights, so that the properties hold for all weights."""
    torch.manual_seed(1)
    net = PathNet(features=6).requires_grad_(False)
    for layer in net.layers:
        torch.nn.init.normal_(layer.weight, std=0.3)
    return net


def shaky_path(frames=90, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(2, frames, 8, dtype=torch.float64, generator=random).cumsum(dim=1) / 4


@pytest.mark.parametrize("aspect", [16 / 9, 0.5])
def test_corner_displacements_match_geometry(aspect):
    width, height = 300 * aspect, 300.0
    tangents = np.random.default_rng(0).normal(size=(20, 8)) * [1, 1, 0.003, 0.003, 0.003, 0.003, 1e-5, 1e-5]
    frame = geometry.corners(width, height)
    expected = geometry.transform_points(geometry.matrices_from_tangents(tangents), frame[None]) - frame
    displacements = (
        corner_displacements(torch.from_numpy(tangents) * tangent_scale(width, height, 1.0), aspect)
        .view(-1, 4, 2)
        .numpy()
    )
    assert np.allclose(displacements * [width / 2, height / 2], expected, atol=0.03)
    assert np.abs(expected).max() > 1


def test_margin_usage_is_one_where_the_border_becomes_visible():
    correction = torch.zeros(8, dtype=torch.float64)
    correction[0] = 640 * (1 - 1 / 1.25)  # the part of half of 1280 that a zoom of 1.25 hides
    assert torch.isclose(
        margin_usage(correction * tangent_scale(1280, 720, crop_margin(1.25)), 1280 / 720), torch.tensor(1.0).double()
    )


def test_commutes_with_translation_time_reversal_and_mirroring(network):
    path = shaky_path()
    smooth = network(path, 20.0, 1.5)
    assert not torch.allclose(smooth, path, atol=0.1)
    assert torch.allclose(network(path + 7.0, 20.0, 1.5) - 7.0, smooth, atol=1e-5)
    assert torch.allclose(network(path.flip(1), 20.0, 1.5).flip(1), smooth, atol=1e-5)
    assert torch.allclose(network(-path, 20.0, 1.5), -smooth, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 2, 3, 40])
@pytest.mark.parametrize("period", [1.0, 9.0, 500.0])
def test_constant_velocity_is_preserved_at_any_length_and_period(network, frames, period):
    pan = torch.arange(frames, dtype=torch.float64)[None, :, None] * torch.linspace(-1, 1, 8, dtype=torch.float64)
    assert torch.allclose(network(pan, period, 1.5), pan, atol=1e-7)
    assert torch.isfinite(network(shaky_path(frames), period, 1.5)).all()


def test_larger_weights_for_distant_frames_reduce_margin_usage():
    """What the network can learn: with hand-set weights that respond to the distance, the correction gets smaller."""
    torch.manual_seed(0)
    net = PathNet(features=1).requires_grad_(False)
    for layer in net.layers:
        layer.weight.zero_()
        layer.bias.zero_()
    path = shaky_path() * 2
    unweighted = margin_usage(net(path, 40.0, 1.5) - path, 1.5)
    for layer in net.layers:
        layer.weight[0, 0, 2] = 1.0
    weighted = margin_usage(net(path, 40.0, 1.5) - path, 1.5)
    assert weighted.max() < 0.8 * unweighted.max()
