"""Read the elements of Matroska and WebM files that describe the tracks.

Matroska is RFC 9559; its elements, each of id, length and content, are EBML, RFC 8794.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from ....clip import ClipError

MAX_HEADER_BYTES = 4_000_000  # size of the start of a file in which the tracks are described
_SEGMENT, TRACKS, TRACK_ENTRY, VIDEO = b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae", b"\xe0"

Element: TypeAlias = tuple[bytes, bytes]  # id, content


def find_element(header: bytes, element_id: bytes, path: Path) -> tuple[int, bytes]:
    """Return the offset of the content of an element of the segment, and the content."""
    offset = 0
    while offset < len(header):
        found_id, start, length = _parse_header(header, offset)
        if found_id == element_id and start + length <= len(header):
            return start, header[start : start + length]
        offset = start if found_id == _SEGMENT else start + length
    raise ClipError(f"{path}: no track description within the first {MAX_HEADER_BYTES:,} bytes")


def parse_elements(content: bytes) -> Iterator[Element]:
    """Yield the elements in the content of another one."""
    offset = 0
    while offset < len(content):
        element_id, start, length = _parse_header(content, offset)
        yield element_id, content[start : start + length]
        offset = start + length


def is_complete_matroska(path: Path) -> bool:
    """Whether a Matroska file has as many bytes as it claims.

    Else its stored duration is that of a longer file.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    start = head.find(_SEGMENT)
    if start < 0 or start + 5 > len(head) or head[start + 4] == 0:
        return False
    length_bytes = 9 - head[start + 4].bit_length()
    field = head[start + 4 : start + 4 + length_bytes]
    length = int.from_bytes(field, "big") - (1 << 7 * length_bytes)
    if length == (1 << 7 * length_bytes) - 1:
        return False  # unknown: a stream that was never finished
    return start + 4 + length_bytes + length <= path.stat().st_size


def _parse_header(data: bytes, offset: int) -> tuple[bytes, int, int]:
    """Return an element's id, and the offset and length of its content."""
    id_bytes = 9 - data[offset].bit_length()
    length_offset = offset + id_bytes
    length_bytes = 9 - data[length_offset].bit_length()
    length = int.from_bytes(data[length_offset : length_offset + length_bytes], "big") - (1 << 7 * length_bytes)
    return data[offset:length_offset], length_offset + length_bytes, length
