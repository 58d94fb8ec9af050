"""Fixtures: a real ComfyUI and its frontend in a real Chromium.

`frontend` comes twice: as ComfyUI 0.3.75 brings it, and a much newer one on the same server. Screenshots of what the
tests saw are left in tests-artifacts/browser/.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from importlib.metadata import version

import assets
import browser
import pytest
import real_comfyui
import script_support
from comfyhost import Host
from frontend import Frontend
from playwright.sync_api import Browser, sync_playwright

SHOTS = script_support.REPO_ROOT / "tests-artifacts" / "browser"
RUN_FRAMES = 40  # long enough for a run to be watched


@pytest.fixture(scope="session")
def get_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Host]]:
    """A host for each frontend, started when it is first asked for."""
    with ExitStack() as stack:

        @cache
        def started(kind: str) -> Host:
            flags = ["--front-end-root", str(assets.get_newest_frontend())] if kind == "newest" else []
            host = stack.enter_context(
                real_comfyui.start_host(assets.NEWEST_COMFYUI, tmp_path_factory.mktemp("browser"), flags)
            )
            real_comfyui.write_clip(
                host.base / "input" / "bikes.mp4", RUN_FRAMES
            )  # the name that the workflows ask for
            return host

        yield started


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Closed after each test module: Playwright blocks other event loops."""
    program = browser.find_chromium()
    if program is None:
        pytest.skip(browser.MISSING_MESSAGE)
    # Chromium's sandbox needs a user other than root.
    flags = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=flags)
        yield running
        running.close()


@pytest.fixture(scope="module", params=["bundled", "newest"])
def open_frontend(
    request: pytest.FixtureRequest, chromium: Browser, get_host: Callable[[str], Host]
) -> Iterator[Frontend]:
    number = assets.FRONTEND_VERSION if request.param == "newest" else version("comfyui-frontend-package")
    page = Frontend(chromium, get_host(request.param), number, SHOTS / number)
    yield page
    page.page.close()


@pytest.fixture
def frontend(open_frontend: Frontend) -> Frontend:
    """With an empty canvas."""
    open_frontend.clear_canvas()
    return open_frontend
