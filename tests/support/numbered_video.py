"""Clips whose every frame says its number, made with PyAV: a lost, doubled or swapped frame cannot hide."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch

NUM_BITS = 8  # a frame shows its number as 8 black or white bars


def draw_number(number: int, width: int = 64, height: int = 48) -> np.ndarray:
    """(H, W, 3) uint8: the number in black and white bars (lowest bit on the left), a grey strip at the top."""
    bars = np.array([255 if number >> b & 1 else 0 for b in range(NUM_BITS)], np.uint8)
    shown = np.repeat(bars[np.minimum(np.arange(width) * NUM_BITS // width, NUM_BITS - 1)][None], height, axis=0)
    shown[: height // 4] = 128
    return np.repeat(shown[:, :, None], 3, axis=2)


def read_number(frame: torch.Tensor) -> int:
    """The number that a frame (C, H, W) shows, at any size. Fails on a frame that shows none."""
    _, height, width = frame.shape
    row = frame[:3, height // 2 :].mean(dim=(0, 1))
    bars = [
        float(row[int((b + 0.3) * width / NUM_BITS) : int((b + 0.7) * width / NUM_BITS) + 1].mean())
        for b in range(NUM_BITS)
    ]
    assert all(bar < 0.3 or bar > 0.7 for bar in bars), f"no number in this frame: {bars}"
    assert 0.4 < float(frame[:3, : height // 8].mean()) < 0.6, "the grey strip at the top is missing"
    return sum(1 << b for b, bar in enumerate(bars) if bar > 0.5)


def read_numbers(clip, batch: int = 1) -> list[int]:
    return [read_number(frame) for frames in clip.frames(batch) for frame in frames]


def numbered_frames(count: int, width: int = 64, height: int = 48) -> torch.Tensor:
    """(count, 3, H, W) float32: frames that show 0, 1, 2 …"""
    frames = np.stack([draw_number(i, width, height) for i in range(count)])
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255


def make_video(
    path: Path,
    count: int = 12,
    *,
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    starts: list[int] | None = None,
    time_base: Fraction = Fraction(1, 24000),
    fps: int = 24,
    rotation: int = 0,
    audio_start: float | None = None,
    audio_codec: str = "aac",
    pixel_aspect: Fraction = Fraction(1),
    metadata: dict[str, str] | None = None,
) -> Path:
    """A clip of numbered pictures. starts: when each frame is shown, in units of base. audio_at: seconds at which a
    tone begins. rotation: how the picture is to be turned for display, degrees counter-clockwise.
    """
    with av.open(str(path), "w") as sink:
        video = sink.add_stream(codec, rate=fps, options={"crf": "10"} if codec == "libx264" else {})
        video.width, video.height, video.pix_fmt = *size, pixel_format
        video.time_base = video.codec_context.time_base = time_base
        video.codec_context.sample_aspect_ratio = pixel_aspect
        if rotation:
            video.set_display_rotation(rotation)
        sink.metadata.update(metadata or {})
        sound = sink.add_stream(audio_codec, rate=48000, layout="stereo") if audio_start is not None else None
        one = round(1 / (fps * time_base))
        starts = starts or [i * one for i in range(count)]
        for number, start in enumerate(starts):
            frame = av.VideoFrame.from_ndarray(draw_number(number, *size), format="rgb24").reformat(format=pixel_format)
            frame.pts, frame.time_base = start, time_base
            sink.mux(video.encode(frame))
        sink.mux(video.encode(None))
        if sound is not None and audio_start is not None:
            for block in range(20):
                tone = np.sin(np.arange(block * 1024, block * 1024 + 1024) * 0.05, dtype=np.float32) * 0.5
                piece = av.AudioFrame.from_ndarray(np.stack([tone, tone]), format="fltp", layout="stereo")
                piece.sample_rate, piece.time_base = 48000, Fraction(1, 48000)
                piece.pts = round(audio_start * 48000) + block * 1024
                sink.mux(sound.encode(piece))
            sink.mux(sound.encode(None))
    return path
