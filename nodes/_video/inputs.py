"""What comes in on a wire for frames, as a clip: IMAGE and VIDEO alike."""

from __future__ import annotations

from comfy_api.latest import Input
from torch import Tensor

from ...core.clip import Clip, ClipInfo
from .._comfy.adapter import USUAL_RATE, to_clip
from .lazy_video import planned
from .render_plan import room_for


def clip_of(frames: Tensor | Input.Video, fps: float = USUAL_RATE) -> Clip:
    """IMAGE as a clip of `fps` frames per second, VIDEO as what is planned for it, to be read soon.

    Nothing runs before that, but ComfyUI is asked for the memory that reading will need on the device.
    """
    if isinstance(frames, Tensor):
        return to_clip(frames, fps)
    recipe = planned(frames).recipe
    room_for(recipe)
    return recipe


def info_of(frames: Tensor | Input.Video) -> ClipInfo:
    """What is known of them, for who does not read them."""
    return to_clip(frames).info if isinstance(frames, Tensor) else planned(frames).recipe.info
