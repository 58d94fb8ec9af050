"""Adapt ComfyUI to core: image batches, socket types, progress, cancel, memory."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from enum import Enum
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

from ...core.clip import ClipError, ClipInfo, Frames, TensorClip, parse_fps
from ...core.video.format.stream_format import NativeFrames
from .device import free_cpu_memory
from .preview_target import can_preview, end_progress, mark_previewing, pop_previewing, running_node_id

DEFAULT_FPS = 24.0  # frames per second of an IMAGE batch, which has no rate of its own
PREVIEW_MAX_SIDE, PREVIEW_INTERVAL_SECONDS = 512, 1.0  # pixels, seconds
OUTPUT_MAX_SIDE = 2048  # pixels of a node's own output, displayed as its last preview
PROGRESS_INTERVAL_SECONDS = 0.1  # hosts queue every update, and handle a cancel only after those before it

ImageOrVideoType = io.Custom("IMAGE,VIDEO")
"""IMAGE or VIDEO; a node that accepts both returns the type that it received.

Hosts and their frontends let an output of two types connect to inputs of either.
"""
FlowType = io.Custom("STEADYSCALE_FLOW")
"""core.path.motion.Motion. Dense flow fields are not passed on: they are as large as the clip itself."""
CorrectionType = io.Custom("STEADYSCALE_CORRECTION")
"""core.path.trajectory.Correction."""

T = TypeVar("T")


def combo_options(enum: type[Enum]) -> list[str]:
    """The values of an enum for a dropdown; hosts before 0.3.60 take only strings."""
    return [member.value for member in enum]


def to_clip(images: Tensor, fps: float = DEFAULT_FPS, *, bit_depth: int = 8) -> TensorClip:
    """Wrap an IMAGE (N, H, W, 1, 3 or 4) as a clip that shares its memory.

    bit_depth: see `TensorClip`. Raises ClipError for no frames, and a rate that is none.
    """
    if images.shape[0] == 0:
        raise ClipError("the batch of frames is empty: connect frames, or check the node before this one")
    rate = parse_fps(fps)
    frames = rearrange(images, "n h w c -> n c h w").float().cpu()
    if frames.shape[1] == 1:
        frames = frames.expand(-1, 3, -1, -1)
    return TensorClip(frames, rate.limit_denominator(1001), bit_depth=bit_depth)


class ImageBatch:
    """An IMAGE batch allocated once at its final size and filled frame by frame.

    mask_planes: planes (H, W) per frame that the caller allocates beside it. Raises ClipError if the batch and these
    planes do not fit in memory.
    """

    def __init__(self, info: ClipInfo, channels: int, mask_planes: int = 0) -> None:
        shape = (info.length or 0, info.height, info.width, channels)
        size = 4 * shape[0] * shape[1] * shape[2] * (channels + mask_planes)
        free = free_cpu_memory()
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
        """The IMAGE (N, H, W, C); raises ClipError if frames are missing."""
        if self._num_filled != len(self.images):
            raise ClipError(
                f"only {self._num_filled} of {len(self.images)} frames were computed: this is a bug in SteadyScale"
            )
        return self.images


def stop_if_cancelled() -> None:
    """Raise ComfyUI's own exception if the user has pressed cancel."""
    model_management.throw_exception_if_processing_interrupted()


def progress_bar(total: int, node_id: str | None = None) -> Any:
    """ComfyUI's progress bar on a node, None for the running one."""
    return comfy.utils.ProgressBar(total) if node_id is None else comfy.utils.ProgressBar(total, node_id=node_id)


def with_progress(
    stream: Iterator[T],
    total: int | None,
    count: Callable[[T], int] = lambda _: 1,
    preview_frames: Callable[[T], Frames | NativeFrames] | None = None,
    node_id: str | None = None,
    output_image: Tensor | None = None,
    done: int = 0,
) -> Iterator[T]:
    """Report progress on the node and check for cancel after each item of a stream.

    preview_frames: returns the frames of an item; the node displays the last of them, at most once a second. node_id:
    the node for these previews, None for the running one. output_image: see `show_output`, which is called at the end.
    done: the count that is reported before the first item.
    """
    progress, node = progress_bar(total or 1), running_node_id() if node_id is None else node_id
    if node is not None and not can_preview(node):
        preview_frames = None
    preview_bar = progress if node_id is None or preview_frames is None else progress_bar(total or 1, node_id)
    reported, previewed_at, sent_at = done, time.monotonic(), float("-inf")
    stop_if_cancelled()
    for item in stream:
        preview = None
        if preview_frames is not None and time.monotonic() - previewed_at > PREVIEW_INTERVAL_SECONDS:
            preview = "JPEG", preview_image(preview_frames(item)[-1]), PREVIEW_MAX_SIDE
            previewed_at = time.monotonic()
        done += count(item)
        yield item
        del item
        stop_if_cancelled()
        now, maximum = time.monotonic(), max(total or 1, done)
        if preview is not None or now - sent_at > PROGRESS_INTERVAL_SECONDS:
            progress.update_absolute(done, maximum, preview if preview_bar is progress else None)
            reported, sent_at = done, now
        if preview is not None and preview_bar is not progress:
            preview_bar.update_absolute(done, maximum, preview)
        if preview is not None:
            mark_previewing(node)
    if reported != done:
        progress.update_absolute(done, max(total or 1, done))
    if output_image is not None:
        show_output(output_image, node_id)
    if node_id is not None and preview_bar is not progress:
        end_progress(node_id)


def show_output(images: Tensor, node_id: str | None = None) -> None:
    """Put a node's own IMAGE (N, H, W, C) in place of a frame that it displays.

    Several images become one sheet. Nothing happens if the node displays no frame. node_id: None for the running node.
    """
    if pop_previewing(running_node_id() if node_id is None else node_id):
        sheet = Image.fromarray((_tile(images)[..., :3].clamp(0, 1) * 255).byte().cpu().numpy())
        progress_bar(1, node_id).update_absolute(1, 1, ("JPEG", sheet, min(OUTPUT_MAX_SIDE, max(sheet.size))))


def _tile(images: Tensor) -> Tensor:
    """Lay out images (N, H, W, C) in rows, (H', W', C); empty places are black."""
    columns = math.ceil(math.sqrt(len(images)))
    missing = -len(images) % columns
    padded = torch.cat([images, images.new_zeros(missing, *images.shape[1:])])
    return rearrange(padded, "(row column) h w c -> (row h) (column w) c", column=columns)


def preview_image(frame: Tensor | VideoFrame) -> Image.Image:
    """Convert (3 or 4, H, W) or a decoded frame to a preview of PREVIEW_MAX_SIDE."""
    height, width = frame.shape[1:] if isinstance(frame, Tensor) else (frame.height, frame.width)
    factor = min(1.0, PREVIEW_MAX_SIDE / max(height, width))
    size = max(1, round(height * factor)), max(1, round(width * factor))
    if isinstance(frame, VideoFrame):
        return frame.to_image(width=size[1], height=size[0], interpolation="AREA")
    small = F.interpolate(frame[None, :3].float(), size, mode="area")[0].clamp(0, 1)
    return Image.fromarray((small * 255).byte().permute(1, 2, 0).cpu().numpy())


def with_cancel_check(model: T) -> T:
    """Wrap a network or flow model so that each call checks for cancel, once per tile."""
    return cast(T, _CancellableModel(model))


class _CancellableModel:
    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, *args: Tensor, **options: Any) -> Tensor:
        stop_if_cancelled()
        return self.model(*args, **options)

    def __getattr__(self, name: str) -> Any:
        if name == "model":  # read by copy and pickle before __init__ has run
            raise AttributeError(name)
        return getattr(self.model, name)
