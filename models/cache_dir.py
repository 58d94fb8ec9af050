"""The folder for downloaded weights and compiled engines."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """$STEADYSCALE_CACHE, else the user's cache folder of the system.

    It may not exist yet. On Linux that is $XDG_CACHE_HOME/steadyscale or ~/.cache/steadyscale.
    """
    if override := os.environ.get("STEADYSCALE_CACHE"):
        return Path(override)
    return Path(platformdirs.user_cache_dir("steadyscale", appauthor=False))
