"""RealPLKSR: equal to spandrel, with an exact halo where there is one."""

import pytest
import torch
from safetensors.torch import save_file
from spandrel import ModelLoader
from steadyscale.models import RealPLKSR, RealPLKSRConfig, load_upscaler
from steadyscale.models.arch import realplksr

SMALL = {"features": 8, "blocks": 2, "scale": 2, "kernel": 5, "kernel_channels": 2}


def random_network(config, seed=0):
    """Weights with which attention, norms and borders matter."""
    torch.manual_seed(seed)
    network = RealPLKSR(config).requires_grad_(False)
    for parameter in network.parameters():
        parameter.mul_(1.5) if parameter.ndim == 4 else parameter.add_(0.2 * torch.randn_like(parameter))
    return network.eval()


@pytest.mark.parametrize("layer_norm", [True, False])
@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize(("scale", "kernel", "kernel_channels"), [(1, 5, 2), (2, 17, 3), (4, 3, 8)])
def test_agrees_with_spandrel(layer_norm, attention, scale, kernel, kernel_channels):
    config = RealPLKSRConfig(3, 3, 8, 2, scale, kernel, kernel_channels, attention, layer_norm)
    state = random_network(config).state_dict()
    theirs = ModelLoader().load_from_state_dict(dict(state)).eval().model
    assert realplksr.matches(state)
    ours = realplksr.build(state).eval()
    assert ours.config == config
    image = torch.rand(2, 3, 7, 9)
    with torch.no_grad():
        expected, result = theirs(image.clone()), ours(image)
    assert result.shape == (2, 3, 7 * scale, 9 * scale)
    assert (result - expected).abs().max() <= 1e-6 * max(1, expected.abs().max())
    with torch.enable_grad():  # another way for the same
        assert torch.allclose(ours(image), result, atol=1e-6)


def test_halo_is_exact_without_group_norm():
    network = random_network(RealPLKSRConfig(**SMALL, layer_norm=True)).double()
    size = 2 * network.halo + 5
    image = torch.rand(1, 3, size, size, dtype=torch.float64, requires_grad=True)
    middle = size // 2
    network(image)[..., 2 * middle, 2 * middle].sum().backward()
    assert image.grad is not None
    touched = image.grad.abs().sum((0, 1)).nonzero()
    assert (int(touched.min()), int(touched.max())) == (middle - network.halo, middle + network.halo)
    # With group norm each result depends on the whole image, and context of the usual size is asked for.
    assert random_network(RealPLKSRConfig(**SMALL)).halo == realplksr.MAX_HALO


def test_files_are_loaded(tmp_path):
    network = random_network(RealPLKSRConfig(**SMALL))
    save_file(network.state_dict(), tmp_path / "plksr.safetensors")
    model = load_upscaler(tmp_path / "plksr.safetensors")
    assert (model.architecture, model.scale, model.in_channels, model.supports_half) == ("RealPLKSR", 2, 3, False)
    image = torch.rand(1, 3, 6, 5)
    with torch.no_grad():
        assert torch.allclose(model(image), network(image).clamp(0, 1), atol=1e-4)


def test_other_upsamplers_are_left_to_spandrel(tmp_path):
    from spandrel.architectures.PLKSR import RealPLKSR as Theirs

    network = Theirs(dim=8, n_blocks=1, upscaling_factor=2, kernel_size=5, dysample=True)
    save_file(network.state_dict(), tmp_path / "dysample.safetensors")
    assert not realplksr.matches(network.state_dict())
    model = load_upscaler(tmp_path / "dysample.safetensors")
    assert (model.architecture, model.scale, model.engine) == ("PLKSR", 2, "torch")
    assert model(torch.rand(1, 3, 6, 5)).shape == (1, 3, 12, 10)


def test_weights_that_do_not_fit_are_rejected():
    state = dict(RealPLKSR(RealPLKSRConfig(**SMALL)).state_dict())
    even = state | {f"feats.{n}.lk.conv.weight": torch.zeros(2, 2, 4, 4) for n in (1, 2)}
    with pytest.raises(ValueError, match="a side of 4; only odd sides"):
        realplksr.build(even)
    with pytest.raises(ValueError, match="6 channels cannot be divided into 4 groups"):
        RealPLKSRConfig(features=6, kernel_channels=2)
    with pytest.raises(ValueError, match="see 9 channels of 8"):
        RealPLKSRConfig(features=8, kernel_channels=9)
    del state["feats.2.refine.bias"]
    with pytest.raises(ValueError, match=r"nearly RealPLKSR, but feats\.2\.refine\.bias is missing"):
        realplksr.build(state)
    del state["feats.4.weight"]
    with pytest.raises(ValueError, match="its first or last layer"):
        realplksr.build(state)
