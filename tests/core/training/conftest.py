"""Textures that a small network learns to upscale in seconds, and settings for such runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from steadyscale.core.training import TrainConfig, config_from
from torch import Tensor


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny networks are faster on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_texture(seed: int, side: int = 160) -> Tensor:
    """(3, side, side), uint8: curved bands with sharp edges, which bicubic upscaling blurs."""
    generator = torch.Generator().manual_seed(seed)
    fine = side * 4
    noise = torch.rand(3, 3, side // 6, side // 6, generator=generator)
    hills = F.interpolate(noise, size=(fine, fine), mode="bicubic")
    hills = (hills - hills.mean((2, 3), keepdim=True)) / hills.std((2, 3), keepdim=True)
    bands = (torch.sin(hills * 2.5) > 0).float() * torch.rand(3, 3, 1, 1, generator=generator)
    image = F.avg_pool2d(bands.sum(0, keepdim=True), 4)[0]
    return (image / image.amax() * 255).round().byte()


@pytest.fixture
def texture_factory() -> Callable[..., Tensor]:
    return make_texture


@pytest.fixture(scope="session")
def texture_folder(tmp_path_factory) -> Path:
    """A folder with train/0.png ... 3.png and validate/4.png, 5.png."""
    folder = tmp_path_factory.mktemp("textures")
    for number in range(6):
        part = folder / ("train" if number < 4 else "validate")
        part.mkdir(exist_ok=True)
        Image.fromarray(make_texture(number).permute(1, 2, 0).numpy()).save(part / f"{number}.png")
    return folder


@pytest.fixture
def make_config(texture_folder, tmp_path) -> Callable[..., TrainConfig]:
    """make_config(steps=8, optim={...}) -> a small 2x run on the textures in tmp_path/run, with these overrides."""

    def make(**changes: Any) -> TrainConfig:
        table: dict[str, Any] = {
            "name": "toy",
            "run": os.fspath(tmp_path / "run"),
            "steps": 8,
            "batch": 4,
            "network": {"scales": [2], "features": 8, "convs": 2},
            "discriminator": {"kind": "vgg", "features": 4},
            "data": {
                "train": [str(texture_folder / "train")],
                "validate": [str(texture_folder / "validate")],
                "crop": 32,
            },
            "optim": {"learning_rate": 4e-3, "ema_decay": 0.95},
            "runtime": {"device": "cpu", "num_workers": 0},
            "output": {"samples": 1},
        }
        for key, value in changes.items():
            table[key] = {**table.get(key, {}), **value} if isinstance(value, dict) else value
        return config_from(table)

    return make
