"""Pruning: dead channels are removed first, and the result is an ordinary network."""

import pytest
import torch
from spandrel import ModelLoader
from steadyscale.core.compress import CompressionError
from steadyscale.core.compress import prune as prune_module
from steadyscale.core.compress.prune import prune, pruned_width
from steadyscale.models import RRDBConfig, RRDBNet
from steadyscale.models.arch.separable import to_separable
from torch import nn


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def half_dead_rrdb():
    """An RRDBNet whose blocks 1 and 2 only multiply by 1.2, and the 8 of 16 trunk channels that are always 0."""
    torch.manual_seed(0)
    network = RRDBNet(RRDBConfig(features=16, blocks=4, scale=2)).eval().requires_grad_(False)
    convs = {name: conv for name, conv in network.named_modules() if isinstance(conv, nn.Conv2d)}
    dead = torch.randperm(16)[:8]
    for name, conv in convs.items():
        if name.startswith(("body.1.", "body.2.")):
            conv.weight.zero_()
            conv.bias.zero_()
        elif name.endswith("conv5") or name in ("conv_first", "conv_body"):
            conv.weight[dead] = 0
            conv.bias[dead] = 0
        elif name in ("conv_hr", "conv_last"):
            conv.weight[:, torch.randperm(16)[:8]] = 0
            conv.weight.mul_(2)
    return network, dead


@pytest.fixture(scope="module")
def pruned_rrdb(small_images):
    """(network, its dead channels, the network without them)."""
    with torch.no_grad():
        large, dead = half_dead_rrdb()
        return large, dead, prune(large, 0.5, small_images)


def test_removing_dead_channels_does_not_change_the_output(network_factory, small_images):
    large = network_factory(16, dead=8)
    small = prune(large, 0.5, small_images)
    assert (small.config.features, small.config.convs) == (8, 2)
    image = small_images[0].flip(-1) * 0.7
    assert large(image).std() > 0.1
    assert (small(image) - large(image)).abs().max() < 1e-5


def test_the_channels_that_are_read_are_kept(network_factory, small_images):
    large = network_factory(16, dead=8)
    small = prune(large, 0.5, small_images)
    read = large.body[2].weight.abs().sum((0, 2, 3)) > 0
    assert torch.equal(small.body[0].weight, large.body[0].weight[read])
    assert torch.equal(small.body[1].weight, large.body[1].weight[read])


def test_removing_dead_channels_and_blocks_of_an_rrdb_does_not_change_the_output(pruned_rrdb, small_images):
    large, dead, small = pruned_rrdb
    assert (small.config.features, small.config.blocks, small.config.growth) == (8, 2, 32)
    alive = [channel for channel in range(16) if channel not in dead]
    assert torch.equal(small.conv_first.weight, large.conv_first.weight[alive])
    image = small_images[0].flip(-1) * 0.7
    assert large(image).std() > 0.01
    assert (small(image) - large(image)).abs().max() < 1e-5


def test_refitting_reduces_the_error(network_factory, small_images, monkeypatch):
    large = network_factory(16)

    def error():
        small = prune(large, 0.5, small_images)
        return sum(float((small(x) - large(x)).square().mean()) for x in small_images)

    refitted = error()
    monkeypatch.setattr(prune_module, "_refit", lambda *_: None)
    assert 0 < refitted < 0.7 * error()


def test_spandrel_loads_the_pruned_network(network_factory, pruned_rrdb, small_images):
    for small in (prune(network_factory(16), 0.5, small_images), pruned_rrdb[2]):
        theirs = ModelLoader().load_from_state_dict(dict(small.state_dict())).eval().model
        assert (theirs(small_images[0]) - small(small_images[0])).abs().max() < 1e-5


def test_half_of_the_channels_has_a_third_of_the_parameters():
    """For the published shapes."""

    def count(network):
        return sum(parameter.numel() for parameter in network.parameters())

    large = RRDBNet(RRDBConfig(blocks=6))
    small = prune(large, 0.5, [torch.rand(1, 3, 16, 16)])
    assert (small.config.features, small.config.blocks) == (32, 3)
    assert count(small) <= 0.35 * count(large)


@pytest.mark.parametrize(
    ("features", "fraction", "width"), [(64, 0.5, 32), (32, 0.5, 16), (24, 0.5, 16), (64, 0.9, 8), (40, 0.2, 32)]
)
def test_widths_are_multiples_of_eight(features, fraction, width):
    assert pruned_width(features, fraction) == width


def test_networks_that_cannot_be_pruned_are_refused(network_factory, small_images):
    with pytest.raises(CompressionError, match=r"0\.3 of 8 channels leaves 8"):
        prune(network_factory(8), 0.3, small_images)
    with pytest.raises(CompressionError, match="SeparableSRVGG cannot be pruned"):
        prune(to_separable(network_factory(16)), 0.5, small_images)
