"""Read masks of ignored or held subjects from images or a video."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ...clip import ClipError
from ...hold import Region, RegionMask
from ...video.open import open_clip

MASK_SIDE = 320  # longer side, in pixels, of the masks in memory; motion is measured on frames of about this size


def read_masks(path: str | Path) -> Tensor:
    """Read the masks in a file: (N, h, w), bool, True where the luma exceeds one half.

    path: an image for all frames, or one mask for each frame: a folder or pattern of images, or a video. The masks are
    reduced to `MASK_SIDE`. Raises ClipError for what cannot be read.
    """
    import torch.nn.functional as F

    clip = open_clip(path)
    size = clip.info.fit_within(MASK_SIDE)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    masks = [
        F.interpolate((frame[:, :3].float() * weights).sum(dim=1, keepdim=True), (size.height, size.width), mode="area")
        > 0.5
        for frame in clip.frames()
    ]
    if not masks:
        raise ClipError(f"{path}: there is no mask in it")
    return torch.cat(masks)[:, 0]


def read_region(text: str) -> Region | RegionMask:
    """Read the subject to hold.

    A box, see `Region.parse`, or the file of its masks, see `read_masks`.

    Raises ClipError.
    """
    if Path(text).exists() or not text[:1].isdecimal():
        return RegionMask(read_masks(text))
    return Region.parse(text)
