"""Pixels that are not square, in Matroska and WebM: written into the file, because FFmpeg's writer is not told of them.

PyAV hands the shape of pixels to the encoder alone, and FFV1, VP9, AV1 and ProRes do not keep it there. So a track is
given a name of a certain length, `MARK`, and when the file is whole the name makes room for the size of display. No
byte around the description of that track moves.

Matroska is RFC 9559, and its elements, each an id, a length and a content, are EBML, RFC 8794.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from av.video.stream import VideoStream

from ...clip import ClipError
from .codecs import Container

PLACEHOLDER_TITLE = "the display size belongs here".ljust(48, ".")
_CODECS_WITH_ASPECT = ("h264", "hevc")  # codecs that say it within the picture, more exactly
MAX_HEADER_BYTES = 4_000_000  # bytes from the begin of a file within which its tracks are described
_SEGMENT, _TRACKS, _TRACK_ENTRY = b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae"
_TRACK_NAME, _VIDEO, _CRC, _VOID = b"\x53\x6e", b"\xe0", b"\xbf", b"\xec"
_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT = b"\x54\xb0", b"\x54\xba", b"\x54\xb2"
_DISPLAY_IDS = (_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT)
_PIXEL_WIDTH, _PIXEL_HEIGHT = b"\xb0", b"\xba"

_Element = tuple[bytes, bytes]  # id, content


def reserve_display_size(stream: VideoStream, container: Container, pixel_aspect: Fraction | None) -> bool:
    """Make room for the size of display in the header of a file that is not begun; whether `write_display` has to fill
    it. pixel_aspect: width of a pixel / its height.
    """
    needed = container.muxer in ("matroska", "webm") and pixel_aspect not in (None, 0, 1)
    needed = needed and stream.codec_context.codec.canonical_name not in _CODECS_WITH_ASPECT
    if needed:
        stream.metadata["title"] = PLACEHOLDER_TITLE
    return needed


def write_display_size(path: Path, pixel_aspect: Fraction) -> None:
    """Fill the room that `mark_display` made in a file that is whole now. Raises ClipError where there is none."""
    with path.open("rb+") as file:
        head = file.read(MAX_HEADER_BYTES)
        at, tracks = _find_element(head, _TRACKS, path)
        children = [*_parse_elements(tracks)]
        for index, (name, content) in enumerate(children):
            parts = dict(_parse_elements(content)) if name == _TRACK_ENTRY else {}
            if parts.get(_TRACK_NAME, b"").startswith(PLACEHOLDER_TITLE.encode()):
                children[index] = name, _set_display_size(content, pixel_aspect)
                break
        else:
            raise ClipError(f"{path}: there is no room for the shape of its pixels; write .mp4 or .mov instead")
        written = b"".join(_encode_element(*child) for child in children if child[0] != _CRC)
        if children[0][0] == _CRC:  # of all that follows it
            written = _encode_element(_CRC, zlib.crc32(written).to_bytes(4, "little")) + written
        missing = len(tracks) - len(written)  # lengths may have been written in more bytes than they need
        file.seek(at)
        file.write(written if missing == 0 else _pad(written, missing, children[0][0] == _CRC))


def _set_display_size(track: bytes, pixel_aspect: Fraction) -> bytes:
    """The description of a track with a size of display instead of the mark."""
    children = [child for child in _parse_elements(track) if child[0] != _TRACK_NAME]
    for index, (name, content) in enumerate(children):
        if name == _VIDEO:
            facts = [fact for fact in _parse_elements(content) if fact[0] not in _DISPLAY_IDS]
            sides = dict(facts)
            width, height = (int.from_bytes(sides[side], "big") for side in (_PIXEL_WIDTH, _PIXEL_HEIGHT))
            shown = max(width, round(width * pixel_aspect)), max(height, round(height / pixel_aspect))
            facts += [
                (side, length.to_bytes(4, "big"))
                for side, length in zip((_DISPLAY_WIDTH, _DISPLAY_HEIGHT), shown, strict=True)
            ]
            children[index] = name, b"".join(_encode_element(*fact) for fact in facts)
    return b"".join(_encode_element(*child) for child in children)


def _pad(data: bytes, pad_bytes: int, has_crc: bool) -> bytes:
    """The same elements, that many bytes longer, with the checksum of it all."""
    void = _VOID + (0x0100000000000000 + pad_bytes - 9).to_bytes(8, "big") + bytes(pad_bytes - 9)
    content = (data[6:] if has_crc else data) + void
    return (_encode_element(_CRC, zlib.crc32(content).to_bytes(4, "little")) if has_crc else b"") + content


def _find_element(header: bytes, element_id: bytes, path: Path) -> tuple[int, bytes]:
    """Where the content of that element of the segment begins, and the content."""
    at = 0
    while at < len(header):
        name, begin, length = _parse_header(header, at)
        if name == element_id and begin + length <= len(header):
            return begin, header[begin : begin + length]
        at = begin if name == _SEGMENT else begin + length
    raise ClipError(f"{path}: its tracks are not described where they should be")


def _parse_elements(content: bytes) -> Iterator[_Element]:
    at = 0
    while at < len(content):
        name, begin, length = _parse_header(content, at)
        yield name, content[begin : begin + length]
        at = begin + length


def _parse_header(data: bytes, offset: int) -> tuple[bytes, int, int]:
    """An element's id, where its content begins, and how long that is."""
    wide = 9 - data[offset].bit_length()
    begin = offset + wide
    long = 9 - data[begin].bit_length()
    length = int.from_bytes(data[begin : begin + long], "big") - (1 << 7 * long)
    return data[offset:begin], begin + long, length


def _encode_element(element_id: bytes, content: bytes) -> bytes:
    long = 1 if len(content) < 0x7F else 8
    return element_id + (len(content) + (1 << 7 * long)).to_bytes(long, "big") + content
