"""What a file keeps of a source that cannot be opened a second time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

from .stream_format import UNSPECIFIED, StreamFormat, is_rgb, resolve_matrix


@dataclass(frozen=True)
class SourceDescription:
    """Storage format and metadata of a source.

    stream_format: None where the source states nothing about its frames. metadata: of the whole source, such as the
    title. video_metadata: of its video track. is_srgb: whether frames without a `stream_format` are in sRGB.
    """

    stream_format: StreamFormat | None = None
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    video_metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    is_srgb: bool = False


IMAGE_FILES = SourceDescription(is_srgb=True)


def raw_format(stated: StreamFormat, height: int) -> StreamFormat | None:
    """Return the format for a file that is written from a capture device or Y4M.

    Unlike files, these rarely state their colors. Such colors are tagged as those that players assume for the height.
    Returns None where nothing else is stated either.
    """
    if stated.tagged or is_rgb(stated.pixel_format):
        return stated
    if stated.pixel_aspect == Fraction(1) and not stated.full_range:
        return None
    assumed = resolve_matrix(UNSPECIFIED, height)
    return replace(stated, tagged=True, primaries=assumed, transfer=assumed)
