"""Depthwise-separable networks: equal to their dense equivalents, and detected from their weights."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from spandrel import ModelLoader
from steadyscale.models import RRDBConfig, RRDBNet, SRVGGConfig, SRVGGNetCompact, WeightsError, load_upscaler
from steadyscale.models.arch import separable
from steadyscale.models.arch.separable import SeparableConv, SeparableRRDB, SeparableSRVGG, to_dense, to_separable
from torch import nn

SHAPES = [
    SRVGGConfig(features=8, convs=3, scale=2),
    SRVGGConfig(features=5, convs=1, scale=3),
    RRDBConfig(features=6, blocks=2, scale=2, unshuffle=2),
    RRDBConfig(features=4, blocks=1, scale=4),
]


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def random_network(config, seed=0):
    """A separable network with non-zero biases and results near [0, 1]."""
    torch.manual_seed(seed)
    network = SeparableSRVGG(config) if isinstance(config, SRVGGConfig) else SeparableRRDB(config)
    for parameter in network.parameters():
        if parameter.ndim == 1:
            parameter.uniform_(-0.3, 0.3)
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize("config", SHAPES, ids=str)
def test_dense_equivalent_is_equal_and_loads_in_spandrel(config, sample_image):
    ours = random_network(config)
    dense = to_dense(ours)
    assert type(dense) in (SRVGGNetCompact, RRDBNet)
    expected = ours(sample_image)
    assert expected.std() > 0.01
    assert (dense(sample_image) - expected).abs().max() < 1e-5
    if isinstance(config, SRVGGConfig):
        theirs = ModelLoader().load_from_state_dict(dict(dense.state_dict())).eval().model
        assert (theirs(sample_image) - expected).abs().max() < 1e-5


def test_spandrel_loads_a_dense_equivalent_of_rrdb(sample_image):
    """With growth 32, the only one that spandrel supports."""
    ours = random_network(RRDBConfig(features=8, blocks=2, growth=32, scale=2))
    theirs = ModelLoader().load_from_state_dict(dict(to_dense(ours).state_dict())).eval().model
    assert (theirs(sample_image) - ours(sample_image)).abs().max() < 1e-5


@pytest.mark.parametrize("config", SHAPES, ids=str)
def test_to_separable_is_exact_for_a_dense_equivalent(config, sample_image):
    ours = random_network(config)
    assert (to_separable(to_dense(ours))(sample_image) - ours(sample_image)).abs().max() < 1e-5


def test_to_separable_is_the_best_rank_one_approximation():
    """No small change of either factor reduces the error."""
    torch.manual_seed(1)
    dense = SRVGGNetCompact(SRVGGConfig(features=6, convs=1))
    conv = to_separable(dense).body[2]
    kernel, pointwise, depthwise = dense.body[2].weight, conv.pointwise.weight, conv.depthwise.weight

    def error():
        return float((pointwise * depthwise.transpose(0, 1) - kernel).square().sum())

    minimum = error()
    for parameter in (pointwise, depthwise):
        for _ in range(20):
            change = torch.randn_like(parameter) * 1e-2
            parameter += change
            assert error() > minimum
            parameter -= change


@settings(max_examples=10, deadline=None)
@given(features=st.integers(2, 9), convs=st.integers(1, 4), scale=st.integers(1, 4))
def test_is_detected_from_its_weights(features, convs, scale):
    ours = random_network(SRVGGConfig(features=features, convs=convs, scale=scale))
    assert separable.matches(ours.state_dict())
    built = separable.build(ours.state_dict())
    assert (type(built), built.config) == (SeparableSRVGG, ours.config)


@pytest.mark.parametrize("config", SHAPES, ids=str)
def test_saved_file_gives_the_same_results(config, sample_image, tmp_path):
    ours = random_network(config)
    save_file(ours.state_dict(), tmp_path / "small.safetensors")
    loaded = load_upscaler(tmp_path / "small.safetensors")
    assert (loaded.architecture, loaded.scale, loaded.model.config) == ("depthwise-separable", config.scale, config)
    assert torch.equal(loaded(sample_image), ours(sample_image).clamp(0, 1))


def test_file_with_a_missing_tensor_is_rejected(tmp_path):
    state = dict(random_network(SHAPES[0]).state_dict())
    del state["body.4.depthwise.weight"]
    save_file(state, tmp_path / "incomplete.safetensors")
    with pytest.raises(WeightsError, match=r"body\.4\.depthwise\.weight is missing"):
        load_upscaler(tmp_path / "incomplete.safetensors")


def test_has_at_most_a_third_of_the_parameters():
    def count(network: nn.Module) -> int:
        return sum(parameter.numel() for parameter in network.parameters())

    for config in (SRVGGConfig(features=16, convs=6, scale=2), SRVGGConfig(), RRDBConfig(blocks=2)):
        dense = SRVGGNetCompact(config) if isinstance(config, SRVGGConfig) else RRDBNet(config)
        assert count(to_separable(dense)) <= count(dense) / 3
        assert count(to_dense(to_separable(dense))) == count(dense)


def test_other_modules_are_rejected():
    with pytest.raises(ValueError, match="Sequential is neither"):
        to_separable(nn.Sequential(SeparableConv(2, 2)))
    with pytest.raises(ValueError, match="SeparableSRVGG is neither"):
        to_separable(random_network(SHAPES[0]))
