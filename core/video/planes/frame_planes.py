"""Memory of planes: views of decoded frames, and planes on a device."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from av.video.frame import VideoFrame
from torch import Tensor

from ...runtime.typed_torch import from_numpy, unflatten
from .layout import PlaneLayout, layout_for


def empty_planes(
    layout: PlaneLayout, width: int, height: int, *, batch: int = 1, device: torch.device | str = "cpu"
) -> list[Tensor]:
    """Allocate planes without values, (B, h, w) or, interleaved, (B, h, w, channels).

    They are uint8, or int16 for more than 8 bits: their bits are those of unsigned samples.
    """
    dtype = torch.uint8 if layout.bits == 8 else torch.int16
    return [torch.empty(batch, *shape, dtype=dtype, device=device) for shape in layout.plane_shapes(width, height)]


def frame_planes(frame: VideoFrame) -> list[Tensor]:
    """Return the planes of a frame as views of its memory.

    Shapes are those of `PlaneLayout.plane_shapes`, the dtype is that of `empty_planes`; rows may be longer in memory.
    Raises ValueError for a pixel format without a layout.
    """
    layout = layout_for(frame.format.name)
    if layout is None:
        raise ValueError(f"{frame.format.name} has no plane layout; convert it with core.video.decode.convert")
    dtype = np.dtype(np.uint8 if layout.bits == 8 else "<i2")
    planes: list[Tensor] = []
    for plane, shape in zip(frame.planes, layout.plane_shapes(frame.width, frame.height), strict=True):
        rows = np.frombuffer(memoryview(plane), dtype).reshape(shape[0], -1)[:, : math.prod(shape[1:])]
        planes.append(unflatten(from_numpy(rows), 1, shape[1:]))
    return planes


def frame_from_planes(planes: Sequence[Tensor], layout: PlaneLayout, width: int, height: int) -> VideoFrame:
    """Copy planes on the CPU into a new frame without color tags.

    planes: of one frame, as `PlaneLayout.plane_shapes`, in the dtype of `empty_planes`. Raises ValueError for others.
    """
    frame = VideoFrame(width, height, layout.pixel_format)
    for target, plane in zip(frame_planes(frame), planes, strict=True):
        if target.shape != plane.shape or target.dtype != plane.dtype:
            raise ValueError(
                f"a plane of {layout.pixel_format} at {width}x{height} is {target.dtype} of shape "
                f"{tuple(target.shape)}, not {plane.dtype} of shape {tuple(plane.shape)}"
            )
        _copy(target, plane)
    return frame


def _copy(target: Tensor, source: Tensor) -> None:
    """Copy between tensors on the CPU, in this thread.

    Torch would use its thread pool; waiting for it costs more than the copy while other stages use the processor.
    """
    np.copyto(target.numpy(), source.numpy())
