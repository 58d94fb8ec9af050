"""Frames and a network with a known result."""

from __future__ import annotations

import torch
from steadyscale.core.upscaling.settings import UpscaleSettings
from steadyscale.core.upscaling.upscale import upscale
from torch import Tensor, nn


def repeat_pixels(x: Tensor, scale: int = 2) -> Tensor:
    return x.repeat_interleave(scale, -2).repeat_interleave(scale, -1)


class NearestUpscaler(nn.Module):
    """Upscale by repeating pixels; `calls` are the shapes of its inputs."""

    scale, halo = 2, 0

    def __init__(self, scale: int = 2) -> None:
        super().__init__()
        self.scale = scale
        self.gain = nn.Parameter(torch.ones(1))
        self.calls = []
        self.eval()  # In training mode a replica would run, with counters of its own.

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(tuple(x.shape))
        return repeat_pixels(x * self.gain, self.scale)


def random_frames(frames: int, channels: int = 3, height: int = 10, width: int = 14, seed: int = 0) -> Tensor:
    return torch.rand(frames, channels, height, width, generator=torch.Generator().manual_seed(seed))


def run_upscale(frames, model, **settings) -> Tensor:
    chunks = frames if isinstance(frames, list) else [frames]
    return torch.cat(list(upscale(iter(chunks), model, UpscaleSettings(**settings))))


class Cancelled(Exception):
    pass


class CancellingModel:
    """A wrapper as nodes use it: holds its network as `.model`, and raises when the user cancels."""

    def __init__(self, model, max_calls: int) -> None:
        self.model, self.scale, self.calls_left = model, model.scale, max_calls

    def __call__(self, x: Tensor) -> Tensor:
        if self.calls_left == 0:
            raise Cancelled
        self.calls_left -= 1
        return self.model(x)
