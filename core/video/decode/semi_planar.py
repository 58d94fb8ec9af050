"""Convert planar 4:2:0 frames to the layout of hardware codecs and back.

NV12 and P010 interleave the two chroma planes, and P010 stores 10 bits in the upper bits of 16. FFmpeg's scaler
moves the samples without a change if both frames have the same size and color range.
"""

from __future__ import annotations

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from ..format.scaler import REFORMAT_THREADS
from ..format.stream_format import FULL_RANGE, LIMITED_RANGE

SEMI_PLANAR = {"yuv420p": "nv12", "yuvj420p": "nv12", "yuv420p10le": "p010le"}
"""Planar pixel format -> the semi-planar one that holds the same samples."""


def to_planar(frame: VideoFrame, reformatter: VideoReformatter, pixel_format: str) -> VideoFrame:
    """Return an NV12 or P010 frame in the planar format, with all its properties.

    pixel_format: a key of SEMI_PLANAR whose value is the format of the frame.
    """
    return _move_samples(frame, reformatter, pixel_format)


def to_semi_planar(frame: VideoFrame, reformatter: VideoReformatter) -> VideoFrame:
    """Return a planar frame as NV12 or P010, see SEMI_PLANAR, with all its properties.

    The width must be even, because the scaler loses the last chroma column of an odd one in P010.
    """
    assert frame.width % 2 == 0, f"frames for hardware encoders have even sizes, this one {frame.width}x{frame.height}"
    return _move_samples(frame, reformatter, SEMI_PLANAR[frame.format.name])


def has_same_samples(frame: VideoFrame, other: VideoFrame) -> bool:
    """Return whether two planar frames have the same format, size and samples."""
    if (frame.format.name, frame.width, frame.height) != (other.format.name, other.width, other.height):
        return False
    return all(map(np.array_equal, _plane_samples(frame), _plane_samples(other)))


def _move_samples(frame: VideoFrame, reformatter: VideoReformatter, pixel_format: str) -> VideoFrame:
    is_full = frame.color_range == FULL_RANGE or "yuvj420p" in (frame.format.name, pixel_format)
    color_range = FULL_RANGE if is_full else LIMITED_RANGE
    moved = reformatter.reformat(
        frame,
        format=pixel_format,
        src_color_range=color_range,
        dst_color_range=color_range,
        threads=REFORMAT_THREADS,
    )
    # The scaler replaces unspecified tags, and those that mean the same as another.
    moved.colorspace, moved.color_range = frame.colorspace, frame.color_range
    moved.color_primaries, moved.color_trc = frame.color_primaries, frame.color_trc
    return moved


def _plane_samples(frame: VideoFrame) -> list[NDArray[np.generic]]:
    """Return each plane as a view (height, width), without padding."""
    dtype = np.dtype("<u2" if frame.format.name == "yuv420p10le" else np.uint8)
    return [
        np.frombuffer(memoryview(plane), dtype).reshape(plane.height, -1)[:, : plane.width] for plane in frame.planes
    ]
