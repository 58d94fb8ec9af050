"""What comes in on a wire for frames, as a clip: IMAGE and VIDEO alike."""

from __future__ import annotations

from comfy_api.latest import Input
from torch import Tensor

from ..core.clip import Clip
from ._comfy import to_clip
from ._video import planned


def clip_of(frames: Tensor | Input.Video) -> Clip:
    """IMAGE as a clip of 24 frames per second, VIDEO as what is planned for it. Nothing runs before it is read."""
    return to_clip(frames) if isinstance(frames, Tensor) else planned(frames).recipe
