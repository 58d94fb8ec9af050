"""Border control between ComfyUI and core: pictures, types, progress, cancel, memory. Conversions happen here, once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from enum import Enum
from fractions import Fraction
from typing import Any, TypeVar, cast

import comfy.utils
import torch
import torch.nn.functional as F
from av.video.frame import VideoFrame
from comfy import model_management
from comfy_api.latest import io
from einops import rearrange
from PIL import Image
from torch import Tensor

from ...core.clip import ClipError, ClipInfo, Frames, TensorClip
from ...core.video.decode.stream_format import NativeFrames
from .preview_target import end_progress, lacks_preview, running_node_id

CATEGORY = "SteadyScale"
DEFAULT_FPS = 24.0  # frames per second of pictures, which do not know theirs
PREVIEW_MAX_SIDE, PREVIEW_INTERVAL_SECONDS = 512, 1.0  # pixels, seconds
PROGRESS_INTERVAL_SECONDS = (
    0.1  # seconds; hosts send each update on, one after the other, and hear a cancel only behind all of them
)

ImageOrVideoType = io.Custom("IMAGE,VIDEO")
"""IMAGE or VIDEO. A node that takes both gives back the kind that came in: hosts and their frontends let an output of
two types connect to inputs of either."""
FlowType = io.Custom("STEADYSCALE_FLOW")
"""core.motion.estimate.Motion. Dense fields do not travel: they are as large as the clip itself."""
CorrectionType = io.Custom("STEADYSCALE_CORRECTION")
"""core.path.trajectory.Correction."""

T = TypeVar("T")


def combo_options(enum: type[Enum]) -> list[str]:
    """The dropdown of an enum. Hosts before 0.3.60 take a list of strings only."""
    return [member.value for member in enum]


def to_clip(images: Tensor, fps: float = DEFAULT_FPS) -> TensorClip:
    """IMAGE (N, H, W, 1, 3 or 4) -> a clip that shares its memory."""
    if images.shape[0] == 0:
        raise ClipError("the batch of frames is empty: connect frames, or check the node before this one")
    frames = rearrange(images, "n h w c -> n c h w").float().cpu()
    if frames.shape[1] == 1:
        frames = frames.expand(-1, 3, -1, -1)
    return TensorClip(frames, Fraction(fps).limit_denominator(1001))


class ImageBatch:
    """An IMAGE that is filled frame by frame: allocated once, at its final size, so that it is never held twice.

    masks: how many planes of a frame's size the caller holds beside it, for each frame. Raises ClipError where all that
    does not fit in memory.
    """

    def __init__(self, info: ClipInfo, channels: int, mask_planes: int = 0) -> None:
        shape = (info.length or 0, info.height, info.width, channels)
        size = 4 * shape[0] * shape[1] * shape[2] * (channels + mask_planes)
        free = model_management.get_free_memory(torch.device("cpu"))
        if size > free:
            raise ClipError(
                f"{shape[0]} frames of {shape[2]}x{shape[1]} need {size / 2**30:.1f} GiB as an IMAGE batch and "
                f"{free / 2**30:.1f} GiB are free: process fewer frames at a time, or ask for a smaller size"
            )
        self.images = torch.empty(shape)
        self._num_filled = 0

    def add(self, frames: Frames) -> None:
        """Append frames (B, C, H, W)."""
        self.images[self._num_filled : self._num_filled + len(frames)] = rearrange(frames, "n c h w -> n h w c")
        self._num_filled += len(frames)

    def to_tensor(self) -> Tensor:
        """The IMAGE (N, H, W, C). Raises ClipError when frames are missing."""
        if self._num_filled != len(self.images):
            raise ClipError(
                f"only {self._num_filled} of {len(self.images)} frames were made: this is a fault of SteadyScale"
            )
        return self.images


def free_device_memory(model: Any, num_bytes: float, device: torch.device) -> None:
    """Ask ComfyUI to unload what it can until `size` bytes are free on the device. model: who needs them, if one does.

    On hosts from 0.28 on upscale models carry a patcher, by which ComfyUI moves their weights itself.
    """
    patcher = getattr(model, "patcher", None)
    if patcher is None:
        model_management.free_memory(num_bytes, device)
    else:
        model_management.load_models_gpu([patcher], memory_required=num_bytes)


def stop_if_cancelled() -> None:
    """Raise ComfyUI's own exception when the user has pressed cancel."""
    model_management.throw_exception_if_processing_interrupted()


def with_progress(
    stream: Iterator[T],
    total: int | None,
    count: Callable[[T], int] = lambda _: 1,
    preview_frames: Callable[[T], Frames | NativeFrames] | None = None,
    node_id: str | None = None,
) -> Iterator[T]:
    """The same stream, with a progress bar on the node and a check for cancel after each item.

    show: the frames of an item, of which a node shows the last as a small picture, once a second at most. place: the
    id of that node, None: the one that runs. It shows them only if it has nothing else to show (_places.py).
    """
    progress, node = comfy.utils.ProgressBar(total or 1), running_node_id() if node_id is None else node_id
    if node is not None and not lacks_preview(node):
        preview_frames = None
    shown_on = (
        progress if node_id is None or preview_frames is None else comfy.utils.ProgressBar(total or 1, node_id=node_id)
    )
    done, told, shown, sent = 0, 0, time.monotonic(), float("-inf")
    stop_if_cancelled()
    for item in stream:
        preview = None
        if preview_frames is not None and time.monotonic() - shown > PREVIEW_INTERVAL_SECONDS:
            preview = "JPEG", preview_image(preview_frames(item)[-1]), PREVIEW_MAX_SIDE
            shown = time.monotonic()
        done += count(item)
        yield item
        del item
        stop_if_cancelled()
        now, most = time.monotonic(), max(total or 1, done)
        if preview is not None or now - sent > PROGRESS_INTERVAL_SECONDS:
            progress.update_absolute(done, most, preview if shown_on is progress else None)
            told, sent = done, now
        if preview is not None and shown_on is not progress:
            shown_on.update_absolute(done, most, preview)
    if told != done:
        progress.update_absolute(done, max(total or 1, done))
    if node_id is not None and shown_on is not progress:
        end_progress(node_id)


def preview_image(frame: Tensor | VideoFrame) -> Image.Image:
    """(3 or 4, H, W), or a decoder's frame -> a picture of at most PREVIEW_SIDE pixels on the longer side."""
    height, width = frame.shape[1:] if isinstance(frame, Tensor) else (frame.height, frame.width)
    factor = min(1.0, PREVIEW_MAX_SIDE / max(height, width))
    size = max(1, round(height * factor)), max(1, round(width * factor))
    if isinstance(frame, VideoFrame):
        return frame.to_image(width=size[1], height=size[0], interpolation="AREA")
    small = F.interpolate(frame[None, :3].float(), size, mode="area")[0].clamp(0, 1)
    return Image.fromarray((small * 255).byte().permute(1, 2, 0).cpu().numpy())


def with_cancel_check(model: T) -> T:
    """The same network or flow model, which first looks whether the user has cancelled: it stops within one tile."""
    return cast(T, _CancellableModel(model))


class _CancellableModel:
    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, *args: Tensor, **options: Any) -> Tensor:
        stop_if_cancelled()
        return self.model(*args, **options)

    def __getattr__(self, name: str) -> Any:
        if name == "model":  # asked for before __init__ has run, by copy or pickle
            raise AttributeError(name)
        return getattr(self.model, name)
