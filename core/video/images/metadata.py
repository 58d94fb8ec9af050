"""Metadata of PNG, TIFF and WebP files that their decoders do not report."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from ..format.stream_format import Orientation

_ORIENTATION_TAG, _BITS_TAG, _COMPRESSION_TAG = 274, 258, 259  # TIFF tags, shared by EXIF
_JPEG_COMPRESSIONS = (6, 7)
_SIZE_TAGS, _KIND_TAG = (256, 257), 254
_PREVIEW, _MASK = 1, 4  # bits of the kind of an image
# Values of EXIF's orientation tag; 1 is upright.
_EXIF_ORIENTATIONS = {
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
class ImageMetadata:
    """Properties in the header of an image file.

    orientation: None where it is not given. is_multi_image: whether the file has more than one image. has_frames:
    whether these are an animation, or pages of one size, and not a preview or a mask of the first image. is_jpeg:
    whether a TIFF is compressed as JPEG. bit_depth: of the deepest channel of a TIFF; 8 for other files.
    """

    orientation: Orientation | None = None
    is_multi_image: bool = False
    has_frames: bool = False
    is_jpeg: bool = False
    bit_depth: int = 8


def read_image_metadata(content: bytes) -> ImageMetadata:
    """Read the metadata from the content of a file; defaults where it is damaged.

    Reporting damage is left to the decoder.
    """
    try:
        if content.startswith(b"\x89PNG"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's, of damaged tags
                return _parse_png(content)
        if content.startswith((b"II", b"MM")):
            return _parse_tiff(content)
        is_animated = content[8:12] == b"WEBP" and content[12:16] == b"VP8X" and bool(content[20] & 2)
        return ImageMetadata(is_multi_image=is_animated, has_frames=is_animated)
    except Exception:  # damaged tags can make Pillow raise anything
        return ImageMetadata()


def without_exif(content: bytes) -> bytes:
    """A PNG without its EXIF.

    FFmpeg refuses an image whose EXIF is damaged.
    """
    if not content.startswith(b"\x89PNG") or b"eXIf" not in content:
        return content
    kept, offset = [content[:8]], 8
    while offset + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, offset)
        if kind != b"eXIf":
            kept.append(content[offset : offset + 12 + length])
        offset += 12 + length
    return b"".join([*kept, content[offset:]])


def _parse_png(content: bytes) -> ImageMetadata:
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + next((data for kind, data in png_chunks(content) if kind == b"eXIf"), b""))
    is_animated = is_animated_png(content)
    return ImageMetadata(_EXIF_ORIENTATIONS.get(exif.get(_ORIENTATION_TAG, 0)), is_animated, is_animated)


def png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind and data of each chunk of a PNG file; without those of pixels."""
    offset = 8
    while offset + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, offset)
        yield kind, content[offset + 8 : offset + 8 + length] if kind != b"IDAT" else b""
        offset += 12 + length


def is_animated_png(content: bytes) -> bool:
    """Whether a PNG file is an APNG: the chunk acTL comes before the pixels."""
    if not content.startswith(b"\x89PNG"):
        return False
    for kind, _ in png_chunks(content):
        if kind in (b"acTL", b"IDAT"):
            return kind == b"acTL"
    return False


def read_tiff_tags(content: bytes) -> ImageFileDirectory_v2:
    """Read the tags of the first image of a TIFF file; raises what Pillow raises."""
    return _read_directory(content)


def _read_directory(content: bytes, offset: int | None = None) -> ImageFileDirectory_v2:
    """Read the tags of the image at `offset`, by default the first one."""
    is_big_tiff = content[2:4] in (b"+\0", b"\0+")  # the variant for files beyond 4 GB
    tags, file = ImageFileDirectory_v2(content[: 16 if is_big_tiff else 8]), io.BytesIO(content)
    file.seek(tags.next if offset is None else offset)
    tags.load(file)
    return tags


def _parse_tiff(content: bytes) -> ImageMetadata:
    tags = read_tiff_tags(content)
    jpeg, bits = tags.get(_COMPRESSION_TAG) in _JPEG_COMPRESSIONS, max(tags.get(_BITS_TAG, (1,)))
    orientation = _EXIF_ORIENTATIONS.get(tags.get(_ORIENTATION_TAG, 0))
    return ImageMetadata(orientation, bool(tags.next), _has_frames(content, tags), jpeg, bits)


def _has_frames(content: bytes, first: ImageFileDirectory_v2) -> bool:
    """Whether the second image of a TIFF is another page.

    It has the size of the first then, and is no preview or mask.
    """
    if not first.next:
        return False
    try:
        second = _read_directory(content, first.next)
    except Exception:  # damaged tags can make Pillow raise anything
        return False
    is_same_size = all(first.get(tag) == second.get(tag) for tag in _SIZE_TAGS)
    return is_same_size and not second.get(_KIND_TAG, 0) & (_PREVIEW | _MASK)
