"""Networks that show every mistake, and what natively made results are held to."""

from __future__ import annotations

import pytest
import torch
from steadyscale.models.native.build import find_compiler

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="there is no C++ compiler on this machine")


def randomize_weights(network):
    """The same network with weights that keep results near [0, 1] and slopes that matter."""
    generator = torch.Generator().manual_seed(3)
    for name, parameter in network.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim == 4:
            parameter.copy_(noise * (2 / (9 * parameter.shape[1])) ** 0.5)
        else:
            parameter.copy_(noise * 0.1 + (0.2 if name.endswith("weight") else 0.0))
    return network.eval().requires_grad_(False)


def random_image(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(5))


def assert_close(native, network, images, tolerance=1e-4):
    truth = network(images)
    result = native(images)
    assert result.shape == truth.shape
    assert images.numel() < 100 or truth.std() > 1e-3, "the network must make something of the picture"
    assert (result - truth).abs().max() <= tolerance * max(1.0, float(truth.abs().max()))


def scale_slices(slices, scale):
    return (..., *(slice(side.start * scale, side.stop * scale) for side in slices))
