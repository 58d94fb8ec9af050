"""Names from a graph as places on disk: inside the host's own folders, and in nobody's place."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import folder_paths

from ...core.clip import ClipError
from ...core.runtime.atomic_write import atomic_path

MODELS_FOLDER = "upscale_models"
MODEL_SUFFIX = ".safetensors"
_FORBIDDEN_CHARS = '<>:"|?*\0'


def resolve_inside(root: str, path: str) -> str | None:
    """The real path, links followed, if it lies within `root`."""
    real, root = os.path.realpath(path), os.path.realpath(root)
    try:
        return real if os.path.commonpath([real, root]) == root else None
    except ValueError:  # another drive
        return None


def model_folder() -> Path:
    """Where new models go: the first of the host's folders for them."""
    return Path(folder_paths.get_folder_paths(MODELS_FOLDER)[0])


def parse_model_name(text: str) -> str:
    """A name for a model without its ending. Raises ClipError for one that is none, or leads elsewhere."""
    name = text.strip().removesuffix(MODEL_SUFFIX).strip()
    parts = name.replace("\\", "/").split("/")
    if not all(parts) or any(part.startswith(".") or not part.isprintable() for part in parts):
        raise ClipError(f"{text!r} is no name for a model: give one such as my_model, or mine/my_model")
    if any(letter in name for letter in _FORBIDDEN_CHARS) or os.path.isabs(name):
        raise ClipError(f"{text!r} is no name for a model: leave out {' '.join(_FORBIDDEN_CHARS[:-1])}")
    return "/".join(parts)


def copy_model_file(source: Path, root: Path, name: str) -> Path:
    """Copy a weight file or a graph into `root` as NAME with its own ending, and return its place.

    Nothing is written over: the same model under that name is left as it is, for another the name gets a number.
    """
    number, target = 1, root / f"{name}{source.suffix}"
    while target.exists() or target.is_symlink():
        if target.is_file() and target.read_bytes() == source.read_bytes():
            return target
        number += 1
        target = root / f"{name}_{number}{source.suffix}"
    if resolve_inside(os.fspath(root), os.fspath(target)) is None:
        raise ClipError(f"{name!r} leads out of {root}: give a name within it")
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as partial:
        shutil.copyfile(source, partial)
    return target
