"""SPAN: equal to spandrel and to the form that is trained, with an exact halo."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from spandrel import ModelLoader
from steadyscale.models import SPAN, SPANConfig, load_upscaler
from steadyscale.models.arch import span


def random_network(config, seed=0):
    """Large weights, so that attention and borders matter."""
    torch.manual_seed(seed)
    network = SPAN(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
    return network


@settings(max_examples=8, deadline=None)
@given(
    channels=st.sampled_from([1, 3, 4]),
    features=st.sampled_from([3, 8]),
    scale=st.sampled_from([1, 2, 3, 4]),
    norm=st.booleans(),
    seed=st.integers(0, 99),
)
def test_agrees_with_spandrel(channels, features, scale, norm, seed):
    config = SPANConfig(channels, channels, features, scale, norm and channels == 3)
    state = dict(random_network(config, seed).state_dict())  # its eval_conv are not those of the other weights
    image = torch.rand(1, channels, 7, 9)
    theirs = ModelLoader().load_from_state_dict(dict(state)).eval().model
    assert span.matches(state)
    ours = span.build(state)
    assert ours.config == config
    with torch.no_grad():
        expected, result = theirs(image), ours(image)
    assert result.shape == (1, channels, 7 * scale, 9 * scale)
    assert (result - expected).abs().max() <= 1e-5 * max(1, expected.abs().max())


@pytest.mark.parametrize("norm", [True, False])
def test_the_trained_form_computes_the_same(norm):
    network = random_network(SPANConfig(features=8, scale=2, norm=norm)).double()
    image = torch.rand(1, 3, 6, 5, dtype=torch.float64)
    with torch.no_grad():
        trained, fused = network.train()(image), network.eval()(image)
    assert (trained - fused).abs().max() <= 1e-12 * trained.abs().max()
    assert trained.std() > 0.01


def test_changed_weights_are_used_from_the_next_evaluation_on():
    network = random_network(SPANConfig(features=4, scale=2, norm=False)).eval()
    image = torch.rand(1, 3, 6, 5)
    with torch.no_grad():
        network.train()
        for parameter in network.parameters():
            parameter.mul_(1.2)
        trained, fused = network(image), network.eval()(image)
    assert torch.allclose(trained, fused, atol=1e-5)


def test_halo_is_exact():
    network = random_network(SPANConfig(features=4, scale=2, norm=False)).double().eval()
    size = 2 * network.halo + 5
    image = torch.rand(1, 3, size, size, dtype=torch.float64, requires_grad=True)
    middle = size // 2
    network(image)[..., 2 * middle, 2 * middle].sum().backward()
    assert image.grad is not None
    touched = image.grad.abs().sum((0, 1)).nonzero()
    assert touched.min() == middle - network.halo
    assert touched.max() == middle + network.halo


def test_files_are_loaded_also_in_inference_mode(tmp_path):
    network = random_network(SPANConfig(features=4, scale=2))
    save_file(network.state_dict(), tmp_path / "span.safetensors")
    with torch.inference_mode():
        inside = load_upscaler(tmp_path / "span.safetensors")
    assert (inside.architecture, inside.scale, inside.in_channels) == ("SPAN", 2, 3)
    image = torch.rand(1, 3, 6, 5)
    assert torch.equal(inside(image), load_upscaler(tmp_path / "span.safetensors")(image))
    inside.model.eval()


def test_shapes_that_do_not_fit_are_rejected():
    state = dict(SPAN(SPANConfig(features=4)).state_dict())
    del state["block_3.c2_r.sk.bias"]
    with pytest.raises(ValueError, match=r"nearly SPAN, but block_3\.c2_r\.sk\.bias is missing"):
        span.build(state)
    del state["upsampler.0.weight"]
    with pytest.raises(ValueError, match="its upsampler is not"):
        span.build(state)
