"""Networks loaded through spandrel: same interface, padded sizes, and an error without spandrel."""

import sys
import types

import pytest
import torch
from safetensors.torch import save_file
from spandrel import ModelLoader
from spandrel.architectures.ESRGAN import ESRGAN
from spandrel.architectures.MMRealSR import MMRealSR
from spandrel.architectures.SwinIR import SwinIR
from steadyscale.models import WeightsError, load_upscaler

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid")  # spandrel's SwinIR


@pytest.fixture
def swin(tmp_path):
    """A file of a small SwinIR, whose windows of 8 pixels require padding for most sizes."""
    torch.manual_seed(2)
    network = SwinIR(
        img_size=16,
        window_size=8,
        depths=[2],
        embed_dim=12,
        num_heads=[2],
        mlp_ratio=2,
        upscale=2,
        upsampler="pixelshuffledirect",
    )
    path = tmp_path / "swin.safetensors"
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, path)
    return path


def test_spandrel_networks_have_our_interface(swin, sample_image):
    model = load_upscaler(swin)
    assert (model.scale, model.halo, model.in_channels, model.architecture) == (2, 64, 3, "SwinIR")
    images = torch.cat([sample_image, sample_image.flip(-1)])[..., :13, :11]
    result = model(images)
    theirs = ModelLoader().load_from_file(swin).eval()
    assert model.multiple == theirs.size_requirements.multiple_of
    assert result.shape == (2, 3, 26, 22)
    for index in range(2):
        assert torch.allclose(result[index], theirs(images[index : index + 1])[0], atol=1e-6)
    assert result.std() > 0.001
    result.mul_(0.5)  # fails for an inference tensor
    with pytest.raises(ValueError, match="overflows in float16"):
        model.to(dtype=torch.float16)


def test_esrgan_plus_is_loaded_by_spandrel(tmp_path, sample_image):
    network = ESRGAN(num_filters=8, num_blocks=2, scale=2, plus=True)
    torch.save(network.state_dict(), tmp_path / "plus.pth")
    model = load_upscaler(tmp_path / "plus.pth")
    assert (model.architecture, model.scale) == ("ESRGAN", 2)
    assert torch.allclose(model(sample_image), network.eval()(sample_image).detach().clamp(0, 1), atol=1e-6)


def test_relatives_of_our_networks_are_loaded_by_spandrel(tmp_path, sample_image):
    network = ESRGAN(num_filters=4, num_blocks=1, scale=16)
    torch.save(network.state_dict(), tmp_path / "16x.pth")
    model = load_upscaler(tmp_path / "16x.pth")
    assert (model.architecture, model.scale) == ("ESRGAN", 16)
    small = sample_image[..., :8, :8]
    assert torch.allclose(model(small), network.eval()(small).detach().clamp(0, 1), atol=1e-6)


def test_a_network_whose_keys_look_like_ours_falls_through_to_spandrel(tmp_path, sample_image):
    """MMRealSR has the body of an ESRGAN, and more."""
    torch.manual_seed(1)
    sizes = {"num_feat": 8, "num_block": 1, "num_grow_ch": 4, "num_feats": [8] * 4, "num_blocks": [1] * 4}
    network = MMRealSR(num_in_ch=3, num_out_ch=3, **sizes).eval()
    torch.save(network.state_dict(), tmp_path / "mm.pth")
    model = load_upscaler(tmp_path / "mm.pth")
    assert (model.architecture, model.scale, model.in_channels) == ("MMRealSR", 4, 3)
    theirs = ModelLoader().load_from_file(tmp_path / "mm.pth").eval()
    assert torch.allclose(model(sample_image), theirs(sample_image).detach(), atol=1e-6)


def test_extra_architectures_are_registered_where_they_are_installed(swin, monkeypatch):
    calls = []
    extra = types.SimpleNamespace(install=lambda **options: calls.append(options))
    monkeypatch.setitem(sys.modules, "spandrel_extra_arches", extra)
    assert load_upscaler(swin).architecture == "SwinIR"
    assert calls == [{"ignore_duplicates": True}]


def test_without_spandrel_the_error_names_it(swin, monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(WeightsError, match="need spandrel installed"):
        load_upscaler(swin)
