"""A real ComfyUI for the tests in this folder, with the pack linked into it.

`host` is the newest version that we test on (or the one at COMFYUI_PATH), `old_host` the oldest. Both start once, when
the first test asks. Their base directory holds the weights `realesr-animevideov3.safetensors` and the clip `CLIP`.
"""

from __future__ import annotations

from collections.abc import Iterator

import assets
import pytest
import real_comfyui
from comfyhost import Host


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with real_comfyui.start_host(assets.NEWEST_COMFYUI, tmp_path_factory.mktemp("host")) as running:
        yield running


@pytest.fixture(scope="session")
def old_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with real_comfyui.start_host(assets.OLDEST_COMFYUI, tmp_path_factory.mktemp("old_host")) as running:
        yield running


@pytest.fixture(params=["host", "old_host"])
def any_host(request: pytest.FixtureRequest) -> Host:
    """Both, one after the other: for what is not in a workflow file, all of which run on both."""
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
