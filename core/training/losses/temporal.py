"""Losses over neighboring frames, aligned by their motion.

Frames are (B, C, H, W), clip after clip, with `Motion` from each to the one before it. The confidence of the first
frame of a clip is 0, so that clips do not mix.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...filters.deflicker import MAX_BLEND_WEIGHT, local_min_max
from ...motion.optical_flow.consistency import backward_warp
from ...runtime.typed_torch import unflatten

MIN_CONFIDENCE_SUM = 1.0  # pixels, against a division by 0 in a batch without any consistent motion


def deflickered(frames: Tensor, flow: Tensor, confidence: Tensor, clip_frames: int, strength: float) -> Tensor:
    """Pass clips through the deflicker filter (filters/deflicker.py), with gradients.

    (B, C, H, W) -> the same. The filter's correction of the exposure is left out; the frames of a training clip do not
    differ in it.
    """
    frames = frames.to(flow.dtype)
    clips, flows, weights = (unflatten(x, 0, (-1, clip_frames)) for x in (frames, flow, confidence))
    results = [clips[:, 0]]
    for index in range(1, clip_frames):
        frame = clips[:, index]
        minimum, maximum = (bound.detach() for bound in local_min_max(frame))
        last = backward_warp(results[-1], flows[:, index], mode="bicubic")
        last = torch.minimum(torch.maximum(last, minimum), maximum)
        results.append(torch.lerp(frame, last, MAX_BLEND_WEIGHT * strength * weights[:, index]))
    return torch.stack(results, 1).flatten(0, 1)


def temporal_consistency(pred: Tensor, target: Tensor, flow: Tensor, confidence: Tensor) -> Tensor:
    """Mean change of the error along the motion.

    mean over confident pixels of |e[t] - warp(e[t - 1])| with e = pred - target. A constant error does not flicker and
    costs nothing; true changes of the scene are in the target too. After Lai et al. 2018, arXiv:1808.00449, who compare
    the frames themselves.
    """
    error = pred.to(flow.dtype) - target
    change = (error - backward_warp(error.roll(1, 0), flow)).abs() * confidence
    return change.sum() / (confidence.sum() * pred.shape[1]).clamp_min(MIN_CONFIDENCE_SUM)


def neighbor_pairs(frames: Tensor, flow: Tensor, confidence: Tensor, clip_frames: int) -> Tensor:
    """Join each frame with the one before it, aligned to it.

    (B, C, H, W) -> (B - clips, 2 C, H, W), without the first frames of the clips. Where the frame before does not show
    the same, the frame itself stands for it, so that occlusions do not give a generated clip away.
    """
    frames = frames.to(flow.dtype)
    before = torch.lerp(frames, backward_warp(frames.roll(1, 0), flow), confidence)
    return unflatten(torch.cat([frames, before], 1), 0, (-1, clip_frames))[:, 1:].flatten(0, 1)
