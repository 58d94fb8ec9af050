import numpy as np
import pytest
import torch
from steadyscale.core import geometry
from steadyscale.models.smoother.path_net import PathNet, corner_displacements, crop_margin, margin_usage, tangent_scale


@pytest.fixture
def network():
    """Of weights that are drawn, so that what holds for it holds for all."""
    torch.manual_seed(1)
    net = PathNet(features=6).requires_grad_(False)
    for layer in net.layers:
        torch.nn.init.normal_(layer.weight, std=0.3)
    return net


def shaky(frames=90, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(2, frames, 8, dtype=torch.float64, generator=random).cumsum(dim=1) / 4


@pytest.mark.parametrize("aspect", [16 / 9, 0.5])
def test_corners_are_where_geometry_says(aspect):
    width, height = 300 * aspect, 300.0
    tangents = np.random.default_rng(0).normal(size=(20, 8)) * [1, 1, 0.003, 0.003, 0.003, 0.003, 1e-5, 1e-5]
    frame = geometry.corners(width, height)
    moved = geometry.transform_points(geometry.matrices_from_tangents(tangents), frame[None]) - frame
    ours = (
        corner_displacements(torch.from_numpy(tangents) * tangent_scale(width, height, 1.0), aspect)
        .view(-1, 4, 2)
        .numpy()
    )
    assert np.allclose(ours * [width / 2, height / 2], moved, atol=0.03)
    assert np.abs(moved).max() > 1


def test_one_is_where_the_border_shows():
    moved = torch.zeros(8, dtype=torch.float64)
    moved[0] = 640 * (1 - 1 / 1.25)  # half of 1280, and what a zoom of 1.25 hides of it
    assert torch.isclose(
        margin_usage(moved * tangent_scale(1280, 720, crop_margin(1.25)), 1280 / 720), torch.tensor(1.0).double()
    )


def test_translation_reversal_and_mirror_are_kept_exactly(network):
    path = shaky()
    smooth = network(path, 20.0, 1.5)
    assert not torch.allclose(smooth, path, atol=0.1)
    assert torch.allclose(network(path + 7.0, 20.0, 1.5) - 7.0, smooth, atol=1e-5)
    assert torch.allclose(network(path.flip(1), 20.0, 1.5).flip(1), smooth, atol=1e-5)
    assert torch.allclose(network(-path, 20.0, 1.5), -smooth, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 2, 3, 40])
@pytest.mark.parametrize("period", [1.0, 9.0, 500.0])
def test_even_motion_stays_at_any_length_and_period(network, frames, period):
    pan = torch.arange(frames, dtype=torch.float64)[None, :, None] * torch.linspace(-1, 1, 8, dtype=torch.float64)
    assert torch.allclose(network(pan, period, 1.5), pan, atol=1e-7)
    assert torch.isfinite(network(shaky(frames), period, 1.5)).all()


def test_a_frame_that_is_pressed_against_the_border_is_held_firmer():
    """What it can learn: one round whose last layer answers distance with weight already keeps more inside."""
    torch.manual_seed(0)
    net = PathNet(features=1).requires_grad_(False)
    for layer in net.layers:
        layer.weight.zero_()
        layer.bias.zero_()
    path = shaky() * 2
    free = margin_usage(net(path, 40.0, 1.5) - path, 1.5)
    for layer in net.layers:
        layer.weight[0, 0, 2] = 1.0
    held = margin_usage(net(path, 40.0, 1.5) - path, 1.5)
    assert held.max() < 0.8 * free.max()
