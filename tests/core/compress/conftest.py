"""Textures, and networks fitted to them without training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from steadyscale.core.training.evaluate.metrics import make_lr_pair
from steadyscale.models import SRVGGConfig, SRVGGNetCompact
from torch import Tensor


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny networks are faster on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_texture(seed: int, side: int = 96) -> Tensor:
    """(3, side, side), uint8: curved bands with clean edges."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(1, 3, side // 8, side // 8, generator=generator)
    hills = F.interpolate(noise, size=(4 * side, 4 * side), mode="bicubic")
    bands = (torch.sin(hills * 20) > 0).float()
    return (F.avg_pool2d(bands, 4)[0] * 255).round().byte()


@pytest.fixture(scope="session")
def texture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 8 images."""
    folder = tmp_path_factory.mktemp("textures")
    for number in range(8):
        Image.fromarray(make_texture(number).permute(1, 2, 0).numpy()).save(folder / f"{number}.jpg", quality=98)
    return folder


@pytest.fixture(scope="session")
def small_images() -> list[Tensor]:
    """Low-resolution images (1, 3, h, w) in [0, 1]."""
    return [make_lr_pair(make_texture(number), 2)[0] for number in range(4)]


@pytest.fixture(scope="session")
def textures() -> list[Tensor]:
    """Images (3, H, W), uint8, other than those of `small_images`."""
    return [make_texture(number) for number in (6, 7)]


def fit_network(features: int = 16, dead: int = 0, seed: int = 0) -> SRVGGNetCompact:
    """A 2x network of random features whose last layer is a least-squares fit, better than nearest-neighbor upscaling.

    dead: channels of each layer that have no effect.
    """
    torch.manual_seed(seed)
    network = SRVGGNetCompact(SRVGGConfig(features=features, convs=2, scale=2)).eval().requires_grad_(False)
    *layers, last = network.body
    for layer in layers:
        if layer.weight.ndim == 4:
            layer.weight.mul_(2)
        else:
            layer.weight.uniform_(0.0, 0.5)
    for layer in [*network.body][2::2]:
        layer.weight[:, torch.randperm(features)[:dead]] = 0
    alive = last.weight.abs().sum((0, 2, 3)) > 0
    gram, cross = 0, 0
    for number in range(6):
        small, large = make_lr_pair(make_texture(number), 2)
        missing = F.pixel_unshuffle(large - F.interpolate(small, scale_factor=2, mode="nearest"), 2)
        x = small
        for layer in layers:
            x = layer(x)
        patches = F.pad(F.unfold(x * alive[:, None, None], 3, padding=1)[0], (0, 0, 0, 1), value=1.0).double()
        gram, cross = gram + patches @ patches.T, cross + patches @ missing.flatten(2)[0].double().T
    fit = torch.linalg.solve(gram + 1e-3 * torch.eye(len(gram)), cross).T.float()
    last.weight.copy_(fit[:, :-1].reshape_as(last.weight) * alive[:, None, None])
    last.bias.copy_(fit[:, -1])
    return network


@pytest.fixture
def network_factory() -> Callable[..., SRVGGNetCompact]:
    return fit_network


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weight file of a network of 32 channels, none of them dead."""
    path = tmp_path_factory.mktemp("weights") / "teacher.safetensors"
    save_file(fit_network(32).state_dict(), path)
    return path


@pytest.fixture(scope="session")
def half_dead_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weight file of a network of 16 channels, 8 of them dead."""
    path = tmp_path_factory.mktemp("weights") / "half_dead.safetensors"
    save_file(fit_network(16, dead=8).state_dict(), path)
    return path
