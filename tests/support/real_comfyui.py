"""Start a real ComfyUI with the pack, weights and a small clip."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import archive
import assets
import av
import base_directory
import numpy as np
import pytest
import script_support
from bootstrap import DEFAULT_NETWORK
from comfyhost import Host

CLIP_NAME = "clip.mp4"
LONG_CLIP_NAME, LONG_CLIP_FRAMES = "long.mp4", 300  # a run of several seconds on any machine, to be interrupted
FRAME_COUNT, WIDTH, HEIGHT = 24, 128, 96


@contextmanager
def start_host(
    version: str, base: Path, flags: Sequence[str] = (), env: dict[str, str] | None = None
) -> Iterator[Host]:
    """Start a host on a base directory with the pack's archive, the weights and the clip CLIP_NAME.

    flags follow the names of the custom node packs that are loaded.
    """
    try:
        tree = assets.get_comfyui(version)
        weights = assets.get_weights(DEFAULT_NETWORK, Path(sys.executable))
    except script_support.SetupError as trouble:
        pytest.fail(f"no ComfyUI {version} to test on: {trouble}")
    # What the registry hands out, not the repository: a file that .comfyignore drops is missing here too.
    base_directory.create_base_directory(base, [weights], pack=archive.unpack(base / "archive"))
    write_clip(base / "input" / CLIP_NAME)
    with Host(tree, base, flags=[*base_directory.HOST_FLAGS, *flags], cpu=True, env=env) as host:
        yield host


def write_clip(path: Path, frames: int = FRAME_COUNT) -> None:
    """Write a clip of a window that moves over random blocks: every frame differs."""
    blocks = np.random.default_rng(0).integers(30, 226, (20, 24, 3), dtype=np.uint8)
    texture = blocks.repeat(8, axis=0).repeat(8, axis=1)  # 160 x 192
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt, stream.time_base = WIDTH, HEIGHT, "yuv420p", Fraction(1, 25)
        for index in range(frames):
            x, y = 20 + round(6 * np.sin(index * 1.3)) + index // 2, 20 + round(5 * np.cos(index * 1.7))
            window = np.ascontiguousarray(texture[y : y + HEIGHT, x : x + WIDTH])
            output.mux(stream.encode(av.VideoFrame.from_ndarray(window, format="rgb24")))
        output.mux(stream.encode(None))


def video_shape(path: Path) -> tuple[int, int, int]:
    """Width, height, and the number of frames that can be decoded."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return stream.width, stream.height, sum(1 for _ in container.decode(stream))
