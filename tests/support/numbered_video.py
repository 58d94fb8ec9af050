"""Clips whose frames show their number, so that lost or swapped frames are found."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch

NUM_BITS = 8  # a frame displays its number as 8 black or white bars


def draw_number(number: int, width: int = 64, height: int = 48) -> np.ndarray:
    """Draw a number as black and white bars below a gray strip: (H, W, 3) uint8.

    The lowest bit is on the left.
    """
    bars = np.array([255 if number >> b & 1 else 0 for b in range(NUM_BITS)], np.uint8)
    image = np.repeat(bars[np.minimum(np.arange(width) * NUM_BITS // width, NUM_BITS - 1)][None], height, axis=0)
    image[: height // 4] = 128
    return np.repeat(image[:, :, None], 3, axis=2)


def read_number(frame: torch.Tensor) -> int:
    """Read the number of a frame (C, H, W) of any size; fails on other frames."""
    _, height, width = frame.shape
    row = frame[:3, height // 2 :].mean(dim=(0, 1))
    bars = [
        float(row[int((b + 0.3) * width / NUM_BITS) : int((b + 0.7) * width / NUM_BITS) + 1].mean())
        for b in range(NUM_BITS)
    ]
    assert all(bar < 0.3 or bar > 0.7 for bar in bars), f"no number in this frame: {bars}"
    assert 0.4 < float(frame[:3, : height // 8].mean()) < 0.6, "the gray strip at the top is missing"
    return sum(1 << b for b, bar in enumerate(bars) if bar > 0.5)


def read_numbers(clip, batch: int = 1) -> list[int]:
    return [read_number(frame) for frames in clip.frames(batch) for frame in frames]


def numbered_frames(count: int, width: int = 64, height: int = 48) -> torch.Tensor:
    """Return (count, 3, H, W) float32: frames that display 0, 1, 2 …"""
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
    options: dict[str, str] | None = None,
    draw: Callable[[int, int, int], np.ndarray] = draw_number,
) -> Path:
    """Write a clip of numbered frames, or of those that `draw` (number, width, height) makes.

    starts: timestamp of each frame, in units of `time_base`. audio_start: seconds at which a tone starts. rotation: for
    display, degrees counter-clockwise. options: of the encoder.
    """
    with av.open(str(path), "w") as sink:
        quality = {"crf": "10"} if codec == "libx264" else {}
        video = sink.add_stream(codec, rate=fps, options=quality | (options or {}))
        video.width, video.height, video.pix_fmt = *size, pixel_format
        video.time_base = video.codec_context.time_base = time_base
        video.codec_context.sample_aspect_ratio = pixel_aspect
        if rotation:
            video.set_display_rotation(rotation)
        sink.metadata.update(metadata or {})
        audio = sink.add_stream(audio_codec, rate=48000, layout="stereo") if audio_start is not None else None
        frame_ticks = round(1 / (fps * time_base))
        starts = starts or [i * frame_ticks for i in range(count)]
        for number, start in enumerate(starts):
            frame = av.VideoFrame.from_ndarray(draw(number, *size), format="rgb24").reformat(format=pixel_format)
            frame.pts, frame.time_base = start, time_base
            sink.mux(video.encode(frame))
        sink.mux(video.encode(None))
        if audio is not None and audio_start is not None:
            for block in range(20):
                tone = np.sin(np.arange(block * 1024, block * 1024 + 1024) * 0.05, dtype=np.float32) * 0.5
                samples = av.AudioFrame.from_ndarray(np.stack([tone, tone]), format="fltp", layout="stereo")
                samples.sample_rate, samples.time_base = 48000, Fraction(1, 48000)
                samples.pts = round(audio_start * 48000) + block * 1024
                sink.mux(audio.encode(samples))
            sink.mux(audio.encode(None))
    return path
