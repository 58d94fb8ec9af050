"""What comes in on a wire for frames, as a clip: IMAGE and VIDEO alike."""

from __future__ import annotations

from comfy_api.latest import Input
from torch import Tensor

from ...core.clip import Clip, ClipInfo
from .._comfy.adapter import DEFAULT_FPS, to_clip
from .lazy_video import plan_for
from .render_plan import reserve_memory


def clip_from_input(frames: Tensor | Input.Video, fps: float = DEFAULT_FPS) -> Clip:
    """IMAGE as a clip of `fps` frames per second, VIDEO as what is planned for it, to be read soon.

    Nothing runs before that, but ComfyUI is asked for the memory that reading will need on the device.
    """
    if isinstance(frames, Tensor):
        return to_clip(frames, fps)
    recipe = plan_for(frames).pipeline
    reserve_memory(recipe)
    return recipe


def info_from_input(frames: Tensor | Input.Video) -> ClipInfo:
    """What is known of them, for who does not read them."""
    return to_clip(frames).info if isinstance(frames, Tensor) else plan_for(frames).pipeline.info
