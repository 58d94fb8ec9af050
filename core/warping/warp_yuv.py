"""Pass 2 on pictures as their file stores them: each plane is looked up by itself, with no way to RGB and back.

That way costs more than the look-up, and a little of the colours. It is spared where nothing has to be made up from
other frames and the planes are simple: YUV of 8 to 16 bits without alpha, chroma as large as luma or halved.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from ..path.border import Border, check_frame_count, opencv_border, with_border_zoom
from ..path.trajectory import Correction
from ..video.decode.stream_format import NativeFrames, Orientation, StreamFormat, bit_depth, is_rgb
from .sampling_map import sampling_maps

Plane = NDArray[np.generic]
Coords = NDArray[np.float32]


def can_warp_yuv(stream_format: StreamFormat, width: int, height: int, border: Border) -> bool:
    """Whether `warp_planes` serves for pictures stored like that, width x height as they are shown."""
    kind = av.VideoFormat(stream_format.pixel_format, 8, 8)
    across, down = _chroma_subsampling(stream_format.pixel_format)
    return (
        border is not Border.FILL
        and not is_rgb(stream_format.pixel_format)
        and not kind.is_big_endian
        and [part.plane for part in kind.components] == [0, 1, 2]
        and all(8 <= part.bits <= 16 for part in kind.components)
        and max(across, down) <= 2
        and width % across == height % down == 0
        and (across == down or not stream_format.orientation.transpose)
    )


def warp_yuv(
    cv2: ModuleType, frames: Iterator[NativeFrames], correction: Correction, border: Border, stream_format: StreamFormat
) -> Iterator[NativeFrames]:
    """What `warp` does, for pictures that `can_warp` is true of: upright ones come out, of the same pixel format.

    Raises ClipError when the number of pictures is not what the correction was made for.
    """
    border = Border(border)
    correction = with_border_zoom(correction, border)
    info, count = correction.info, len(correction.matrices)
    buffers = np.empty((3, info.height, info.width), np.float32)
    path, done = sampling_maps(correction), 0
    for batch in frames:
        moved = []
        for picture, way in zip(batch, path, strict=False):
            x, y = _to_stored_orientation(*way.source_coords(buffers), stream_format.orientation)
            moved.append(_remap_planes(cv2, picture, x, y, border, stream_format))
        done += len(batch)
        check_frame_count(done, count)
        yield moved
    check_frame_count(done, count, ended=True)


def _chroma_subsampling(pixel_format: str) -> tuple[int, int]:
    """How many columns and rows of luma share one of chroma."""
    chroma = av.VideoFormat(pixel_format, 8, 8)
    return 8 // max(1, chroma.chroma_width(8)), 8 // max(1, chroma.chroma_height(8))


def _to_stored_orientation(x: Coords, y: Coords, orientation: Orientation) -> tuple[Coords, Coords]:
    """Places in the upright picture -> in the stored one, by what `Orientation.upright` does, undone."""
    height, width = x.shape
    if orientation.mirror_columns:
        x = np.subtract(width - 1, x, out=x)
    if orientation.mirror_rows:
        y = np.subtract(height - 1, y, out=y)
    return (y, x) if orientation.transpose else (x, y)


def _remap_planes(
    cv2: ModuleType, frame: VideoFrame, x: Coords, y: Coords, border: Border, stream_format: StreamFormat
) -> VideoFrame:
    height, width = x.shape
    made = VideoFrame(width, height, frame.format.name)
    across, down = _chroma_subsampling(frame.format.name)
    bits = bit_depth(frame.format.name)
    black = 0 if stream_format.full_range else 16 << (bits - 8)
    for index, (source, target) in enumerate(zip(_plane_views(frame), _plane_views(made), strict=True)):
        if index == 1:
            x, y = _chroma_coords(x, y, across, down)
        colour = black if index == 0 else 1 << (bits - 1)
        mode = opencv_border(cv2, border)
        cv2.remap(source, x, y, cv2.INTER_CUBIC, dst=target, borderMode=mode, borderValue=colour)
        if target.dtype == np.uint16 and bits < 16:  # between steep edges a bicubic look-up goes beyond both
            np.minimum(target, (1 << bits) - 1, out=target)
    return made


def _chroma_coords(x: Coords, y: Coords, subsample_x: int, subsample_y: int) -> tuple[Coords, Coords]:
    """Places of luma -> of chroma, both in their own pixels. As encoders assume of files that do not say it, halved
    columns stand with the first of two of luma, halved rows between two.
    """
    half, quarter = np.float32(0.5), np.float32(0.25)
    if subsample_x == 2:
        x, y = x[:, ::2] * half, y[:, ::2]
    if subsample_y == 2:
        x, y = (x[::2] + x[1::2]) * half, (y[::2] + y[1::2]) * quarter - quarter
    return np.ascontiguousarray(x), np.ascontiguousarray(y)


def _plane_views(frame: VideoFrame) -> list[Plane]:
    """(h, w) of each component, whose memory they share."""
    kind = np.dtype("<u2" if bit_depth(frame.format.name) > 8 else np.uint8)
    views = [np.frombuffer(memoryview(plane), kind).reshape(plane.height, -1) for plane in frame.planes]
    return [view[:, : plane.width] for view, plane in zip(views, frame.planes, strict=True)]
