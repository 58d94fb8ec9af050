"""Fixtures: a real ComfyUI and its frontend in a real Chromium.

`frontend` is the newest frontend with its two canvases, classic and Nodes 2.0, and for a few tests the oldest that we
support. One host and one Chromium serve all tests. Screenshots are left in tests-artifacts/browser/.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import assets
import browser
import pytest
import real_comfyui
import script_support
from comfyhost import Host
from frontend import CANVASES, NEWEST, Frontend
from playwright.sync_api import Browser, sync_playwright

SHOTS = script_support.REPO_ROOT / "tests-artifacts" / "browser"
RUN_FRAMES = 40  # long enough for a run to be watched

_chromium_stack = ExitStack()


def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """Close Chromium after the last test of this folder: Playwright blocks other event loops."""
    if nextitem is None or nextitem.path.parent != Path(__file__).parent:
        open_frontend.cache_clear()
        _chromium_stack.close()


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host with the newest frontend."""
    flags = ["--front-end-root", str(assets.get_frontend(assets.newest_frontend()[0]))]
    with real_comfyui.start_host(assets.NEWEST_COMFYUI, tmp_path_factory.mktemp("browser"), flags) as running:
        # The name that the workflows ask for.
        real_comfyui.write_clip(running.base / "input" / "bikes.mp4", RUN_FRAMES)
        real_comfyui.write_clip(running.base / "input" / real_comfyui.LONG_CLIP_NAME, real_comfyui.LONG_CLIP_FRAMES)
        yield running


@pytest.fixture
def frontend(request: pytest.FixtureRequest, host: Host) -> Frontend:
    """An empty canvas."""
    kind, is_nodes_2 = CANVASES[request.param]
    page = open_frontend(host, kind)
    page.clear_canvas()
    page.use_canvas("nodes2" if is_nodes_2 else "classic")
    return page


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Both canvases of the newest frontend, unless a test names others."""
    marks = metafunc.definition.iter_markers("parametrize")
    if "frontend" in metafunc.fixturenames and not any("frontend" in mark.args[0] for mark in marks):
        metafunc.parametrize("frontend", ["nodes2", "classic"], indirect=True)


@cache
def open_frontend(host: Host, kind: str) -> Frontend:
    """The page of the newest or the oldest frontend, opened when it is first asked for."""
    if kind == NEWEST:
        return Frontend(_launch_chromium(), host, assets.newest_frontend()[0], SHOTS)
    folder = assets.get_frontend(assets.OLDEST_FRONTEND)
    return Frontend(_launch_chromium(), host, assets.OLDEST_FRONTEND, SHOTS, folder)


@cache
def _launch_chromium() -> Browser:
    program = browser.find_chromium()
    if program is None:
        pytest.skip(browser.MISSING_MESSAGE)
    # Chromium's sandbox needs a user other than root. The page of the oldest frontend comes from no address, and could
    # not open a web socket to a local one.
    flags = [
        "--disable-gpu",
        "--disable-features=LocalNetworkAccessChecks",
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
    ]
    running = _chromium_stack.enter_context(sync_playwright()).chromium.launch(executable_path=program, args=flags)
    _chromium_stack.callback(running.close)
    _chromium_stack.callback(_launch_chromium.cache_clear)
    return running
