"""Choose size, pixel format and color tags of an output file."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av

from ...clip import ClipError, Frames
from ..decode.corruption import decode_checked
from ..decode.corruption_report import CorruptionReport, OnDamage
from ..decode.packets import demux
from ..format.chroma_location import LEFT, chroma_subsampling
from ..format.stream_format import (
    BT601,
    BT709,
    BT2020,
    HLG,
    PQ,
    SMPTE170M,
    SRGB,
    UNSPECIFIED,
    NativeFrames,
    StreamFormat,
    bit_depth,
    has_alpha,
    is_rgb,
    resolve_matrix,
)
from ..planes.layout import PlaneLayout, layout_for
from .codecs import Codec, Encoding
from .pixel_formats import choose_pixel_format, stored_chroma_location

log = logging.getLogger(__name__)

MIN_OPAQUE_ALPHA = 1 - 0.5 / 65535  # rounds to opaque in every format
# By matrix tag (AVCOL_SPC_*), the constant of the scaler (SWS_CS_*). FCC is 4, SMPTE 240M 7.
SWS_MATRIX = {BT709: 1, 4: 4, BT601: 5, SMPTE170M: 5, 7: 7, BT2020: 9}


@dataclass(frozen=True)
class OutputFormat:
    """Size, pixel format and color tags of all frames of a file.

    Colors are FFmpeg's constants.
    """

    width: int  # of the input frames; the file may be larger by one
    height: int
    channels: int
    keeps_alpha: bool
    pixel_format: str
    pixel_aspect: Fraction
    matrix: int
    matrix_tag: int  # `matrix`, or UNSPECIFIED where the source has no tag
    full_range: bool
    primaries: int
    transfer: int
    chroma_location: int = LEFT  # the wanted one; the file's after `with_stored_chroma_location`

    @classmethod
    def of(
        cls,
        first: Frames | NativeFrames,
        codec: Codec,
        encoding: Encoding,
        source_format: StreamFormat | None,
        path: Path,
        bits: int | None = None,
        *,
        is_srgb: bool = False,
    ) -> OutputFormat:
        """Choose the format for the first frames, the settings and the source.

        bits: see `choose_pixel_format`. is_srgb: see `SourceDescription`. Raises ClipError.
        """
        channels, height, width = frame_shape(first)
        pixel_format = choose_pixel_format(
            path,
            codec,
            requested=encoding.pixel_format,
            source_format=source_format,
            bits=bits,
            is_transparent=not isinstance(first, list) and has_transparency(first),
        )
        default = resolve_matrix(UNSPECIFIED, height)
        # The matrix follows the height, but the colors of images do not: sRGB has the primaries of BT.709.
        primaries, transfer = (BT709, SRGB) if is_srgb else (default, default)
        matrix = source_format.matrix if source_format and source_format.matrix in SWS_MATRIX else default
        # Programs differ in what they assume of an untagged file. If the source is untagged, so is the result, or its
        # colors would change in some of them. A tag is needed only where the new size would change the assumption.
        leave_untagged = (
            source_format is not None
            and not source_format.tagged
            and not is_rgb(source_format.pixel_format)
            and matrix == default
        )
        output_format = cls(
            width=width,
            height=height,
            channels=channels,
            keeps_alpha=has_alpha(pixel_format),
            pixel_format=pixel_format,
            pixel_aspect=source_format.pixel_aspect if source_format else Fraction(1),
            matrix=matrix,
            matrix_tag=UNSPECIFIED if leave_untagged else matrix,
            full_range=is_rgb(pixel_format) or _keeps_full_range(path, codec, source_format),
            primaries=source_format.primaries if source_format else primaries,
            transfer=source_format.transfer if source_format else transfer,
            chroma_location=(
                source_format.chroma_location
                if source_format and chroma_subsampling(source_format.pixel_format) != (1, 1)
                else LEFT
            ),
        )
        if output_format.transfer in (PQ, HLG) and bit_depth(pixel_format) <= 8:
            raise ClipError(
                f"{path}: the source is HDR, in which the 8 bits of {pixel_format} would cause banding; "
                "choose hevc or av1 with the pixel format yuv420p10le"
            )
        return output_format

    def with_stored_chroma_location(self, codec: str, muxer: str, *, is_hardware: bool) -> OutputFormat:
        """Return the format with the chroma location that the file can have."""
        location = stored_chroma_location(
            codec, muxer, self.pixel_format, self.chroma_location, is_hardware=is_hardware
        )
        return replace(self, chroma_location=location)

    @property
    def layout(self) -> PlaneLayout | None:
        """The planes of the file's pixel format, None where only swscale converts to it."""
        return layout_for(self.pixel_format, self.matrix, self.full_range, self.chroma_location)

    @property
    def padded_size(self) -> tuple[int, int]:
        """(width, height) of the file."""
        return padded_size(self.width, self.height, self.pixel_format)


def _keeps_full_range(path: Path, codec: Codec, source_format: StreamFormat | None) -> bool:
    """Whether YUV has the full range, as the source; a conversion is logged."""
    if source_format is None or not source_format.full_range:
        return False
    if not codec.has_full_range:
        log.warning("%s: %s has limited range only; the full range of the source is converted", path, codec.encoder)
    return codec.has_full_range


def padded_size(width: int, height: int, pixel_format: str) -> tuple[int, int]:
    """Return (width, height), padded as chroma subsampling needs."""
    video_format = av.VideoFormat(pixel_format)
    return (
        width + (width % 2 if video_format.chroma_width(2) == 1 else 0),
        height + (height % 2 if video_format.chroma_height(2) == 1 else 0),
    )


def has_transparency(frames: Frames) -> bool:
    """Whether any pixel of (B, 3 or 4, H, W) is not opaque.

    Warping and resizing may leave opaque alpha below 1 by a few rounding errors.
    """
    return frames.shape[1] == 4 and bool((frames[:, 3] < MIN_OPAQUE_ALPHA).any())


def frame_shape(frames: Frames | NativeFrames) -> tuple[int, int, int]:
    """Return (channels, height, width) of each frame."""
    if isinstance(frames, list):
        return 3, frames[0].height, frames[0].width
    channels, height, width = frames.shape[1:]
    return channels, height, width


def probe_format(source: Path) -> StreamFormat:
    """Return the format of the source, without a size limit. Raises ClipError."""
    with demux.open_media(source) as container:
        stream = demux.video_stream(container, source, demux.NO_PIXEL_LIMIT)
        first = next(decode_checked(source, container, stream, OnDamage.KEEP, CorruptionReport()), None)
        if first is None:
            raise ClipError(f"{source}: its video stream has no frames; choose another source")
        return StreamFormat.of(stream, first)
