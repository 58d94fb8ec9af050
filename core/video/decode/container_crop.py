"""Cropping that the container asks players to apply, which decoders do not apply.

Matroska has the elements PixelCrop*, MP4 and MOV the box clap (ISO/IEC 14496-12). FFmpeg reads both, but PyAV has no
access to them.
"""

from __future__ import annotations

import logging
import struct
from functools import lru_cache
from pathlib import Path

from ...clip import ClipError
from .packets.ebml import MAX_HEADER_BYTES, TRACK_ENTRY, TRACKS, VIDEO, find_element, parse_elements

log = logging.getLogger(__name__)

_CROP_IDS = {b"\x54\xcc": "left", b"\x54\xbb": "top", b"\x54\xdd": "right", b"\x54\xaa": "bottom"}
_MP4_BOXES = (b"ftyp", b"moov", b"wide", b"mdat", b"free", b"skip")  # what an MP4 or MOV may start with
_CLAP_BYTES = 40


@lru_cache(maxsize=64)
def warn_container_crop(path: Path) -> None:
    """Log once per file that its container crops the frames, which are read whole."""
    if crop := read_container_crop(path):
        log.warning(
            "%s: players show a part of its frames only (%s); whole frames are processed, and the result has no crop",
            path, crop,
        )  # fmt: skip


def read_container_crop(path: Path) -> str:
    """Return the crop of the first video track that has one, in words, or ""."""
    try:
        with path.open("rb") as file:
            header = file.read(16)
            if header.startswith(b"\x1a\x45\xdf\xa3"):
                return _matroska_crop(header + file.read(MAX_HEADER_BYTES), path)
            return (
                _clean_aperture(path) if header[4:8] in (b"ftyp", b"moov", b"wide", b"mdat", b"free", b"skip") else ""
            )
    except (OSError, ClipError, IndexError, struct.error):
        return ""  # damage is reported by the decoder


def _matroska_crop(header: bytes, path: Path) -> str:
    for element_id, track in parse_elements(find_element(header, TRACKS, path)[1]):
        settings = (
            dict(parse_elements(dict(parse_elements(track)).get(VIDEO, b""))) if element_id == TRACK_ENTRY else {}
        )
        sides = {name: int.from_bytes(settings.get(key, b""), "big") for key, name in _CROP_IDS.items()}
        if any(sides.values()):
            return "pixels cropped: " + ", ".join(f"{name} {count}" for name, count in sides.items())
    return ""


def _clean_aperture(path: Path) -> str:
    """Return the clean aperture of an MP4 in words."""
    moov = _read_moov(path)
    at = moov.find(b"clap") - 4
    if at < 0 or struct.unpack_from(">I", moov, at)[0] != _CLAP_BYTES:
        return ""
    width, width_unit, height, height_unit = struct.unpack_from(">4I", moov, at + 8)
    return f"clean aperture {width / (width_unit or 1):g}x{height / (height_unit or 1):g}"


def _read_moov(path: Path) -> bytes:
    size = path.stat().st_size
    with path.open("rb") as file:
        offset = 0
        while offset + 8 <= size:
            file.seek(offset)
            head = file.read(16)
            length, kind = struct.unpack_from(">I4s", head)
            if length == 1:
                (length,) = struct.unpack_from(">Q", head, 8)
            if kind == b"moov":
                file.seek(offset)
                return file.read(min(length or size, MAX_HEADER_BYTES))
            if length < 8:
                break
            offset += length
    return b""
