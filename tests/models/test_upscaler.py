"""Upscaler: RGB in and out, whatever channels the network has."""

import pytest
import torch
import torch.nn.functional as F
from steadyscale.models import RRDBConfig, RRDBNet, SRVGGConfig, SRVGGNetCompact, Upscaler


def nearest_upscaler(channels: int, scale: int = 2) -> Upscaler:
    """A network with zero weights, which is nearest-neighbour upsampling, so every result is known."""
    network = SRVGGNetCompact(SRVGGConfig(channels, channels, features=2, convs=1, scale=scale))
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    return Upscaler(network, "nearest", "SRVGGNetCompact")


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_networks_of_any_channels_take_rgb(channels):
    model = nearest_upscaler(channels)
    images = torch.rand(2, 3, 4, 5)
    assert torch.equal(model(images), F.interpolate(images, scale_factor=2))


def test_rgba_network_upscales_alpha():
    images = torch.rand(2, 4, 3, 3)
    assert torch.equal(nearest_upscaler(4)(images), F.interpolate(images, scale_factor=2))
    with pytest.raises(ValueError, match=r"\(B, 3, h, w\), got \(2, 4, 3, 3\)"):
        nearest_upscaler(3)(images)


def test_result_is_clamped_and_input_unchanged():
    images = torch.tensor([-1.0, 0.5, 2.0]).reshape(1, 3, 1, 1)
    before = images.clone()
    assert nearest_upscaler(3, scale=1)(images).flatten().tolist() == [0.0, 0.5, 1.0]
    assert torch.equal(images, before)


def test_an_empty_batch_stays_empty():
    assert nearest_upscaler(3)(torch.rand(0, 3, 4, 5)).shape == (0, 3, 8, 10)


def test_interface_that_comfyui_expects():
    model = nearest_upscaler(3)
    assert model.to("cpu") is model
    assert isinstance(model.model, torch.nn.Module)
    assert model.model.state_dict()
    model.patcher = object()  # ComfyUI from 0.28 on stores its wrapper here


def test_to_changes_the_dtype():
    model = nearest_upscaler(3).to(dtype=torch.float64)
    assert model.dtype is torch.float64
    assert model(torch.rand(1, 3, 2, 2, dtype=torch.float64)).dtype is torch.float64


def test_repr_and_parameter_count():
    network = RRDBNet(RRDBConfig(features=4, blocks=1, growth=2))
    model = Upscaler(network, "small", "RRDBNet")
    assert model.parameters_count == sum(p.numel() for p in network.parameters())
    assert repr(model) == f"<Upscaler small: RRDBNet, 4x, {model.parameters_count / 1e6:.2f} M parameters>"
    assert not any(p.requires_grad for p in model.model.parameters())
    assert not model.model.training


def test_networks_that_change_the_channels_are_rejected():
    with pytest.raises(ValueError, match="turns 3 channels into 1"):
        Upscaler(RRDBNet(RRDBConfig(3, 1, features=4, blocks=1, growth=2)), "gray", "RRDBNet")
