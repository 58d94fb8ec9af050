"""Depthwise-separable networks: exactly equal to dense ones that everybody loads, and read back from their files."""

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


def network(config, seed=0):
    """A separable network whose every weight matters, with results near [0, 1]."""
    torch.manual_seed(seed)
    made = SeparableSRVGG(config) if isinstance(config, SRVGGConfig) else SeparableRRDB(config)
    for parameter in made.parameters():
        if parameter.ndim == 1:
            parameter.uniform_(-0.3, 0.3)
    return made.eval().requires_grad_(False)


@pytest.mark.parametrize("config", SHAPES, ids=str)
def test_collapses_exactly_to_what_spandrel_loads(config, picture):
    ours = network(config)
    plain = to_dense(ours)
    assert type(plain) in (SRVGGNetCompact, RRDBNet)
    expected = ours(picture)
    assert expected.std() > 0.01
    assert (plain(picture) - expected).abs().max() < 1e-5
    if isinstance(config, SRVGGConfig):
        theirs = ModelLoader().load_from_state_dict(dict(plain.state_dict())).eval().model
        assert (theirs(picture) - expected).abs().max() < 1e-5


def test_spandrel_loads_a_collapsed_rrdb(picture):
    """Growth 32, the only one that it knows."""
    ours = network(RRDBConfig(features=8, blocks=2, growth=32, scale=2))
    theirs = ModelLoader().load_from_state_dict(dict(to_dense(ours).state_dict())).eval().model
    assert (theirs(picture) - ours(picture)).abs().max() < 1e-5


@pytest.mark.parametrize("config", SHAPES, ids=str)
def test_separating_what_is_separable_changes_nothing(config, picture):
    ours = network(config)
    assert (to_separable(to_dense(ours))(picture) - ours(picture)).abs().max() < 1e-5


def test_separating_is_the_nearest_of_rank_one():
    """No small change of either factor comes nearer to the dense kernel."""
    torch.manual_seed(1)
    plain = SRVGGNetCompact(SRVGGConfig(features=6, convs=1))
    part = to_separable(plain).body[2]
    kernel, mix, blur = plain.body[2].weight, part.pointwise.weight, part.depthwise.weight

    def miss():
        return float((mix * blur.transpose(0, 1) - kernel).square().sum())

    least = miss()
    for parameter in (mix, blur):
        for _ in range(20):
            change = torch.randn_like(parameter) * 1e-2
            parameter += change
            assert miss() > least
            parameter -= change


@settings(max_examples=10, deadline=None)
@given(features=st.integers(2, 9), convs=st.integers(1, 4), scale=st.integers(1, 4))
def test_is_known_from_its_weights(features, convs, scale):
    ours = network(SRVGGConfig(features=features, convs=convs, scale=scale))
    assert separable.matches(ours.state_dict())
    read = separable.build(ours.state_dict())
    assert (type(read), read.config) == (SeparableSRVGG, ours.config)


@pytest.mark.parametrize("config", SHAPES, ids=str)
def test_a_file_makes_the_same_pictures(config, picture, tmp_path):
    ours = network(config)
    save_file(ours.state_dict(), tmp_path / "small.safetensors")
    read = load_upscaler(tmp_path / "small.safetensors")
    assert (read.architecture, read.scale, read.model.config) == ("depthwise-separable", config.scale, config)
    assert torch.equal(read(picture), ours(picture).clamp(0, 1))


def test_a_file_that_lacks_a_part_is_refused(tmp_path):
    state = dict(network(SHAPES[0]).state_dict())
    del state["body.4.depthwise.weight"]
    save_file(state, tmp_path / "torn.safetensors")
    with pytest.raises(WeightsError, match=r"body\.4\.depthwise\.weight is missing"):
        load_upscaler(tmp_path / "torn.safetensors")


def test_has_a_third_of_the_parameters_or_less():
    def count(made: nn.Module) -> int:
        return sum(parameter.numel() for parameter in made.parameters())

    for config in (SRVGGConfig(features=16, convs=6, scale=2), SRVGGConfig(), RRDBConfig(blocks=2)):
        plain = SRVGGNetCompact(config) if isinstance(config, SRVGGConfig) else RRDBNet(config)
        assert count(to_separable(plain)) <= count(plain) / 3
        assert count(to_dense(to_separable(plain))) == count(plain)


def test_other_networks_are_refused():
    with pytest.raises(ValueError, match="Sequential is neither"):
        to_separable(nn.Sequential(SeparableConv(2, 2)))
    with pytest.raises(ValueError, match="SeparableSRVGG is neither"):
        to_separable(network(SHAPES[0]))
