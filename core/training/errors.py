"""The one error of training, and what it says of a disk."""

from __future__ import annotations

import shutil
from pathlib import Path


class TrainingError(Exception):
    """Training cannot begin or go on. The message names the setting, the file or the number, and the way out."""


def describe_free_space(folder: Path) -> str:
    """What the disk below a folder has left, whether or not the folder is there, for a complaint about it."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    return f"{shutil.disk_usage(there).free / 1e6:.1f} MB are free"
