"""Synthetic, deterministic input files for regression.py."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Frame = NDArray[np.uint8]
WIDTH, HEIGHT = 160, 120
SHAKY, SCREEN, UNEVEN, IMAGES = "shaky.mkv", "screen.mkv", "uneven.mkv", "images"


def write_inputs(folder: Path) -> None:
    """Write all input files into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_clip(folder / SHAKY, _shaky_frames(24), range(24), Fraction(1, 24))
    _write_clip(folder / SCREEN, _screen_frames(24), range(24), Fraction(1, 24))
    times = np.cumsum([0, *([40, 20, 60, 80, 30][i % 5] for i in range(23))]).tolist()  # milliseconds
    _write_clip(folder / UNEVEN, _shaky_frames(24), times, Fraction(1, 1000), audio_seconds=1.0)
    (folder / IMAGES).mkdir(exist_ok=True)
    for number, frame in enumerate(_shaky_frames(6), 1):
        rgba = np.dstack([frame, _disc(40 + 3 * number)])
        Image.fromarray(rgba).save(folder / IMAGES / f"frame_{number:04d}.png")


def _texture(seed: int) -> Frame:
    """(240, 320, 3): blocks of 4 sizes, so that there is texture at every scale."""
    random, image = np.random.default_rng(seed), np.zeros((240, 320, 3))
    for side in (4, 8, 16, 40):
        coarse = random.integers(0, 64, (240 // side, 320 // side, 3))
        image += coarse.repeat(side, axis=0).repeat(side, axis=1)
    return image.astype(np.uint8)


def _shaky_frames(count: int) -> Iterator[Frame]:
    """A pan with shake, sensor noise, and one cut to another scene."""
    random = np.random.default_rng(1)
    for i in range(count):
        texture = _texture(0 if i < count * 2 // 3 else 5)
        x = 60 + i + round(6 * math.sin(i * 2.1))
        y = 60 + round(4 * math.cos(i * 1.7) + 3 * math.sin(i * 0.9))
        window = texture[y : y + HEIGHT, x : x + WIDTH].astype(np.int16)
        yield (window + random.integers(-3, 4, window.shape)).clip(0, 255).astype(np.uint8)


def _screen_frames(count: int) -> Iterator[Frame]:
    """A still background with a moving block, repeated frames and changes by one."""
    still = _texture(2)[:HEIGHT, :WIDTH]
    for i in range(count):
        frame = still.copy()
        step = i // 3  # each image is repeated three times
        frame[20:36, 10 + 4 * step : 26 + 4 * step] = 230
        if i % 6 == 5:
            frame[80:90, 80:90] ^= 1
        yield frame


def _disc(radius: int) -> Frame:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    distance = np.hypot(x - WIDTH / 2, y - HEIGHT / 2)
    return ((radius - distance).clip(0, 8) * 255 / 8).astype(np.uint8)


def _write_clip(
    path: Path, frames: Iterable[Frame], times: Iterable[int], base: Fraction, audio_seconds: float = 0.0
) -> None:
    """Write FFV1 in Matroska, with a sine tone if audio_seconds is above 0.

    times: of each frame, in units of `base`.
    """
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as output:
        video = output.add_stream("ffv1", rate=1 / base)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv444p"
        video.time_base = video.codec_context.time_base = base
        audio = output.add_stream("pcm_s16le", rate=16000) if audio_seconds else None
        if audio is not None:
            audio.layout = "mono"
            tone = np.sin(np.arange(int(16000 * audio_seconds)) * 2 * np.pi * 440 / 16000)
            for start in range(0, len(tone), 800):
                samples = (tone[start : start + 800] * 9000).astype(np.int16)[None]
                part = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
                part.sample_rate, part.pts = 16000, start
                output.mux(audio.encode(part))
            output.mux(audio.encode(None))
        for frame, time in zip(frames, times, strict=True):
            image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            image.pts, image.time_base = time, base
            output.mux(video.encode(image))
        output.mux(video.encode(None))
