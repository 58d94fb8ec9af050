"""What all frames of a file that is written have in common: size, format and the meaning of its colours."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from ...clip import ClipError, Frames
from ..decode import demux
from ..decode.corruption import CorruptionReport, OnDamage, decode_checked
from ..decode.stream_format import (
    BT601,
    BT709,
    BT2020,
    HLG,
    PQ,
    SMPTE170M,
    UNSPECIFIED,
    NativeFrames,
    StreamFormat,
    bit_depth,
    has_alpha,
    is_rgb,
    resolve_matrix,
)
from .codecs import Codec, Encoding, check_pixel_format

MIN_OPAQUE_ALPHA = 1 - 0.5 / 65535  # what every format rounds to no transparency at all
# The reformatter numbers matrices as the scaler does (SWS_CS_*), the tags as the standard does. FCC is 4, SMPTE 240M 7.
SWS_MATRIX = {BT709: 1, 4: 4, BT601: 5, SMPTE170M: 5, 7: 7, BT2020: 9}


@dataclass(frozen=True)
class OutputFormat:
    """What every frame of the file has in common. Colours are FFmpeg's numbers."""

    width: int  # of the frames that come in; the file may be one larger
    height: int
    channels: int
    keeps_alpha: bool
    pixel_format: str
    pixel_aspect: Fraction
    matrix: int
    matrix_tag: int  # the matrix as the file tells it: that, or nothing where the source tells nothing
    full_range: bool
    primaries: int
    transfer: int

    @classmethod
    def of(
        cls,
        first: Frames | NativeFrames,
        codec: Codec,
        encoding: Encoding,
        source_format: StreamFormat | None,
        path: Path,
    ) -> OutputFormat:
        channels, height, width = frame_shape(first)
        seen_through = not isinstance(first, list) and has_transparency(first)
        pixel_format = encoding.pixel_format or (codec.alpha_format if seen_through else None) or codec.pixel_format
        check_pixel_format(path, codec, pixel_format)
        default = resolve_matrix(UNSPECIFIED, height)
        chosen = source_format.matrix if source_format and source_format.matrix in SWS_MATRIX else default
        # Of a file without a tag, programs assume this or that. What they assume of the source has to hold of the file
        # too, or its colours would change for some; a tag is needed only where its size makes them change their minds.
        untold = (
            source_format is not None
            and not source_format.tagged
            and not is_rgb(source_format.pixel_format)
            and chosen == default
        )
        look = cls(
            width=width,
            height=height,
            channels=channels,
            keeps_alpha=has_alpha(pixel_format),
            pixel_format=pixel_format,
            pixel_aspect=source_format.pixel_aspect if source_format else Fraction(1),
            matrix=chosen,
            matrix_tag=UNSPECIFIED if untold else chosen,
            full_range=is_rgb(pixel_format) or (source_format is not None and source_format.full_range),
            primaries=source_format.primaries if source_format else default,
            transfer=source_format.transfer if source_format else default,
        )
        if look.transfer in (PQ, HLG) and bit_depth(pixel_format) <= 8:
            raise ClipError(
                f"{path}: the source is HDR, which {pixel_format} with its 8 bits would show in bands; "
                "choose hevc or av1 with the pixel format yuv420p10le"
            )
        return look

    @property
    def padded_size(self) -> tuple[int, int]:
        """(width, height) of the file: whole pixels of the coarser of its planes."""
        chroma = av.VideoFormat(self.pixel_format)
        return (
            self.width + (self.width % 2 if chroma.chroma_width(2) == 1 else 0),
            self.height + (self.height % 2 if chroma.chroma_height(2) == 1 else 0),
        )


def has_transparency(frames: Frames) -> bool:
    """Whether (B, 3 or 4, H, W) are not opaque everywhere. Moving and resizing leave 1 a few roundings short of it."""
    return frames.shape[1] == 4 and bool((frames[:, 3] < MIN_OPAQUE_ALPHA).any())


def frame_shape(frames: Frames | NativeFrames) -> tuple[int, int, int]:
    """(channels, height, width) of each."""
    if isinstance(frames, list):
        return 3, frames[0].height, frames[0].width
    channels, height, width = frames.shape[1:]
    return channels, height, width


def probe_format(source: Path) -> StreamFormat:
    """How the source stores its picture. Its size was somebody else's decision, so there is no limit here."""
    with demux.open_media(source) as container:
        stream = demux.video_stream(container, source, demux.NO_PIXEL_LIMIT)
        first = next(decode_checked(source, container, stream, OnDamage.KEEP, CorruptionReport()), None)
        if first is None:
            raise ClipError(f"{source}: its video stream has no frames, so it cannot be the source")
        return StreamFormat.of(stream, first)
