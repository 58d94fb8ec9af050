"""TrainingError, and the free disk space that its messages name."""

from __future__ import annotations

import shutil
from pathlib import Path


class TrainingError(Exception):
    """Training cannot start or continue.

    The message names the setting, file or number, and the fix.
    """


def describe_free_space(folder: Path) -> str:
    """Describe the free disk space at a folder, which need not exist."""
    existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    return f"{shutil.disk_usage(existing).free / 1e6:.1f} MB are free"
