"""Frames for files, clips of known colors, and the packets of a file."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import torch
from steadyscale.core.clip import ClipInfo

CLIP_INFO = ClipInfo(64, 48, Fraction(24))


def split_batches(frames: torch.Tensor, size: int = 5):
    return iter(frames.split(size))


def assert_released(frames: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Yield frames; fail if one is alive when the next but one is requested."""
    yielded: list[weakref.ref[torch.Tensor]] = []
    for frame in frames:
        assert [ref() for ref in yielded[:-1]] == [None] * len(yielded[:-1])
        yielded.append(weakref.ref(frame))
        yield frame
        del frame


def read_packet_times(path: Path, stream_type: str) -> list[Fraction]:
    with av.open(str(path)) as container:
        stream = getattr(container.streams, stream_type)[0]
        return sorted(p.pts * p.time_base for p in container.demux(stream) if p.pts is not None)


def read_packet_bytes(path: Path, stream_type: str) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(p) for p in container.demux(getattr(container.streams, stream_type)[0]) if p.size]


def list_files(folder: Path) -> list[str]:
    return sorted(f.name for f in folder.iterdir())


KR_KB = {"601": (0.299, 0.114), "709": (0.2126, 0.0722)}
PATCH_COLORS = [
    (1, 0, 0),
    (0, 1, 0),
    (0, 0, 1),
    (1, 1, 0),
    (0, 1, 1),
    (1, 0, 1),
    (0.75, 0.25, 0.5),
    (1, 1, 1),
    (0, 0, 0),
]


def rgb_to_yuv(rgb, matrix: str, full: bool) -> list[int]:
    """Convert to ITU-R BT.601 or BT.709, 8 bits."""
    kr, kb = KR_KB[matrix]
    r, g, b = rgb
    y = kr * r + (1 - kr - kb) * g + kb * b
    u, v = (b - y) / (2 * (1 - kb)), (r - y) / (2 * (1 - kr))
    numbers = (255 * y, 255 * u + 128, 255 * v + 128) if full else (16 + 219 * y, 128 + 224 * u, 128 + 224 * v)
    return [min(255, max(0, round(n))) for n in numbers]


def make_patches_video(path: Path, matrix: str, full: bool, tagged: bool, height: int = 48) -> Path:
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, height, "yuv420p"
        if tagged:
            stream.codec_context.colorspace = 1 if matrix == "709" else 5
            stream.codec_context.color_range = 2 if full else 1
        for rgb in PATCH_COLORS:
            frame = av.VideoFrame(64, height, "yuv420p")
            for plane, value in zip(frame.planes, rgb_to_yuv(rgb, matrix, full), strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))
    return path
