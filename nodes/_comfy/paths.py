"""Resolve names from a graph to paths inside the host's folders."""

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
    """The real path, with links followed, if it lies within `root`; else None."""
    real, root = os.path.realpath(path), os.path.realpath(root)
    try:
        return real if os.path.commonpath([real, root]) == root else None
    except ValueError:  # another drive
        return None


def model_folder() -> Path:
    """The folder for new models: the first of the host's folders for upscale models."""
    return Path(folder_paths.get_folder_paths(MODELS_FOLDER)[0])


def parse_model_name(text: str) -> str:
    """Validate a model name and remove its suffix; raises ClipError."""
    name = text.strip().removesuffix(MODEL_SUFFIX).strip()
    parts = name.replace("\\", "/").split("/")
    if not all(parts) or any(part.startswith(".") or not part.isprintable() for part in parts):
        raise ClipError(f"{text!r} is not a valid model name: use one such as my_model, or mine/my_model")
    if any(letter in name for letter in _FORBIDDEN_CHARS) or os.path.isabs(name):
        raise ClipError(f"{text!r} is not a valid model name: leave out {' '.join(_FORBIDDEN_CHARS[:-1])}")
    return "/".join(parts)


def copy_model_file(source: Path, root: Path, name: str) -> Path:
    """Copy a weight file or ONNX graph into `root` under a name; return the path.

    Never overwrites: an equal file of that name is kept, and for a different one the name gets a number.
    """
    number, target = 1, root / f"{name}{source.suffix}"
    while target.exists() or target.is_symlink():
        if target.is_file() and target.read_bytes() == source.read_bytes():
            return target
        number += 1
        target = root / f"{name}_{number}{source.suffix}"
    if resolve_inside(os.fspath(root), os.fspath(target)) is None:
        raise ClipError(f"{name!r} is outside {root}: use a name within that folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as partial:
        shutil.copyfile(source, partial)
    return target
