"""Color descriptions of images: ICC profiles, and the color chunks of PNG."""

from __future__ import annotations

import io
import logging
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from .metadata import png_chunks, read_tiff_tags

log = logging.getLogger(__name__)

_COLOR_CHUNKS = (b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM")
_ICC_TAG = 34675
_MAX_PROFILE_BYTES = 16_000_000
_HEADER_END = 33  # of a PNG file: 8 bytes of signature, 25 of the chunk IHDR


@dataclass(frozen=True)
class ImageColor:
    """The color description of an image, as PNG chunks of (kind, data)."""

    chunks: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def names(self) -> str:
        """The kinds of its chunks, for messages."""
        return ", ".join("ICC profile" if kind == b"iCCP" else kind.decode() for kind, _ in self.chunks)

    def insert_into(self, png: bytes) -> bytes:
        """Return the content of a PNG file with these chunks."""
        encoded = (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in self.chunks
        )
        return png[:_HEADER_END] + b"".join(encoded) + png[_HEADER_END:]


def read_image_color(content: bytes, path: Path) -> ImageColor:
    """Read the color description of a PNG, JPEG, WebP or TIFF file.

    A profile that is not for RGB (gray, CMYK) does not describe RGB pixels: it is logged and left out, as is a damaged
    one.
    """
    try:
        chunks = _read_chunks(content)
    except (OSError, ValueError, SyntaxError, LookupError, TypeError, struct.error, zlib.error):
        return ImageColor()
    kept: list[tuple[bytes, bytes]] = []
    for kind, data in chunks:
        if kind == b"iCCP" and (space := _profile_space(data)) != b"RGB ":
            name = space.decode("ascii", "replace").strip() or "damaged"
            log.warning("%s: its color profile (%s) is not for RGB and is not kept", path, name)
        else:
            kept.append((kind, data))
    return ImageColor(tuple(kept))


def warn_dropped_color(target: Path, color: ImageColor | None) -> None:
    """Log that a video file does not keep the color description of images."""
    if color is not None and color.chunks:
        log.warning(
            "%s: a video file cannot hold the %s of the images; its colors are taken as sRGB (write PNG to keep it)",
            target, color.names,
        )  # fmt: skip


def _read_chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    if content.startswith(b"\x89PNG"):
        return [(kind, data) for kind, data in png_chunks(content) if kind in _COLOR_CHUNKS]
    if content.startswith((b"II", b"MM")):
        profile = read_tiff_tags(content).get(_ICC_TAG)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of damaged EXIF
            with Image.open(io.BytesIO(content), formats=("JPEG", "WEBP")) as image:
                profile = image.info.get("icc_profile")
    return [(b"iCCP", b"ICC Profile\0\0" + zlib.compress(bytes(profile)))] if profile else []


def _profile_space(chunk: bytes) -> bytes:
    """Return the color space (4 bytes) of a chunk iCCP; b"" if it is damaged."""
    _, _, compressed = chunk.partition(b"\0")
    try:
        profile = zlib.decompressobj().decompress(compressed[1:], _MAX_PROFILE_BYTES)
    except zlib.error:
        return b""
    return profile[16:20] if profile[36:40] == b"acsp" else b""
