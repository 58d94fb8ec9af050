"""Clips whose frames all differ, and ways to corrupt them."""

from __future__ import annotations

import random
from pathlib import Path

import av
import numpy as np

FRAME_COUNT, FRAME_SIZE, GOP_SIZE = 48, (160, 96), 12  # GOP_SIZE: frames between key frames
CODECS = {
    "h264": ("libx264", {"g": str(GOP_SIZE), "bf": "2"}),
    "hevc": ("libx265", {"x265-params": f"log-level=error:keyint={GOP_SIZE}:min-keyint={GOP_SIZE}:scenecut=0"}),
    "vp9": ("libvpx-vp9", {"g": str(GOP_SIZE), "cpu-used": "8", "deadline": "realtime"}),
    "ffv1": ("ffv1", {"slicecrc": "1", "level": "3", "g": "1"}),
    "mpeg4": ("mpeg4", {"g": str(GOP_SIZE)}),
}


def make_moving_video(path: Path, codec: str = "h264", *, count: int = FRAME_COUNT, with_audio: bool = False) -> Path:
    """Write a window that moves over colored blocks, at 24 fps, with an optional tone."""
    blocks = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    width, height = FRAME_SIZE
    encoder, options = CODECS[codec]
    with av.open(str(path), "w", options={"movflags": "faststart"} if path.suffix == ".mp4" else {}) as sink:
        stream = sink.add_stream(encoder, rate=24, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        audio = sink.add_stream("aac", rate=48000, layout="mono") if with_audio else None
        for number in range(count):
            image = np.ascontiguousarray(blocks[number : number + height, 2 * number : 2 * number + width])
            sink.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            if audio is not None:
                tone = np.sin(np.arange(number * 2000, number * 2000 + 2000) * 0.05, dtype=np.float32) * 0.5
                samples = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
                samples.sample_rate, samples.pts = 48000, number * 2000
                sink.mux(audio.encode(samples))
        sink.mux(stream.encode(None))
        if audio is not None:
            sink.mux(audio.encode(None))
    return path


def corrupt_packet(path: Path, packet: int, skip_share: float = 0.0) -> Path:
    """Copy the file with random bytes in a video packet.

    skip_share: share of the packet that stays intact at its start.
    """
    with av.open(str(path)) as container:
        content = bytes([p for p in container.demux(container.streams.video[0]) if p.size][packet])
    data = bytearray(path.read_bytes())
    offset = data.index(content[-20:]) + 20 - len(content)  # containers may change the first bytes
    first = int(len(content) * skip_share)
    data[offset + first : offset + len(content)] = random.Random(0).randbytes(len(content) - first)
    result = path.with_name(f"noise_{path.name}")
    result.write_bytes(data)
    return result


def truncate_end(path: Path, keep_share: float = 0.6) -> Path:
    """Copy the file without its end."""
    data = path.read_bytes()
    result = path.with_name(f"cut_{path.name}")
    result.write_bytes(data[: int(len(data) * keep_share)])
    return result


def drop_start(path: Path, packets: int = 60) -> Path:
    """Copy a broadcast without its first packets of 188 bytes."""
    result = path.with_name(f"late_{path.name}")
    result.write_bytes(path.read_bytes()[188 * packets :])
    return result
