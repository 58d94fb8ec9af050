"""Where this package keeps what it has downloaded or compiled."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """$STEADYSCALE_CACHE, else $XDG_CACHE_HOME/steadyscale, else ~/.cache/steadyscale. It need not exist yet."""
    if chosen := os.environ.get("STEADYSCALE_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "steadyscale"
