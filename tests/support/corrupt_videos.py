"""Clips whose every frame differs, and ways to break them: noise in a packet, an end cut off, a begin cut off."""

from __future__ import annotations

import random
from pathlib import Path

import av
import numpy as np

FRAME_COUNT, FRAME_SIZE, GOP_SIZE = 48, (160, 96), 12  # frames of a clip, and of what follows a key frame
CODECS = {
    "h264": ("libx264", {"g": str(GOP_SIZE), "bf": "2"}),
    "hevc": ("libx265", {"x265-params": f"log-level=error:keyint={GOP_SIZE}:min-keyint={GOP_SIZE}:scenecut=0"}),
    "vp9": ("libvpx-vp9", {"g": str(GOP_SIZE), "cpu-used": "8", "deadline": "realtime"}),
    "ffv1": ("ffv1", {"slicecrc": "1", "level": "3", "g": "1"}),
    "mpeg4": ("mpeg4", {"g": str(GOP_SIZE)}),
}


def make_moving_video(path: Path, codec: str = "h264", *, count: int = FRAME_COUNT, with_audio: bool = False) -> Path:
    """A window that moves over coloured blocks, 24 frames a second, with a tone beside it."""
    blocks = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    width, height = FRAME_SIZE
    encoder, options = CODECS[codec]
    with av.open(str(path), "w", options={"movflags": "faststart"} if path.suffix == ".mp4" else {}) as sink:
        stream = sink.add_stream(encoder, rate=24, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        voice = sink.add_stream("aac", rate=48000, layout="mono") if with_audio else None
        for number in range(count):
            picture = np.ascontiguousarray(blocks[number : number + height, 2 * number : 2 * number + width])
            sink.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            if voice is not None:
                tone = np.sin(np.arange(number * 2000, number * 2000 + 2000) * 0.05, dtype=np.float32) * 0.5
                piece = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
                piece.sample_rate, piece.pts = 48000, number * 2000
                sink.mux(voice.encode(piece))
        sink.mux(stream.encode(None))
        if voice is not None:
            sink.mux(voice.encode(None))
    return path


def corrupt_packet(path: Path, packet: int, skip_share: float = 0.0) -> Path:
    """The same file with random bytes in that packet of the picture, after that share of it."""
    with av.open(str(path)) as container:
        content = bytes([p for p in container.demux(container.streams.video[0]) if p.size][packet])
    data = bytearray(path.read_bytes())
    at = data.index(content[-20:]) + 20 - len(content)  # containers may store the first bytes in another way
    first = int(len(content) * skip_share)
    data[at + first : at + len(content)] = random.Random(0).randbytes(len(content) - first)
    broken = path.with_name(f"noise_{path.name}")
    broken.write_bytes(data)
    return broken


def truncate_end(path: Path, keep_share: float = 0.6) -> Path:
    """The same file without its end."""
    data = path.read_bytes()
    broken = path.with_name(f"cut_{path.name}")
    broken.write_bytes(data[: int(len(data) * keep_share)])
    return broken


def drop_start(path: Path, packets: int = 60) -> Path:
    """A broadcast that was switched on late: without its first packets of 188 bytes."""
    broken = path.with_name(f"late_{path.name}")
    broken.write_bytes(path.read_bytes()[188 * packets :])
    return broken
