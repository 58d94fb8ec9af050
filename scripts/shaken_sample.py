"""Generate the demo's clip: a shot of the sample video with camera shake.

The sample video was filmed from a tripod, so that there is nothing to stabilize in it.
"""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from PIL import Image

SHOT_FRAMES = range(188, 238)  # a bicycle against a wall: still, sharp, and full of texture
WINDOW_SIZE = (512, 216)  # of the window that moves over the frame
SHIFT_PIXELS, TURN_DEGREES = 6.0, 0.5  # standard deviation of the shake, in pixels and in degrees


def write_shaken_clip(source: Path, target: Path) -> None:
    """Write `target`, an mp4 of 50 frames; deterministic."""
    path = make_shake_path(len(SHOT_FRAMES), SHIFT_PIXELS, TURN_DEGREES)
    with av.open(str(source)) as video, av.open(str(target), "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=25, options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = *WINDOW_SIZE, "yuv420p"
        for index, frame in enumerate(video.decode(video=0)):
            if index in SHOT_FRAMES:
                window = render_window(frame.to_image(), *path[index - SHOT_FRAMES.start])
                output.mux(stream.encode(av.VideoFrame.from_image(window)))
        output.mux(stream.encode(None))


def make_shake_path(count: int, shift_pixels: float, turn_degrees: float) -> np.ndarray:
    """(count, 3): x and y in pixels, angle in degrees, as low-pass filtered noise."""
    noise = np.random.default_rng(1).normal(size=(count + 40, 3))
    kernel = np.exp(-0.5 * (np.arange(-6, 7) / 1.5) ** 2)
    smooth = np.stack([np.convolve(column, kernel, mode="same") for column in noise.T], axis=1)[20:-20]
    return smooth / smooth.std(axis=0) * (shift_pixels, shift_pixels, turn_degrees)


def render_window(image: Image.Image, x: float, y: float, angle: float) -> Image.Image:
    """The view of a camera moved by (x, y) pixels and rotated by `angle` degrees."""
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    # Pillow's matrix maps the window to the image: rotated about the window's center, then moved.
    across, down = WINDOW_SIZE[0] / 2, WINDOW_SIZE[1] / 2
    left = image.width / 2 + x - (cos * across - sin * down)
    top = image.height / 2 + y - (sin * across + cos * down)
    return image.transform(
        WINDOW_SIZE, Image.Transform.AFFINE, (cos, -sin, left, sin, cos, top), Image.Resampling.BICUBIC
    )
