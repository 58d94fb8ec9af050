"""The user's cache folder for files that can be recreated."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """$STEADYSCALE_CACHE, else the user's cache folder of the system.

    The same as that of `models.cache_dir`, which core and models cannot share. It may not exist yet.
    """
    if override := os.environ.get("STEADYSCALE_CACHE"):
        return Path(override)
    import platformdirs

    return Path(platformdirs.user_cache_dir("steadyscale", appauthor=False))
