"""Find Chromium for the browser tests, or install Debian's as root."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import script_support

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING_MESSAGE = (
    "there is no Chromium for the browser tests: install one (apt-get install chromium), or set STEADYSCALE_CHROMIUM "
    "to the program of a Chromium or Chrome that you have"
)


def find_chromium() -> Path | None:
    """The executable, or None; STEADYSCALE_CHROMIUM overrides the first on PATH."""
    own = os.environ.get("STEADYSCALE_CHROMIUM")
    if own:
        program = Path(own).expanduser()
        if not os.access(program, os.X_OK) or program.is_dir():
            raise script_support.SetupError(f"STEADYSCALE_CHROMIUM is {own}, which is not an executable file")
        return program
    found = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    return Path(found) if found else None


def ensure_chromium() -> None:
    """Install Chromium as root on Debian; elsewhere print what to do."""
    # The font has Chinese, Japanese and Korean letters, without which screenshots show boxes.
    missing = [
        *(["chromium"] if find_chromium() is None else []),
        *([] if _has_cjk_font() else ["fonts-droid-fallback"]),
    ]
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        if "chromium" in missing:
            print(f"  Browser tests are skipped: {MISSING_MESSAGE}")
        return
    log = script_support.DEMO_FOLDER / "logs" / "chromium.log"
    log.unlink(missing_ok=True)
    env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    with script_support.report_step(f"For the browser tests: {', '.join(missing)}"):
        # Updating the package lists takes a while, and is needed only if they are empty or outdated.
        if not script_support.run_logged(install, log, env):
            script_support.run_logged(["apt-get", "update"], log, env)
            if not script_support.run_logged(install, log, env):
                raise script_support.SetupError(
                    f"apt-get could not install {', '.join(missing)}:\n{script_support.log_tail(log)}\n"
                    f"  Full log: {log}"
                )


def _has_cjk_font() -> bool:
    """Whether a font has Chinese letters; False if fontconfig is not installed."""
    if shutil.which("fc-list") is None:
        return False
    return bool(subprocess.run(["fc-list", ":lang=zh"], capture_output=True, check=False).stdout.strip())
