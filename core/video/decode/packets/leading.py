"""Frames at the start of a file whose reference frames were cut off.

Such are the packets before the first key frame (a recording that was switched on late), and those that follow it in the
file and precede it on the screen (an open GOP, cut by stream copy). Players start with the first frame that can be
displayed. A key frame that is damaged is no leading frame, and neither is what follows it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame

from . import demux

log = logging.getLogger(__name__)

_PACKETS_FOR_A_FRAME = 64  # within which a decoder outputs its first frame
_PACKETS_AFTER_IT = 16  # among which leading frames may still be


def may_lead(packet: Packet[Any], has_key: bool, key_pts: int | None) -> bool:
    """Whether a packet may be a leading one; key_pts: of the first key frame."""
    if packet.is_keyframe:
        return False
    return not has_key or (key_pts is not None and packet.pts is not None and packet.pts < key_pts)


def find_leading(path: Path) -> frozenset[int]:
    """Return the numbers of the leading packets, in the order of the file.

    Decodes up to the first frame. Empty where no packet is a key frame. Raises ClipError.
    """
    with demux.open_media(path) as container:
        stream = demux.video_stream(container, path, demux.NO_PIXEL_LIMIT)
        stream.codec_context.thread_type = "SLICE"
        decoder = demux.software_decoder(stream)
        before_key: list[int] = []
        candidates: dict[int, int] = {}
        first_key, key_pts, first_frame, left = -1, None, None, _PACKETS_FOR_A_FRAME
        number = 0
        for packet in demux.sized_packets(container, stream):
            if first_key < 0 and not packet.is_keyframe:
                before_key += [] if packet.is_discard else [number]
            else:
                if first_key < 0:
                    first_key, key_pts = number, packet.pts
                elif not packet.is_discard and may_lead(packet, True, key_pts):
                    candidates[number] = packet.pts or 0
                left -= 1
                if first_frame is None:
                    first_frame = next((f.pts for f in _decode(decoder, packet, number)), None)
                    left = left if first_frame is None else _PACKETS_AFTER_IT
                if left < 0:
                    break
            number += not packet.is_discard
    if first_key < 0:
        return frozenset()
    # Some leading frames can be decoded (HEVC's RADL): those are displayed, from the first one on.
    first_pts = candidates.get(first_frame) if first_frame is not None else None
    return frozenset([*before_key, *(n for n, pts in candidates.items() if first_pts is None or pts < first_pts)])


def _decode(decoder: demux.Decoder, packet: Packet[Any], number: int) -> Iterator[VideoFrame]:
    """Yield the frames that a packet completes, with packet numbers as timestamps."""
    packet.pts = -1 if packet.is_discard else number
    try:
        yield from decoder.decode(packet)
    except FFmpegError:
        return
