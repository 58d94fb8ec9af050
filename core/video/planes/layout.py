"""Describe the planes of a pixel format: channels, bits, subsampling, matrix."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property

from av.video.frame import VideoFrame

from ..format.chroma_location import CENTER, CHROMA_POSITIONS, chroma_location_of
from ..format.stream_format import BT601, BT709, BT2020, FULL_RANGE, SMPTE170M, is_rgb, resolve_matrix

# (Kr, Kb) by matrix tag (AVCOL_SPC_*). FCC is 4, SMPTE 240M 7.
LUMA_COEFFICIENTS = {
    BT709: (0.2126, 0.0722),
    4: (0.30, 0.11),
    BT601: (0.299, 0.114),
    SMPTE170M: (0.299, 0.114),
    7: (0.212, 0.087),
    BT2020: (0.2627, 0.0593),
}

_PLANAR_YUV = re.compile(r"yuv(j|a)?(420|422|444)p(?:(9|10|12|14|16)le)?")
_PLANAR_RGB = re.compile(r"gbr(a)?p(?:(9|10|12|14|16)le)?")
_GRAY = re.compile(r"gray(?:(9|10|12|14|16)le)?")
_SEMIPLANAR = {"nv12": (8, 0), "p010le": (10, 6)}  # (bits, shift)
_PACKED_RGB = {"rgb24": "RGB", "bgr24": "BGR", "rgba": "RGBA", "bgra": "BGRA"}
_SUBSAMPLING = {"420": (2, 2), "422": (2, 1), "444": (1, 1)}


@dataclass(frozen=True)
class PlaneLayout:
    """The storage of RGB or YUV frames in planes.

    channels: for each plane the channels that it holds, interleaved if there are several.
    bits: bits of a sample; more than 8 are stored in 16 bits, little endian, multiplied by 2^shift.
    subsampling: (horizontal, vertical), 2 where chroma planes have half the size.
    matrix: tag of the YUV matrix. full_range: whether YUV codes span all values. chroma_location: FFmpeg's constant.
    """

    pixel_format: str
    channels: tuple[str, ...]
    bits: int = 8
    shift: int = 0
    subsampling: tuple[int, int] = (1, 1)
    matrix: int = BT709
    full_range: bool = True
    chroma_location: int = CENTER

    @property
    def has_alpha(self) -> bool:
        return any("A" in names for names in self.channels)

    @property
    def has_chroma(self) -> bool:
        return any("U" in names for names in self.channels)

    @property
    def is_rgb(self) -> bool:
        return any("G" in names for names in self.channels)

    @property
    def rgb_channels(self) -> int:
        return 4 if self.has_alpha else 3

    @property
    def codes_per_step(self) -> int:
        """How many codes correspond to one step of 8 bits."""
        return 1 << (self.bits - 8)

    @property
    def levels_per_step(self) -> int:
        """The stored value of `codes_per_step`."""
        return self.codes_per_step << self.shift

    @property
    def max_step(self) -> float:
        """The largest code, in steps of 8 bits: 255, or 255.75 for 10 bits."""
        return ((1 << self.bits) - 1) / self.codes_per_step

    @property
    def white(self) -> float:
        """The value of RGB 1.0 in steps of 8 bits, after luma is expanded to full range.

        ITU-R BT.709 and BT.2100: codes of limited range are those of 8 bits times a power of 2, so white is 235 and is
        expanded to 255. Full range ends at the largest code.
        """
        return self.max_step if self.full_range else 255.0

    @cached_property
    def chroma_position(self) -> tuple[float, float]:
        """Position (x, y) of the first chroma sample, in luma samples.

        It is 0 along an axis that is not subsampled.
        """
        x, y = CHROMA_POSITIONS[self.chroma_location]
        return x if self.subsampling[0] == 2 else 0.0, y if self.subsampling[1] == 2 else 0.0

    def plane_shapes(self, width: int, height: int) -> list[tuple[int, ...]]:
        """Return the shape of each plane, (h, w) or, interleaved, (h, w, C)."""
        shapes: list[tuple[int, ...]] = []
        for names in self.channels:
            step_x, step_y = self.subsampling if names[0] in "UV" else (1, 1)
            shape = (-(-height // step_y), -(-width // step_x))
            shapes.append(shape if len(names) == 1 else (*shape, len(names)))
        return shapes


def layout_for(
    pixel_format: str, matrix: int = BT709, full_range: bool = False, chroma_location: int = CENTER
) -> PlaneLayout | None:
    """Return the layout of a pixel format, or None if it is not supported.

    matrix, chroma_location: FFmpeg's constants. The range is that of YUV; gray and RGB always have the full one.
    """
    if name := _PLANAR_YUV.fullmatch(pixel_format):
        channels = ("Y", "U", "V", "A") if name[1] == "a" else ("Y", "U", "V")
        bits, shift, subsampling = int(name[3] or 8), 0, _SUBSAMPLING[name[2]]
        full_range = full_range or name[1] == "j"
    elif pixel_format in _SEMIPLANAR:
        channels, subsampling = ("Y", "UV"), (2, 2)
        bits, shift = _SEMIPLANAR[pixel_format]
    elif name := _PLANAR_RGB.fullmatch(pixel_format):
        return PlaneLayout(pixel_format, ("G", "B", "R", "A") if name[1] else ("G", "B", "R"), int(name[2] or 8))
    elif name := _GRAY.fullmatch(pixel_format):
        return PlaneLayout(pixel_format, ("Y",), int(name[1] or 8), matrix=SMPTE170M)  # as swscale always has it
    elif pixel_format in _PACKED_RGB:
        return PlaneLayout(pixel_format, (_PACKED_RGB[pixel_format],))
    else:
        return None
    if matrix not in LUMA_COEFFICIENTS or chroma_location not in CHROMA_POSITIONS:
        return None
    return PlaneLayout(pixel_format, channels, bits, shift, subsampling, matrix, full_range, chroma_location)


def layout_of(frame: VideoFrame, chroma_location: int | None = None) -> PlaneLayout | None:
    """Return the layout of a decoded frame, or None if it is not supported.

    Then `convert.to_planes` converts it. Besides pixel formats, that concerns interlaced 4:2:0, whose fields have
    separate chroma.
    chroma_location: that of the stream if known, because `chroma_location_of` takes half a millisecond.
    """
    pixel_format = frame.format.name
    layout = layout_for(
        pixel_format,
        BT709 if is_rgb(pixel_format) else resolve_matrix(frame.colorspace, frame.height),
        frame.color_range == FULL_RANGE,
        CENTER if chroma_location is None else chroma_location,
    )
    if layout is None or any(plane.line_size < 0 for plane in frame.planes):  # stored from bottom to top
        return None
    if layout.subsampling[1] == 2 and frame.interlaced_frame:
        return None
    if chroma_location is None and layout.subsampling != (1, 1):
        return replace(layout, chroma_location=chroma_location_of(frame))
    return layout
