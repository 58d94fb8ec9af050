"""Call nodes as ComfyUI does, on the fake host of tests/nodes/conftest.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from steadyscale.core.path.trajectory import Correction
from steadyscale.core.video.decode.video_clip import VideoClip

UPSCALE_SETTINGS = {"resize_to": "model scale", "factor": 2.0, "width": 1, "height": 1, "tile": 0, "precision": "auto"}


class CountingUpscaler:
    """Doubles the size by repetition, and counts the frames that it is given."""

    scale, halo = 2, 2

    def __init__(self) -> None:
        self.frame_count = 0

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        self.frame_count += len(frames)
        return F.interpolate(frames, scale_factor=2, mode="nearest")


def run_upscale(fake_host, frames, network=None, **settings):
    node = fake_host.import_("upscale").UpscaleFrames
    return node.execute(frames, upscale_model=network or CountingUpscaler(), **{**UPSCALE_SETTINGS, **settings}).result[
        0
    ]


def identity_correction(clip_file: Path) -> Correction:
    info = VideoClip(clip_file).info
    return Correction(np.tile(np.eye(3), (info.length, 1, 1)), [slice(0, info.length)], info)


def run_warp(fake_host, frames, correction, border="crop", pad=0):
    return fake_host.import_("warp").WarpFrames.execute(frames, correction, border, pad).result
