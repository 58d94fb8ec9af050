"""Write the display size of non-square pixels into Matroska and WebM files.

PyAV passes the pixel aspect ratio only to the encoder, and FFV1, VP9, AV1 and ProRes do not store it. So the track gets
a title of fixed length, PLACEHOLDER_TITLE, which is replaced by the display size when the file is complete. No byte
outside the track's header moves.

Matroska is RFC 9559; its elements, each of id, length and content, are EBML, RFC 8794.
"""

from __future__ import annotations

import zlib
from fractions import Fraction
from pathlib import Path

from av.video.stream import VideoStream

from ...clip import ClipError
from ..decode.packets.ebml import MAX_HEADER_BYTES, TRACK_ENTRY, TRACKS, VIDEO, find_element, parse_elements
from .codecs import Container

PLACEHOLDER_TITLE = "the display size belongs here".ljust(48, ".")
_CODECS_WITH_ASPECT = ("h264", "hevc")  # codecs that store it in the bitstream, more precisely
_TRACK_NAME, _CRC, _VOID = b"\x53\x6e", b"\xbf", b"\xec"
_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT = b"\x54\xb0", b"\x54\xba", b"\x54\xb2"
_DISPLAY_IDS = (_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT)
_PIXEL_WIDTH, _PIXEL_HEIGHT = b"\xb0", b"\xba"


def reserve_display_size(stream: VideoStream, container: Container, pixel_aspect: Fraction | None) -> bool:
    """Reserve space for the display size in the header of a new file.

    pixel_aspect: width of a pixel / its height. Returns whether `write_display_size` must be called.
    """
    needed = container.muxer in ("matroska", "webm") and pixel_aspect not in (None, 0, 1)
    needed = needed and stream.codec_context.codec.canonical_name not in _CODECS_WITH_ASPECT
    if needed:
        stream.metadata["title"] = PLACEHOLDER_TITLE
    return needed


def write_display_size(path: Path, pixel_aspect: Fraction) -> None:
    """Write the display size where `reserve_display_size` reserved space for it.

    The file must be complete. Raises ClipError where no space was reserved.
    """
    with path.open("rb+") as file:
        header = file.read(MAX_HEADER_BYTES)
        offset, tracks = find_element(header, TRACKS, path)
        children = [*parse_elements(tracks)]
        for index, (element_id, content) in enumerate(children):
            elements = dict(parse_elements(content)) if element_id == TRACK_ENTRY else {}
            if elements.get(_TRACK_NAME, b"").startswith(PLACEHOLDER_TITLE.encode()):
                children[index] = element_id, _set_display_size(content, pixel_aspect)
                break
        else:
            raise ClipError(f"{path}: no space is reserved for the pixel aspect ratio; write .mp4 or .mov instead")
        data = b"".join(_encode_element(*child) for child in children if child[0] != _CRC)
        if children[0][0] == _CRC:  # checksum of the elements that follow
            data = _encode_element(_CRC, zlib.crc32(data).to_bytes(4, "little")) + data
        missing = len(tracks) - len(data)  # lengths may have been stored in more bytes than needed
        file.seek(offset)
        file.write(data if missing == 0 else _pad(data, missing, children[0][0] == _CRC))


def _set_display_size(track: bytes, pixel_aspect: Fraction) -> bytes:
    """Return the content of a track entry with the display size instead of the title."""
    children = [child for child in parse_elements(track) if child[0] != _TRACK_NAME]
    for index, (element_id, content) in enumerate(children):
        if element_id == VIDEO:
            settings = [setting for setting in parse_elements(content) if setting[0] not in _DISPLAY_IDS]
            sides = dict(settings)
            width, height = (int.from_bytes(sides[side], "big") for side in (_PIXEL_WIDTH, _PIXEL_HEIGHT))
            display_size = max(width, round(width * pixel_aspect)), max(height, round(height / pixel_aspect))
            settings += [
                (side, length.to_bytes(4, "big"))
                for side, length in zip((_DISPLAY_WIDTH, _DISPLAY_HEIGHT), display_size, strict=True)
            ]
            children[index] = element_id, b"".join(_encode_element(*setting) for setting in settings)
    return b"".join(_encode_element(*child) for child in children)


def _pad(data: bytes, pad_bytes: int, has_crc: bool) -> bytes:
    """Return the elements, `pad_bytes` longer by a void element, with a new checksum."""
    void = _VOID + (0x0100000000000000 + pad_bytes - 9).to_bytes(8, "big") + bytes(pad_bytes - 9)
    content = (data[6:] if has_crc else data) + void
    return (_encode_element(_CRC, zlib.crc32(content).to_bytes(4, "little")) if has_crc else b"") + content


def _encode_element(element_id: bytes, content: bytes) -> bytes:
    length_bytes = 1 if len(content) < 0x7F else 8
    return element_id + (len(content) + (1 << 7 * length_bytes)).to_bytes(length_bytes, "big") + content
