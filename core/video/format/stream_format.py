"""Format of a video stream: orientation, pixel format, color matrix and range."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol, TypeAlias

import av
import numpy as np
from av.sidedata.sidedata import SideData
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from .chroma_location import CENTER, chroma_location_of, chroma_subsampling

# FFmpeg's constants for colors (AVCOL_*). BT.601 has two, which share one matrix.
RGB, BT709, UNSPECIFIED, BT601, SMPTE170M, BT2020 = 0, 1, 2, 5, 6, 9
LIMITED_RANGE, FULL_RANGE = 1, 2
SRGB, PQ, HLG = 13, 16, 18

NativeFrames: TypeAlias = list[VideoFrame]
"""Consecutive frames as decoded: in the pixel format and orientation of the file."""


class NativeClip(Protocol):
    """A clip of a video file whose frames can be read as stored."""

    @property
    def stream_format(self) -> StreamFormat: ...

    def native_frames(self) -> Iterator[NativeFrames]: ...


def has_alpha(pixel_format: str) -> bool:
    return any(component.is_alpha for component in av.VideoFormat(pixel_format).components)


def is_rgb(pixel_format: str) -> bool:
    return av.VideoFormat(pixel_format).is_rgb


def bit_depth(pixel_format: str) -> int:
    """Return the bits of the deepest component."""
    return max(component.bits for component in av.VideoFormat(pixel_format).components)


def resolve_matrix(colorspace: int, height: int) -> int:
    """Return the color matrix (YUV to RGB) of a stream.

    It is the tagged one or, without a tag, the one that players assume for the height.
    """
    if colorspace in (UNSPECIFIED, RGB):
        return SMPTE170M if height <= 576 else BT709
    return colorspace


# Their color profiles have a name, which PyAV 18 frees twice when side data is read: the process crashes.
_UNSAFE_SIDE_DATA_CODECS = ("png", "apng")


@dataclass(frozen=True)
class Orientation:
    """The conversion of a stored frame to the displayed one.

    Transpose, then mirror columns and rows.
    """

    transpose: bool = False
    mirror_columns: bool = False
    mirror_rows: bool = False

    @classmethod
    def of(cls, frame: VideoFrame, codec: str) -> Orientation:
        """Read the orientation from the display matrix of a frame.

        Stored (x, y) is displayed at (a x + c y, b x + d y).

        codec: name of the decoder of the frame.
        """
        try:
            side_data = None if codec in _UNSAFE_SIDE_DATA_CODECS else list(frame.side_data)
        except ValueError:  # PyAV 18 fails on types of side data that it does not know, such as EXIF
            side_data = None
        if side_data is None:
            quarter_turns = round(frame.rotation / 90) % 4  # counter-clockwise; this field has no mirroring
            return cls(quarter_turns % 2 == 1, quarter_turns in (2, 3), quarter_turns in (1, 2))
        for data in side_data:
            if isinstance(data, SideData) and data.type == SideDataType.DISPLAYMATRIX:
                a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
                if math.hypot(b, c) > math.hypot(a, d):
                    return cls(True, c < 0, b < 0)
                return cls(False, a < 0, d < 0)
        return cls()

    def apply(self, image: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return (H, W) or (H, W, C) in display orientation, as a view."""
        if self.transpose:
            image = image.swapaxes(0, 1)
        if self.mirror_columns:
            image = image[:, ::-1]
        return image[::-1] if self.mirror_rows else image


@dataclass(frozen=True)
class StreamFormat:
    """The storage format of a video stream, for writing a similar one.

    Colors are FFmpeg's constants.
    """

    codec: str
    pixel_format: str
    orientation: Orientation
    pixel_aspect: Fraction  # width of a pixel / its height, as displayed
    matrix: int
    full_range: bool
    primaries: int
    transfer: int
    tagged: bool = True  # whether the file has a tag for the matrix; else it is the one that players assume
    chroma_location: int = CENTER  # of 4:2:0 and 4:2:2

    @classmethod
    def of(cls, stream: VideoStream, first: VideoFrame) -> StreamFormat:
        orientation = Orientation.of(first, stream.codec_context.codec.name)
        aspect = stream.sample_aspect_ratio or Fraction(1)
        return cls(
            codec=stream.codec_context.codec.name,
            pixel_format=first.format.name,
            orientation=orientation,
            pixel_aspect=1 / aspect if orientation.transpose else aspect,
            matrix=resolve_matrix(first.colorspace, first.height),
            full_range=not first.format.is_rgb and first.color_range == FULL_RANGE,
            primaries=first.color_primaries,
            transfer=first.color_trc,
            tagged=first.colorspace not in (UNSPECIFIED, RGB),
            chroma_location=CENTER if chroma_subsampling(first.format.name) == (1, 1) else chroma_location_of(first),
        )
