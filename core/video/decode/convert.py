"""Convert decoded YUV frames to RGB arrays and tensors, and back.

Tensors are (C, H, W) in [0, 1]. swscale applies the color matrix and range of the frames' tags.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from ...clip import ClipError, Frames, first_non_finite
from ..format.scaler import REFORMAT_THREADS, SWS_FLAGS
from ..format.stream_format import FULL_RANGE, bit_depth, resolve_matrix

if TYPE_CHECKING:
    from torch import Tensor

STRIP_PIXELS = 1 << 17  # pixels that are quantized at once
# Pixel formats of PNG, by (channels, whether they have 16 bits).
PACKED_FORMATS = {(3, False): "rgb24", (4, False): "rgba", (3, True): "rgb48be", (4, True): "rgba64be"}


def to_rgb(frame: VideoFrame, reformatter: VideoReformatter, *, alpha: bool) -> NDArray[np.generic]:
    """Convert a decoded frame to (H, W, 3 or 4), in the stored orientation.

    The dtype is uint8 or, for a source of more than 8 bits, uint16.
    """
    high_bit_depth = bit_depth(frame.format.name) > 8
    pixel_format = ("rgba64le" if alpha else "rgb48le") if high_bit_depth else ("rgba" if alpha else "rgb24")
    return _to_full_range(frame, reformatter, pixel_format).to_ndarray()


def to_planes(frame: VideoFrame, reformatter: VideoReformatter, *, alpha: bool) -> list[NDArray[np.generic]]:
    """Convert as `to_rgb`, into one (H, W) plane per channel.

    This takes half the time.
    """
    rgb = _to_full_range(frame, reformatter, _planar_format(bit_depth(frame.format.name) > 8, alpha))
    return [_plane_view(rgb, channel) for channel in range(4 if alpha else 3)]


LevelPlane: TypeAlias = tuple[NDArray[Any], np.float32]
"""One channel (H, W), uint8, uint16 or float32, and its value of 1.0."""


def to_level_planes(
    frame: VideoFrame, reformatter: VideoReformatter, *, alpha: bool, chroma_location: int | None = None
) -> list[LevelPlane]:
    """Convert a decoded frame to one plane per channel, in the stored orientation.

    Divided by its level, a plane is in [0, 1]: white, of any range and depth, is exactly 1.0, and so is opaque alpha.
    chroma_location: that of the stream if known, see `layout_of`.
    """
    if bit_depth(frame.format.name) <= 8:
        return [(plane, np.float32(255)) for plane in to_planes(frame, reformatter, alpha=alpha)]
    # swscale is faster, but it is off by up to a code of 10 bits, and its white is not 1.0.
    # These import torch, which frames of 8 bits do not need.
    from ..planes.frame_planes import frame_planes
    from ..planes.layout import layout_of
    from ..planes.rgb_conversion import planes_to_rgb

    layout = layout_of(frame, chroma_location)
    if layout is not None and layout.has_alpha == alpha:
        return [(plane, np.float32(1)) for plane in planes_to_rgb(frame_planes(frame), layout)[0].numpy()]
    white, opaque = _levels_of_swscale(frame)
    planes, levels = to_planes(frame, reformatter, alpha=alpha), [np.uint16(white)] * 3 + [np.uint16(opaque)]
    return [(np.minimum(p, level), np.float32(level)) for p, level in zip(planes, levels, strict=False)]


def _levels_of_swscale(frame: VideoFrame) -> tuple[int, int]:
    """Return white and opaque alpha of a frame that swscale converts to 16 bits."""
    shift = 16 - bit_depth(frame.format.name)
    largest = 65535 >> shift << shift
    is_full = frame.format.is_rgb or frame.color_range == FULL_RANGE or len(frame.format.components) < 3
    return largest if is_full else 65280, largest


def to_gray(frame: VideoFrame, reformatter: VideoReformatter, width: int, height: int) -> NDArray[np.uint8]:
    """Convert to (height, width, 1) uint8 luma, by area averaging.

    The orientation is the stored one.
    """
    gray = reformatter.reformat(frame, width, height, format="gray", interpolation="AREA", threads=REFORMAT_THREADS)
    return gray.to_ndarray().astype(np.uint8, copy=False)[..., None]


def to_planar_frame(
    frame: Tensor, *, high_bit_depth: bool, width: int, height: int, target: VideoFrame | None = None
) -> VideoFrame:
    """Convert (3 or 4, H, W) in [0, 1] to a full-range planar RGB(A) frame.

    It has 16 bits per channel if `high_bit_depth`, else 8. Where width x height is larger than the input, the last
    column and row are repeated. target: a frame of that size and format, which is overwritten and returned.
    """
    channels, input_height, input_width = frame.shape
    planar = target or VideoFrame(width, height, _planar_format(high_bit_depth, channels == 4))
    planes = [_plane_view(planar, channel) for channel in range(channels)]
    _quantize_into([plane[:input_height, :input_width] for plane in planes], frame, high_bit_depth)
    for plane in planes:
        plane[:input_height, input_width:] = plane[:input_height, input_width - 1 : input_width]
        plane[input_height:] = plane[input_height - 1]
    return planar


def to_packed_frame(frame: Tensor, *, high_bit_depth: bool) -> VideoFrame:
    """Convert (3 or 4, H, W) in [0, 1] to interleaved RGB(A), as PNG stores it.

    Samples of 16 bits are big-endian.
    """
    channels, height, width = frame.shape
    packed = VideoFrame(width, height, PACKED_FORMATS[channels, high_bit_depth])
    dtype = np.dtype(">u2" if high_bit_depth else np.uint8)
    rows = np.frombuffer(memoryview(packed.planes[0]), dtype).reshape(height, -1)[:, : width * channels]
    _quantize_into([rows[:, channel::channels] for channel in range(channels)], frame, high_bit_depth)
    return packed


def _quantize_into(planes: list[NDArray[np.generic]], frame: Tensor, high_bit_depth: bool) -> None:
    """Quantize (C, H, W) in [0, 1] into one plane (H, W) per channel.

    A few rows at a time, so that intermediate values stay in the CPU caches and take little memory.
    """
    _, height, width = frame.shape
    max_level = 65535 if high_bit_depth else 255
    # numpy, because torch would use its thread pool for each of these small pieces, which costs more than the work.
    values = frame.detach().cpu().float().numpy()
    strip = np.empty((min(height, max(1, STRIP_PIXELS // width)), width), np.float32)
    for plane, channel in zip(planes, values, strict=True):
        for start in range(0, height, len(strip)):
            rows = channel[start : start + len(strip)]
            levels = np.multiply(rows, np.float32(max_level), out=strip[: len(rows)])
            plane[start : start + len(rows)] = np.clip(np.rint(levels, out=levels), 0, max_level, out=levels)


def check_uniform(frames: Frames, shape: tuple[int, ...], first_number: int, path: object) -> None:
    """Raise ClipError unless all frames have the shape (C, H, W) and finite values.

    first_number: index of frames[0] in the clip, for the message.
    """
    if tuple(frames.shape[1:]) != shape:
        raise ClipError(
            f"{path}: frame {first_number} has (channels, height, width) {tuple(frames.shape[1:])}, "
            f"the frames before have {shape}; all frames must have one shape"
        )
    # On another device that would wait for it: there the encoder looks at a sum of the values later.
    if frames.device.type == "cpu" and (bad := first_non_finite(frames)) is not None:
        raise ClipError(
            f"{path}: frame {first_number + bad} has non-finite values (NaN or infinity); compute it in float32"
        )


def _to_full_range(frame: VideoFrame, reformatter: VideoReformatter, pixel_format: str) -> VideoFrame:
    if not frame.format.is_rgb:
        frame.colorspace = resolve_matrix(frame.colorspace, frame.height)
    return reformatter.reformat(
        frame, format=pixel_format, dst_color_range=FULL_RANGE, interpolation=SWS_FLAGS, threads=REFORMAT_THREADS
    )


def _planar_format(high_bit_depth: bool, alpha: bool) -> str:
    return f"gbr{'a' if alpha else ''}p{'16le' if high_bit_depth else ''}"


def _plane_view(frame: VideoFrame, channel: int) -> NDArray[np.generic]:
    """Return plane R, G, B or A of a planar frame as an (H, W) view of its memory."""
    plane = frame.planes[(2, 0, 1, 3)[channel]]
    dtype = np.dtype("<u2" if bit_depth(frame.format.name) > 8 else np.uint8)
    return np.frombuffer(memoryview(plane), dtype).reshape(plane.height, -1)[:, : plane.width]
