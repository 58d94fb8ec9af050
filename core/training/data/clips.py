"""Short clips for the temporal losses: a simulated camera, and measured motion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...motion.optical_flow.consistency import backward_warp, forward_backward_confidence, photometric_confidence
from ...motion.optical_flow.flow import FlowMethod, flow_model

# The simulated camera, in high-resolution pixels per frame, degrees and parts: a steady pan, and a shake of each frame.
MAX_PAN, MAX_SHAKE, MAX_ROLL, MAX_ZOOM = 6.0, 2.0, 0.4, 0.005


@dataclass(frozen=True)
class Motion:
    """Motion from each frame of a batch of clips to the frame before it.

    flow: (B, 2, H, W) in pixels. confidence: (B, 1, H, W) in [0, 1]; 0 where the frame before does not show the same,
    and for the first frame of each clip.
    """

    flow: Tensor
    confidence: Tensor


def camera_margin(frames: int) -> int:
    """Return the pixels around a crop that the simulated camera may see."""
    return int(np.ceil(MAX_PAN * (frames - 1) / 2 + MAX_SHAKE))


def simulate_camera(image: Tensor, size: int, frames: int, rng: np.random.Generator) -> Tensor:
    """Film an image with a panning, shaking camera.

    (3, S, S) in [0, 1] -> (frames, 3, size, size), sampled bicubically; S is `size` + 2 `camera_margin`. The camera is
    centered on the image in the middle of the clip. The area outside, which a roll may show, is mirrored.
    """
    steps = np.arange(frames) - (frames - 1) / 2
    shift = steps[:, None] * rng.uniform(-MAX_PAN, MAX_PAN, 2) + rng.uniform(-MAX_SHAKE, MAX_SHAKE, (frames, 2))
    roll = np.deg2rad(rng.uniform(-MAX_ROLL, MAX_ROLL, frames))
    scale = (size / image.shape[-1]) * (1 + rng.uniform(-MAX_ZOOM, MAX_ZOOM, frames))
    cos, sin = scale * np.cos(roll), scale * np.sin(roll)
    x, y = 2 / image.shape[-1] * shift.T
    rows = np.stack([np.stack([cos, -sin, x], 1), np.stack([sin, cos, y], 1)], 1)
    grid = F.affine_grid(torch.from_numpy(rows).float(), [frames, 3, size, size], align_corners=False)  # pyright: ignore[reportUnknownMemberType]
    source = image.expand(frames, -1, -1, -1)
    return F.grid_sample(source, grid, mode="bicubic", padding_mode="reflection", align_corners=False).clamp(0, 1)


def measure_motion(frames: Tensor) -> Motion:
    """Measure the motion within one clip, as the deflicker filter does.

    frames: (T, 3, H, W) in [0, 1].
    """
    count, _, height, width = frames.shape
    flow, confidence = torch.zeros(count, 2, height, width), torch.zeros(count, 1, height, width)
    model = flow_model(FlowMethod.DIS)  # one per call: OpenCV's object must not be shared by threads
    for index in range(1, count):
        frame, before = frames[index : index + 1], frames[index - 1 : index]
        forward, backward = model(frame, before), model(before, frame)
        similarity = photometric_confidence(backward_warp(before, forward), frame)
        flow[index] = forward[0]
        confidence[index] = (forward_backward_confidence(forward, backward) * similarity)[0]
    return Motion(flow, confidence)
