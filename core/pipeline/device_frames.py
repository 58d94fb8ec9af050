"""Decoded frames on a device.

Planes are uploaded as decoded, and converted to RGB there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from torch import Tensor

from ..clip import Frames
from ..runtime.device.accelerator import Accelerator
from ..runtime.device.out_of_memory import is_out_of_memory
from ..runtime.device.transfer import Uploader
from ..runtime.typed_torch import from_numpy
from ..video.decode.convert import to_level_planes
from ..video.format.stream_format import NativeFrames, Orientation, StreamFormat, bit_depth, has_alpha
from ..video.planes.frame_planes import frame_planes
from ..video.planes.layout import PlaneLayout, layout_for, layout_of
from ..video.planes.rgb_conversion import planes_to_rgb

log = logging.getLogger(__name__)

# Rows of a plane that are compared first: most frames differ in them.
SAMPLED_ROWS = 16


def device_frames(
    native_frames: Iterator[NativeFrames], stream_format: StreamFormat, accelerator: Accelerator
) -> Iterator[Frames]:
    """Yield decoded frames as RGB on the device.

    Frames are (1, 3 or 4, H, W) in display orientation, float32 in [0, 1].
    native_frames: as stored, see `Clip`. A frame that repeats the last one is the same tensor. Frames for which the
    device has no memory are on the CPU.
    """
    converter = _Converter(stream_format, accelerator)
    last: Sequence[Tensor] = ()
    rgb: Tensor | None = None
    for batch in native_frames:
        for frame in batch:
            planes, layout = converter.read_planes(frame)
            if rgb is None or not _are_equal(planes, last):
                rgb = None  # Before the next one takes memory.
                rgb = converter.to_rgb(planes, layout)
            last = planes
            yield rgb


class _Converter:
    def __init__(self, stream_format: StreamFormat, accelerator: Accelerator) -> None:
        self._orientation, self._alpha = stream_format.orientation, has_alpha(stream_format.pixel_format)
        self._accelerator, self._uploader = accelerator, Uploader(accelerator)
        self._reformatter = VideoReformatter()
        self._chroma_location = stream_format.chroma_location

    def read_planes(self, frame: VideoFrame) -> tuple[list[Tensor], PlaneLayout]:
        """The planes of a frame on the CPU.

        They are as decoded or, if that format has no layout, those of RGB.
        """
        layout = layout_of(frame, self._chroma_location)
        if layout is not None:
            return frame_planes(frame), layout
        is_high = bit_depth(frame.format.name) > 8
        levels = to_level_planes(frame, self._reformatter, alpha=self._alpha, chroma_location=self._chroma_location)
        planes = [
            from_numpy((plane * (65535 / level) + 0.5).astype(np.uint16) if is_high else plane)
            for plane, level in levels
        ]
        red, green, blue, *alpha = planes
        bits = "16le" if is_high else ""
        rgb_layout = layout_for(f"gbr{'a' if self._alpha else ''}p{bits}")
        assert rgb_layout is not None
        return [green, blue, red, *alpha], rgb_layout

    def to_rgb(self, planes: Sequence[Tensor], layout: PlaneLayout) -> Tensor:
        with torch.inference_mode(False), torch.no_grad():
            try:
                rgb = planes_to_rgb(self._uploader.upload(planes), layout)
                return _orient(rgb, self._orientation)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                log.warning("memory ran out on %s; a frame is converted on the CPU", self._accelerator.device)
            return _orient(planes_to_rgb(planes, layout), self._orientation)


def _are_equal(planes: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    pairs = list(zip(planes, others, strict=len(planes) == len(others)))
    if len(planes) != len(others) or any(a.shape != b.shape or a.dtype != b.dtype for a, b in pairs):
        return False
    sampled = ((a[:: max(1, len(a) // SAMPLED_ROWS)], b[:: max(1, len(b) // SAMPLED_ROWS)]) for a, b in pairs)
    return all(torch.equal(a, b) for a, b in sampled) and all(torch.equal(a, b) for a, b in pairs)


def _orient(frames: Frames, orientation: Orientation) -> Frames:
    """As `Orientation.apply`, for frames on a device."""
    if orientation.transpose:
        frames = frames.transpose(-1, -2)
    mirrored = [
        dim for dim, is_mirrored in ((-1, orientation.mirror_columns), (-2, orientation.mirror_rows)) if is_mirrored
    ]
    return frames.flip(mirrored) if mirrored else frames.contiguous()
