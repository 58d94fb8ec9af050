"""Memory of planes: views of decoded frames, and buffers for transfers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from av.video.frame import VideoFrame
from torch import Tensor

from .layout import PlaneLayout, layout_for


@dataclass(frozen=True)
class PlaneBuffer:
    """The planes of a batch of frames in one contiguous tensor.

    One copy transfers them all.

    storage: (B, N), uint8, or int16 for more than 8 bits: their bits are those of unsigned samples.
    planes: views of it, (B, h, w) or, interleaved, (B, h, w, channels).
    """

    storage: Tensor
    planes: tuple[Tensor, ...]
    layout: PlaneLayout
    size: tuple[int, int]  # (width, height)

    @classmethod
    def allocate(
        cls,
        layout: PlaneLayout,
        width: int,
        height: int,
        *,
        batch: int = 1,
        device: torch.device | str = "cpu",
        pin_memory: bool = False,
    ) -> PlaneBuffer:
        """Allocate planes without values for frames of that size.

        pin_memory: on the CPU, for fast transfers.
        """
        count = sum(map(math.prod, layout.plane_shapes(width, height)))
        dtype = torch.uint8 if layout.bits == 8 else torch.int16
        return cls._of(
            torch.empty(batch, count, dtype=dtype, device=device, pin_memory=pin_memory), layout, (width, height)
        )

    @classmethod
    def _of(cls, storage: Tensor, layout: PlaneLayout, size: tuple[int, int]) -> PlaneBuffer:
        shapes = layout.plane_shapes(*size)
        parts = storage.split([math.prod(shape) for shape in shapes], dim=1)
        planes = tuple(part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True))
        return cls(storage, planes, layout, size)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> PlaneBuffer:
        """Return a copy on the device, without waiting for it if non_blocking."""
        return self._of(self.storage.to(device, non_blocking=non_blocking), self.layout, self.size)

    def fill(self, planes: Sequence[Tensor], index: int = 0) -> None:
        """Copy the planes of a frame to the place `index` of the batch; both on the CPU."""
        for target, plane in zip(self.planes, planes, strict=True):
            _copy(target[index], plane)


def frame_planes(frame: VideoFrame) -> list[Tensor]:
    """Return the planes of a frame as views of its memory.

    Shapes are those of `PlaneLayout.plane_shapes`, the dtype is that of `PlaneBuffer`; rows may be longer in memory.
    Raises ValueError for a pixel format without a layout.
    """
    layout = layout_for(frame.format.name)
    if layout is None:
        raise ValueError(f"{frame.format.name} has no plane layout; convert it with core.video.decode.convert")
    dtype = np.dtype(np.uint8 if layout.bits == 8 else "<i2")
    planes: list[Tensor] = []
    for plane, shape in zip(frame.planes, layout.plane_shapes(frame.width, frame.height), strict=True):
        rows = np.frombuffer(memoryview(plane), dtype).reshape(shape[0], -1)[:, : math.prod(shape[1:])]
        planes.append(torch.from_numpy(rows).unflatten(1, shape[1:]))
    return planes


def frame_from_planes(planes: Sequence[Tensor], layout: PlaneLayout, width: int, height: int) -> VideoFrame:
    """Copy planes on the CPU into a new frame without color tags.

    planes: of one frame, as `PlaneLayout.plane_shapes`, in the dtype of `PlaneBuffer`. Raises ValueError for others.
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
