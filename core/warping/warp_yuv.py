"""YUV warping plane by plane in the frames' own pixel format.

Nothing is converted to RGB and back, which would cost more time than the interpolation, and some color accuracy.
Supported is YUV of 8 to 16 bits without alpha, with full or half chroma resolution, with all borders but FILL.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from ..bars import NO_BARS, Bars
from ..crop.border import Border, check_frame_count, with_border_zoom
from ..path.trajectory import Correction
from ..video.format.chroma_location import CHROMA_POSITIONS, chroma_subsampling
from ..video.format.stream_format import NativeFrames, Orientation, StreamFormat, bit_depth, is_rgb
from .sampling_map import sampling_maps

Plane = NDArray[np.generic]
Coords = NDArray[np.float32]


def can_warp_yuv(stream_format: StreamFormat, width: int, height: int, border: Border) -> bool:
    """Return whether `warp_yuv` supports a stream format.

    width, height: displayed size.
    """
    video_format = av.VideoFormat(stream_format.pixel_format, 8, 8)
    subsample_x, subsample_y = chroma_subsampling(stream_format.pixel_format)
    return (
        border is not Border.FILL
        and not is_rgb(stream_format.pixel_format)
        and not video_format.is_big_endian
        and [component.plane for component in video_format.components] == [0, 1, 2]
        and all(8 <= component.bits <= 16 for component in video_format.components)
        and max(subsample_x, subsample_y) <= 2
        and width % subsample_x == height % subsample_y == 0
        and (subsample_x == subsample_y or not stream_format.orientation.transpose)
    )


def can_keep_bars(stream_format: StreamFormat, bars: Bars) -> bool:
    """Return whether `warp_yuv` keeps such bars.

    It does if frames are stored upright, and no pixel of chroma belongs to both a bar and the image.
    """
    subsample_x, subsample_y = chroma_subsampling(stream_format.pixel_format)
    is_even = (bars.left | bars.right) % subsample_x == (bars.top | bars.bottom) % subsample_y == 0
    return is_even and stream_format.orientation == Orientation()


def warp_yuv(
    cv2: ModuleType, frames: Iterator[NativeFrames], correction: Correction, border: Border, stream_format: StreamFormat
) -> Iterator[NativeFrames]:
    """Warp frames that `can_warp_yuv` supports, see `warp`.

    Yields upright frames of the same pixel format.

    Raises ClipError if the number of frames is not that of the correction.
    """
    border = Border(border)
    correction = with_border_zoom(correction, border)
    maps, done, count = _coords_and_bars(correction), 0, len(correction.matrices)
    for batch in frames:
        warped: list[VideoFrame] = []
        for frame, (coords, bars) in zip(batch, maps, strict=False):
            x, y = _to_stored_orientation(*coords, stream_format.orientation)
            warped.append(_remap_planes(cv2, frame, x, y, border, stream_format, bars))
        done += len(batch)
        check_frame_count(done, count)
        yield warped
    check_frame_count(done, count, ended=True)


def _coords_and_bars(correction: Correction) -> Iterator[tuple[tuple[Coords, Coords], Bars]]:
    """Yield source coordinates inside the bars, and the bars, of each frame.

    The coordinates are valid until the next ones are computed.
    """
    for part in correction.split_by_bars():
        buffers = np.empty((3, part.info.height, part.info.width), np.float32)
        for sampling in sampling_maps(part):
            yield sampling.source_coords(buffers), part.bars or NO_BARS


def _to_stored_orientation(x: Coords, y: Coords, orientation: Orientation) -> tuple[Coords, Coords]:
    """Convert coordinates in the upright frame to the stored one.

    The inverse of `Orientation.upright`.
    """
    height, width = x.shape
    if orientation.mirror_columns:
        x = np.subtract(width - 1, x, out=x)
    if orientation.mirror_rows:
        y = np.subtract(height - 1, y, out=y)
    return (y, x) if orientation.transpose else (x, y)


def _remap_planes(
    cv2: ModuleType, frame: VideoFrame, x: Coords, y: Coords, border: Border, stream_format: StreamFormat, bars: Bars
) -> VideoFrame:
    has_bars = bars != NO_BARS
    height, width = x.shape
    warped = VideoFrame(width + bars.left + bars.right, height + bars.top + bars.bottom, frame.format.name)
    bits = bit_depth(frame.format.name)
    black = 0 if stream_format.full_range else 16 << (bits - 8)
    mode = getattr(cv2, border.opencv_mode)
    for index, (source, target) in enumerate(zip(_plane_views(frame), _plane_views(warped), strict=True)):
        if index == 1:
            position = CHROMA_POSITIONS[stream_format.chroma_location]
            x, y = _chroma_coords(x, y, *chroma_subsampling(frame.format.name), *position)
        if has_bars:
            subsampling = (1, 1) if index == 0 else chroma_subsampling(frame.format.name)
            target[:] = source
            area = bars.scaled(1 / subsampling[0], 1 / subsampling[1]).area(*source.shape)
            source, target = np.ascontiguousarray(source[area]), target[area]
        value = black if index == 0 else 1 << (bits - 1)
        cv2.remap(source, x, y, cv2.INTER_CUBIC, dst=target, borderMode=mode, borderValue=value)
        if target.dtype == np.uint16 and bits < 16:  # bicubic interpolation overshoots at steep edges
            np.minimum(target, (1 << bits) - 1, out=target)
    return warped


def _chroma_coords(
    x: Coords, y: Coords, subsample_x: int, subsample_y: int, position_x: float, position_y: float
) -> tuple[Coords, Coords]:
    """Convert luma coordinates to chroma coordinates, each in its own pixels.

    position_x, position_y: the first chroma sample, in luma samples; it is the same before and after the warp.
    """
    half = np.float32(0.5)
    if subsample_x == 2:
        x, y = (_at_chroma(values, position_x, axis=1) for values in (x, y))
        x = (x - np.float32(position_x)) * half
    if subsample_y == 2:
        x, y = (_at_chroma(values, position_y, axis=0) for values in (x, y))
        y = (y - np.float32(position_y)) * half
    return np.ascontiguousarray(x), np.ascontiguousarray(y)


def _at_chroma(values: Coords, position: float, axis: int) -> Coords:
    """Return a map (h, w) at the chroma samples along an axis, interpolated linearly."""
    even, odd = (values[:, ::2], values[:, 1::2]) if axis == 1 else (values[::2], values[1::2])
    if position == 0:
        return even
    return odd if position == 1 else (even + odd) * np.float32(0.5)


def _plane_views(frame: VideoFrame) -> list[Plane]:
    """Views (h, w) of the planes of a frame."""
    dtype = np.dtype("<u2" if bit_depth(frame.format.name) > 8 else np.uint8)
    views = [np.frombuffer(memoryview(plane), dtype).reshape(plane.height, -1) for plane in frame.planes]
    return [view[:, : plane.width] for view, plane in zip(views, frame.planes, strict=True)]
