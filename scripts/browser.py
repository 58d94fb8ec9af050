"""Finds the Chromium that the browser tests drive, and installs Debian's where there is none and apt may be used."""

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
    """The program, or None. STEADYSCALE_CHROMIUM names one to use in place of the first on PATH."""
    own = os.environ.get("STEADYSCALE_CHROMIUM")
    if own:
        program = Path(own).expanduser()
        if not os.access(program, os.X_OK) or program.is_dir():
            raise script_support.SetupError(f"STEADYSCALE_CHROMIUM is {own}, which is not a program")
        return program
    found = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    return Path(found) if found else None


def ensure_chromium() -> None:
    """Installs what is missing if this is root on a Debian; elsewhere says in one line what to do."""
    # The font has Chinese, Japanese and Korean letters, without which screenshots show boxes.
    missing = [
        *(["chromium"] if find_chromium() is None else []),
        *([] if _has_cjk_font() else ["fonts-droid-fallback"]),
    ]
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        if "chromium" in missing:
            print(f"  Browser tests are left out: {MISSING_MESSAGE}")
        return
    log = script_support.DEMO_FOLDER / "logs" / "chromium.log"
    log.unlink(missing_ok=True)
    env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    with script_support.report_step(f"For the browser tests: {', '.join(missing)}"):
        # The package lists of a fresh machine are old or empty, and those of a machine in use are mostly good enough.
        if not script_support.run_logged(install, log, env):
            script_support.run_logged(["apt-get", "update"], log, env)
            if not script_support.run_logged(install, log, env):
                raise script_support.SetupError(
                    f"apt-get could not install them:\n{script_support.log_tail(log)}\n  All of it: {log}"
                )


def _has_cjk_font() -> bool:
    """Whether some font writes Chinese. Without fontconfig nobody knows, and Chromium brings it."""
    if shutil.which("fc-list") is None:
        return False
    return bool(subprocess.run(["fc-list", ":lang=zh"], capture_output=True, check=False).stdout.strip())
