"""A real ComfyUI and its frontend in a real Chromium, for the tests in this folder.

`frontend` comes twice: as ComfyUI 0.3.75 brings it, and a much newer one on the same server. Screenshots of what the
tests saw are left in tests-artifacts/browser/.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.metadata import version

import assets
import browser
import hosts
import pytest
import steps
from frontend import Frontend
from playwright.sync_api import Browser, sync_playwright

SHOTS = steps.ROOT / "tests-artifacts" / "browser"
RUN_FRAMES = 40  # long enough for a run to be watched


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """It ends with this folder: while it is there, no other test could run an event loop of its own."""
    program = browser.find()
    if program is None:
        pytest.skip(browser.MISSING)
    # Chromium's sandbox needs a user other than root.
    flags = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=flags)
        yield running
        running.close()


@pytest.fixture(scope="package", params=["bundled", "newest"])
def opened(
    request: pytest.FixtureRequest, chromium: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Frontend]:
    flags, number = [], version("comfyui-frontend-package")
    if request.param == "newest":
        flags, number = ["--front-end-root", str(assets.newest_frontend())], assets.FRONTEND_VERSION
    with hosts.running(assets.NEWEST, tmp_path_factory.mktemp("browser"), flags) as host:
        hosts.write_clip(host.base / "input" / "bikes.mp4", RUN_FRAMES)  # the name that the workflows ask for
        page = Frontend(chromium, host, number, SHOTS / number)
        yield page
        page.page.close()


@pytest.fixture
def frontend(opened: Frontend) -> Frontend:
    """With an empty canvas."""
    opened.empty()
    return opened
