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

MARK = "the display size belongs here".ljust(48, ".")
_THEMSELVES = ("h264", "hevc")  # codecs that say it within the picture, more exactly
HEAD = 4_000_000  # bytes from the begin of a file within which its tracks are described
_SEGMENT, _TRACKS, _TRACK = b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae"
_NAME, _VIDEO, _CRC, _VOID = b"\x53\x6e", b"\xe0", b"\xbf", b"\xec"
_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT = b"\x54\xb0", b"\x54\xba", b"\x54\xb2"
_DISPLAY = (_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT)
_PIXEL_WIDTH, _PIXEL_HEIGHT = b"\xb0", b"\xba"

_Element = tuple[bytes, bytes]  # id, content


def mark_display(stream: VideoStream, container: Container, pixel_aspect: Fraction | None) -> bool:
    """Make room for the size of display in the header of a file that is not begun; whether `write_display` has to fill
    it. pixel_aspect: width of a pixel / its height.
    """
    needed = container.muxer in ("matroska", "webm") and pixel_aspect not in (None, 0, 1)
    needed = needed and stream.codec_context.codec.canonical_name not in _THEMSELVES
    if needed:
        stream.metadata["title"] = MARK
    return needed


def write_display(path: Path, pixel_aspect: Fraction) -> None:
    """Fill the room that `mark_display` made in a file that is whole now. Raises ClipError where there is none."""
    with path.open("rb+") as file:
        head = file.read(HEAD)
        at, tracks = _found(head, _TRACKS, path)
        children = [*_elements(tracks)]
        for index, (name, content) in enumerate(children):
            parts = dict(_elements(content)) if name == _TRACK else {}
            if parts.get(_NAME, b"").startswith(MARK.encode()):
                children[index] = name, _shown(content, pixel_aspect)
                break
        else:
            raise ClipError(f"{path}: there is no room for the shape of its pixels; write .mp4 or .mov instead")
        written = b"".join(_written(*child) for child in children if child[0] != _CRC)
        if children[0][0] == _CRC:  # of all that follows it
            written = _written(_CRC, zlib.crc32(written).to_bytes(4, "little")) + written
        missing = len(tracks) - len(written)  # lengths may have been written in more bytes than they need
        file.seek(at)
        file.write(written if missing == 0 else _padded(written, missing, children[0][0] == _CRC))


def _shown(track: bytes, pixel_aspect: Fraction) -> bytes:
    """The description of a track with a size of display instead of the mark."""
    children = [child for child in _elements(track) if child[0] != _NAME]
    for index, (name, content) in enumerate(children):
        if name == _VIDEO:
            facts = [fact for fact in _elements(content) if fact[0] not in _DISPLAY]
            sides = dict(facts)
            width, height = (int.from_bytes(sides[side], "big") for side in (_PIXEL_WIDTH, _PIXEL_HEIGHT))
            shown = max(width, round(width * pixel_aspect)), max(height, round(height / pixel_aspect))
            facts += [
                (side, length.to_bytes(4, "big"))
                for side, length in zip((_DISPLAY_WIDTH, _DISPLAY_HEIGHT), shown, strict=True)
            ]
            children[index] = name, b"".join(_written(*fact) for fact in facts)
    return b"".join(_written(*child) for child in children)


def _padded(written: bytes, missing: int, checked: bool) -> bytes:
    """The same elements, that many bytes longer, with the checksum of it all."""
    void = _VOID + (0x0100000000000000 + missing - 9).to_bytes(8, "big") + bytes(missing - 9)
    content = (written[6:] if checked else written) + void
    return (_written(_CRC, zlib.crc32(content).to_bytes(4, "little")) if checked else b"") + content


def _found(head: bytes, wanted: bytes, path: Path) -> tuple[int, bytes]:
    """Where the content of that element of the segment begins, and the content."""
    at = 0
    while at < len(head):
        name, begin, length = _header(head, at)
        if name == wanted and begin + length <= len(head):
            return begin, head[begin : begin + length]
        at = begin if name == _SEGMENT else begin + length
    raise ClipError(f"{path}: its tracks are not described where they should be")


def _elements(content: bytes) -> Iterator[_Element]:
    at = 0
    while at < len(content):
        name, begin, length = _header(content, at)
        yield name, content[begin : begin + length]
        at = begin + length


def _header(data: bytes, at: int) -> tuple[bytes, int, int]:
    """An element's id, where its content begins, and how long that is."""
    wide = 9 - data[at].bit_length()
    begin = at + wide
    long = 9 - data[begin].bit_length()
    length = int.from_bytes(data[begin : begin + long], "big") - (1 << 7 * long)
    return data[at:begin], begin + long, length


def _written(name: bytes, content: bytes) -> bytes:
    long = 1 if len(content) < 0x7F else 8
    return name + (len(content) + (1 << 7 * long)).to_bytes(long, "big") + content
