"""What the head of a PNG, TIFF or WebP picture says that its decoder does not pass on."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from ..decode.stream_format import Orientation

_ORIENTATION, _BITS, _COMPRESSION = 274, 258, 259  # TIFF's numbers, which EXIF shares
_JPEG = (6, 7)
# EXIF's numbers for how the picture is stored; 1 is upright.
_ORIENTATIONS = {
    1: Orientation(),
    2: Orientation(mirror_columns=True),
    3: Orientation(mirror_columns=True, mirror_rows=True),
    4: Orientation(mirror_rows=True),
    5: Orientation(transpose=True),
    6: Orientation(transpose=True, mirror_columns=True),
    7: Orientation(transpose=True, mirror_columns=True, mirror_rows=True),
    8: Orientation(transpose=True, mirror_rows=True),
}


@dataclass(frozen=True)
class Head:
    """orientation: None where the head tells none. several: whether more pictures follow the first. jpeg: whether a
    TIFF is compressed that way. bits: of its deepest channel, where a TIFF tells them.
    """

    orientation: Orientation | None = None
    several: bool = False
    jpeg: bool = False
    bits: int = 8


def head_of(content: bytes) -> Head:
    """Of a whole file. What is damaged tells nothing: that is for the decoder to say."""
    try:
        if content.startswith(b"\x89PNG"):
            return _of_png(content)
        if content.startswith((b"II", b"MM")):
            return _of_tiff(content)
        return Head(several=content[8:12] == b"WEBP" and content[12:16] == b"VP8X" and bool(content[20] & 2))
    except (OSError, ValueError, SyntaxError, LookupError, TypeError, struct.error):
        return Head()


def _of_png(content: bytes) -> Head:
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + next((data for kind, data in _chunks(content) if kind == b"eXIf"), b""))
    return Head(_ORIENTATIONS.get(exif.get(_ORIENTATION, 0)))


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        yield kind, content[at + 8 : at + 8 + length] if kind != b"IDAT" else b""
        at += 12 + length


def _of_tiff(content: bytes) -> Head:
    big = content[2:4] in (b"+\0", b"\0+")  # the variant for files beyond 4 GB
    tags, file = ImageFileDirectory_v2(content[: 16 if big else 8]), io.BytesIO(content)
    file.seek(tags.next)
    tags.load(file)
    jpeg, bits = tags.get(_COMPRESSION) in _JPEG, max(tags.get(_BITS, (1,)))
    return Head(_ORIENTATIONS.get(tags.get(_ORIENTATION, 0)), bool(tags.next), jpeg, bits)
