"""A real ComfyUI for the tests in this folder, with the pack linked into it.

`host` is the newest version that we test on (or the one at COMFYUI_PATH), `old_host` the oldest. Both start once, when
the first test asks. Their base directory holds the weights `realesr-animevideov3.safetensors` and the clip `CLIP`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import assets
import pytest
import real_comfyui
import simulated_gpu
from comfyhost import Host

SUPPORT = Path(__file__).parents[1] / "support"
GPU_PACK = "simulated_gpu_pack"


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with real_comfyui.start_host(assets.NEWEST_COMFYUI, tmp_path_factory.mktemp("host")) as running:
        yield running


@pytest.fixture(scope="session")
def old_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with real_comfyui.start_host(assets.OLDEST_COMFYUI, tmp_path_factory.mktemp("old_host")) as running:
        yield running


@pytest.fixture(scope="session")
def gpu_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """The newest version, whose device is a GPU, simulated."""
    if not simulated_gpu.can_build():
        pytest.skip("the simulated GPU needs Linux and a C++ compiler")
    base = tmp_path_factory.mktemp("gpu_host")
    shutil.copytree(SUPPORT / GPU_PACK, base / "custom_nodes" / GPU_PACK)
    (base / "input").mkdir()
    path = os.pathsep.join(filter(None, [str(SUPPORT), os.environ.get("PYTHONPATH", "")]))
    with real_comfyui.start_host(assets.NEWEST_COMFYUI, base, [GPU_PACK], {"PYTHONPATH": path}) as running:
        yield running


@pytest.fixture(params=["host", "old_host"])
def any_host(request: pytest.FixtureRequest) -> Host:
    """Both, one after the other: for what is not in a workflow file, all of which run on both."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["host", pytest.param("old_host", marks=pytest.mark.slow)])
def each_host(request: pytest.FixtureRequest) -> Host:
    """Both, the oldest with the slow tests only: for nodes of the workflow files, which the oldest runs anyway."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def restartable_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """One that belongs to a single test, which may kill it and start it again."""
    with real_comfyui.start_host(assets.NEWEST_COMFYUI, tmp_path_factory.mktemp("mortal_host")) as running:
        yield running


@pytest.fixture(scope="session")
def clip_name() -> str:
    """The clip for LoadVideo: 24 frames of 128 x 96 at 25 fps, a moving texture."""
    return real_comfyui.CLIP_NAME
