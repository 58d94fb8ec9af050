"""A real ComfyUI for the tests in this folder, with the pack linked into it.

`host` is the newest version that we test on (or the one at COMFYUI_PATH), `old_host` the oldest. Both start once, when
the first test asks. Their base directory holds the weights `realesr-animevideov3.safetensors` and the clip `CLIP`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import assets
import av
import basedir
import numpy as np
import pytest
import steps
from bootstrap import NETWORK
from comfyhost import Host

CLIP = "clip.mp4"
FRAMES, WIDTH, HEIGHT = 24, 128, 96


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    yield from _host(assets.NEWEST, tmp_path_factory.mktemp("host"))


@pytest.fixture(scope="session")
def old_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    yield from _host(assets.OLDEST, tmp_path_factory.mktemp("old_host"))


@pytest.fixture
def mortal_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """One that belongs to a single test, which may kill it and start it again."""
    yield from _host(assets.NEWEST, tmp_path_factory.mktemp("mortal_host"))


@pytest.fixture(scope="session")
def clip_name() -> str:
    """What LoadVideo takes as `file`: 24 frames of 128 x 96, 25 a second, a texture that moves."""
    return CLIP


def _host(version: str, base: Path) -> Iterator[Host]:
    try:
        tree = assets.host_tree(version)
        weights = assets.weights(NETWORK, Path(sys.executable))
    except steps.Trouble as trouble:
        pytest.fail(f"no ComfyUI {version} to test on: {trouble}")
    basedir.lay_out(base, [weights])
    _write_clip(base / "input" / CLIP)
    with Host(tree, base, flags=basedir.FLAGS, cpu=True) as running:
        yield running


def _write_clip(path: Path) -> None:
    """A window that wanders over blocks of random colour: no two frames are alike, and flow has something to find."""
    blocks = np.random.default_rng(0).integers(30, 226, (20, 24, 3), dtype=np.uint8)
    texture = blocks.repeat(8, axis=0).repeat(8, axis=1)  # 160 x 192
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt, stream.time_base = WIDTH, HEIGHT, "yuv420p", Fraction(1, 25)
        for index in range(FRAMES):
            x, y = 20 + round(6 * np.sin(index * 1.3)) + index // 2, 20 + round(5 * np.cos(index * 1.7))
            picture = np.ascontiguousarray(texture[y : y + HEIGHT, x : x + WIDTH])
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))
