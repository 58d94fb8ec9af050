"""SRVGGNetCompact: equal to spandrel, with an exact halo."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from spandrel import ModelLoader
from spandrel.architectures.Compact import Compact
from steadyscale.models import Activation, SRVGGConfig, SRVGGNetCompact
from steadyscale.models.arch import srvgg


def random_network(config: SRVGGConfig, seed: int = 0) -> SRVGGNetCompact:
    torch.manual_seed(seed)
    network = SRVGGNetCompact(config)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1 and len(parameter) == config.features:
                parameter.uniform_(-0.4, 0.4)
        network.body[-1].weight.mul_(0.5)
    return network.eval().requires_grad_(False)


@settings(max_examples=25, deadline=None)
@given(
    channels=st.sampled_from([1, 3, 4]),
    features=st.sampled_from([3, 8, 17]),
    convs=st.integers(1, 6),
    scale=st.sampled_from([1, 2, 3, 4, 8]),
    activation=st.sampled_from(Activation),
    seed=st.integers(0, 99),
)
def test_agrees_with_spandrel(channels, features, convs, scale, activation, seed):
    config = SRVGGConfig(channels, channels, features, convs, scale, activation)
    ours = random_network(config, seed)
    state = dict(ours.state_dict())
    image = torch.rand(1, channels, 7, 9)
    if activation is Activation.PRELU:
        theirs = ModelLoader().load_from_state_dict(dict(state)).eval().model
        assert srvgg.matches(state)
        ours = srvgg.build(state)
        assert ours.config == config
    else:  # spandrel's loader knows only PReLU, its network knows all three
        theirs = Compact(
            num_in_ch=channels,
            num_out_ch=channels,
            num_feat=features,
            num_conv=convs,
            upscale=scale,
            act_type=activation.value,
        )
        theirs.load_state_dict(state)
    with torch.no_grad():
        expected, result = theirs(image), ours(image)
    assert result.shape == (1, channels, 7 * scale, 9 * scale)
    assert (result - expected).abs().max() <= 1e-4


def test_activation_without_weights_is_rejected():
    state = SRVGGNetCompact(SRVGGConfig(features=4, convs=2, activation=Activation.RELU)).state_dict()
    assert srvgg.matches(state)
    with pytest.raises(ValueError, match="ReLU or LeakyReLU"):
        srvgg.build(state)


def test_halo_is_exact():
    network = random_network(SRVGGConfig(features=6, convs=3, scale=2))
    size = 2 * network.halo + 5
    image = torch.rand(1, 3, size, size, requires_grad=True)
    middle = size // 2
    network(image)[..., 2 * middle, 2 * middle].sum().backward()
    touched = image.grad.abs().sum((0, 1)).nonzero()
    assert touched.min() == middle - network.halo
    assert touched.max() == middle + network.halo
    assert SRVGGNetCompact().halo == 18


def test_invalid_number_of_channels_is_rejected():
    state = dict(SRVGGNetCompact(SRVGGConfig(features=4, convs=1)).state_dict())
    state["body.4.weight"], state["body.4.bias"] = torch.zeros(7, 4, 3, 3), torch.zeros(7)
    with pytest.raises(ValueError, match="7 channels"):
        srvgg.build(state)


def test_last_layer_that_is_not_a_convolution_is_rejected():
    state = dict(SRVGGNetCompact(SRVGGConfig(features=4, convs=1)).state_dict())
    state["body.4.weight"] = torch.tensor(7.0)
    with pytest.raises(ValueError, match="has 0 dimensions"):
        srvgg.build(state)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_reduced_network_gives_the_box_reduced_result(scale):
    network = random_network(SRVGGConfig(features=8, convs=2, scale=4))
    image = torch.rand(2, 3, 9, 7)
    reduced = srvgg.reduce_scale(network, scale)
    assert (reduced.scale, reduced.config.features) == (scale, 8)
    expected = F.avg_pool2d(network(image), 4 // scale)
    assert (reduced(image) - expected).abs().max() < 2e-6
    assert expected.std() > 0.1
    with pytest.raises(ValueError, match="not to 3x"):
        srvgg.reduce_scale(network, 3)
