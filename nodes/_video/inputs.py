"""Read an IMAGE or VIDEO input as a clip."""

from __future__ import annotations

from comfy_api.latest import Input
from torch import Tensor

from ...core.clip import Clip, ClipInfo
from .._comfy.adapter import DEFAULT_FPS, to_clip
from .lazy_video import plan_for
from .render_plan import reserve_memory


def clip_from_input(frames: Tensor | Input.Video, fps: float = DEFAULT_FPS) -> Clip:
    """An IMAGE as a clip of `fps` frames per second, a VIDEO as its pipeline.

    Nothing runs until frames are read, but ComfyUI is asked for the device memory that reading will need.
    """
    if isinstance(frames, Tensor):
        return to_clip(frames, fps)
    pipeline = plan_for(frames).pipeline
    reserve_memory(pipeline)
    return pipeline


def info_from_input(frames: Tensor | Input.Video) -> ClipInfo:
    """Size, rate and length of an input whose frames are not read."""
    return to_clip(frames).info if isinstance(frames, Tensor) else plan_for(frames).pipeline.info


def size_from_input(frames: Tensor | Input.Video) -> tuple[int, int]:
    """Width and height of an input; its frames are not read."""
    return (frames.shape[2], frames.shape[1]) if isinstance(frames, Tensor) else frames.get_dimensions()
