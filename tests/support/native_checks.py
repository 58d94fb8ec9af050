"""Helpers for tests of the native engine: random networks and comparison with torch."""

from __future__ import annotations

import pytest
import torch
from steadyscale.models.native.compiler import find_compiler

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="there is no C++ compiler on this machine")


def randomize_weights(network):
    """Set weights that keep results near [0, 1] and slopes that matter, and return the network."""
    generator = torch.Generator().manual_seed(3)
    for name, parameter in network.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim == 4:
            parameter.copy_(noise * (2 / (max(9, parameter[0, 0].numel()) * parameter.shape[1])) ** 0.5)
        else:
            parameter.copy_(noise * 0.1 + (0.2 if name.endswith("weight") else 0.0))
    return network.eval().requires_grad_(False)


def randomize_span(network):
    """Set weights of a SPAN that keep results near [0, 1], and return the network."""
    randomize_weights(network)
    if network.config.norm:  # its input is 255 times as large
        network.conv_1.conv[0].weight.div_(255)
        network.conv_1.sk.weight.div_(255)
    network.train()
    return network.eval().requires_grad_(False)  # this fuses the convolutions


def random_image(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(5))


def assert_close(native, network, images, tolerance=1e-4):
    expected = network(images)
    result = native(images)
    assert result.shape == expected.shape
    assert images.numel() < 100 or expected.std() > 1e-3, "the network's result must not be flat"
    assert (result - expected).abs().max() <= tolerance * max(1.0, float(expected.abs().max()))


def scale_slices(slices, scale):
    """Index of the result that belongs to these rows and columns of the input."""
    return (..., *(slice(side.start * scale, side.stop * scale) for side in slices))
