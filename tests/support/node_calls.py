"""Nodes called as ComfyUI calls them, on the stand-in for the newest host (tests/nodes/conftest.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from steadyscale.core.path.trajectory import Correction
from steadyscale.core.video.decode.video_clip import VideoClip

SETTINGS = {"resize_to": "model scale", "factor": 2.0, "width": 1, "height": 1, "tile": 0, "precision": "auto"}


class Network:
    """Doubles the size by repetition, and counts the frames that it is given."""

    scale, halo = 2, 2

    def __init__(self) -> None:
        self.frames = 0

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        self.frames += len(frames)
        return F.interpolate(frames, scale_factor=2, mode="nearest")


def upscaled(newest, frames, network=None, **settings):
    node = newest.import_("upscale").UpscaleFrames
    return node.execute(network or Network(), frames, **{**SETTINGS, **settings}).result[0]


def still(clip_file: Path) -> Correction:
    info = VideoClip(clip_file).info
    return Correction(np.tile(np.eye(3), (info.length, 1, 1)), [slice(0, info.length)], info)


def warped(newest, frames, correction, border="crop", pad=0):
    return newest.import_("warp").WarpFrames.execute(frames, correction, border, pad).result
