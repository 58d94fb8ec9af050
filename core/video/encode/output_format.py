"""What all frames of a file that is written have in common: size, format and the meaning of its colours."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from ...clip import ClipError, Frames
from ..decode import demux
from ..decode.corruption import Damage, OnDamage, whole
from ..decode.stream_format import (
    BT601,
    BT709,
    BT2020,
    HLG,
    PQ,
    SMPTE170M,
    UNKNOWN,
    Pictures,
    Stored,
    depth,
    has_alpha,
    is_rgb,
    matrix,
)
from .codecs import Codec, Encoding, check_format

OPAQUE = 1 - 0.5 / 65535  # what every format rounds to no transparency at all
# The reformatter numbers matrices as the scaler does (SWS_CS_*), the tags as the standard does. FCC is 4, SMPTE 240M 7.
SWS_MATRIX = {BT709: 1, 4: 4, BT601: 5, SMPTE170M: 5, 7: 7, BT2020: 9}


@dataclass(frozen=True)
class Look:
    """What every frame of the file has in common. Colours are FFmpeg's numbers."""

    width: int  # of the frames that come in; the file may be one larger
    height: int
    channels: int
    keeps_alpha: bool
    pixel_format: str
    pixel_aspect: Fraction
    matrix: int
    tag: int  # the matrix as the file tells it: that, or nothing where the source tells nothing
    full_range: bool
    primaries: int
    transfer: int

    @classmethod
    def of(cls, first: Frames | Pictures, codec: Codec, encoding: Encoding, stored: Stored | None, path: Path) -> Look:
        channels, height, width = shape_of(first)
        seen_through = not isinstance(first, list) and transparent(first)
        pixel_format = encoding.pixel_format or (codec.alpha_format if seen_through else None) or codec.pixel_format
        check_format(path, codec, pixel_format)
        default = matrix(UNKNOWN, height)
        chosen = stored.matrix if stored and stored.matrix in SWS_MATRIX else default
        # Of a file without a tag, programs assume this or that. What they assume of the source has to hold of the file
        # too, or its colours would change for some; a tag is needed only where its size makes them change their minds.
        untold = stored is not None and not stored.tagged and not is_rgb(stored.pixel_format) and chosen == default
        look = cls(
            width=width,
            height=height,
            channels=channels,
            keeps_alpha=has_alpha(pixel_format),
            pixel_format=pixel_format,
            pixel_aspect=stored.pixel_aspect if stored else Fraction(1),
            matrix=chosen,
            tag=UNKNOWN if untold else chosen,
            full_range=is_rgb(pixel_format) or (stored is not None and stored.full_range),
            primaries=stored.primaries if stored else default,
            transfer=stored.transfer if stored else default,
        )
        if look.transfer in (PQ, HLG) and depth(pixel_format) <= 8:
            raise ClipError(
                f"{path}: the source is HDR, which {pixel_format} with its 8 bits would show in bands; "
                "choose hevc or av1 with the pixel format yuv420p10le"
            )
        return look

    @property
    def padded(self) -> tuple[int, int]:
        """(width, height) of the file: whole pixels of the coarser of its planes."""
        chroma = av.VideoFormat(self.pixel_format)
        return (
            self.width + (self.width % 2 if chroma.chroma_width(2) == 1 else 0),
            self.height + (self.height % 2 if chroma.chroma_height(2) == 1 else 0),
        )


def transparent(frames: Frames) -> bool:
    """Whether (B, 3 or 4, H, W) are not opaque everywhere. Moving and resizing leave 1 a few roundings short of it."""
    return frames.shape[1] == 4 and bool((frames[:, 3] < OPAQUE).any())


def shape_of(frames: Frames | Pictures) -> tuple[int, int, int]:
    """(channels, height, width) of each."""
    if isinstance(frames, list):
        return 3, frames[0].height, frames[0].width
    channels, height, width = frames.shape[1:]
    return channels, height, width


def stored_by(source: Path) -> Stored:
    """How the source stores its picture. Its size was somebody else's decision, so there is no limit here."""
    with demux.opened(source) as container:
        stream = demux.video_stream(container, source, demux.NO_LIMIT)
        first = next(whole(source, container, stream, OnDamage.KEEP, Damage()), None)
        if first is None:
            raise ClipError(f"{source}: its video stream has no frames, so it cannot be the source")
        return Stored.of(stream, first)
