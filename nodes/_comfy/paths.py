"""Resolve names from a graph to paths inside the host's folders."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import folder_paths

from ...core.clip import ClipError
from ...core.runtime.files.atomic_write import atomic_path

MODELS_FOLDER = "upscale_models"
SMOOTHERS_FOLDER = "path_smoothers"  # within models/; ours, so the host has to learn of it
MODEL_SUFFIX = ".safetensors"
_FORBIDDEN_CHARS = '<>:"|?*\0'


def input_folder() -> Path:
    """ComfyUI's input folder."""
    return Path(folder_paths.get_input_directory())


def output_folder() -> Path:
    """ComfyUI's output folder."""
    return Path(folder_paths.get_output_directory())


def temp_folder() -> Path:
    """ComfyUI's temp folder, which is emptied when it starts."""
    return Path(folder_paths.get_temp_directory())


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


def list_model_files() -> list[str]:
    """Files of the model folders, and ONNX graphs, which the host does not list."""
    roots = [Path(root) for root in folder_paths.get_folder_paths(MODELS_FOLDER)]
    graphs = {str(path.relative_to(root)) for root in roots for path in root.rglob("*.onnx")}
    return sorted({*folder_paths.get_filename_list(MODELS_FOLDER), *graphs})


def find_model_file(name: str) -> str | None:
    """The path of a file of the model folders, or None."""
    return folder_paths.get_full_path(MODELS_FOLDER, name)


def list_smoother_files() -> list[str]:
    """Weight files of learned path smoothers in the host's models folder."""
    _add_smoothers_folder()
    return [name for name in folder_paths.get_filename_list(SMOOTHERS_FOLDER) if name.endswith(MODEL_SUFFIX)]


def find_smoother_file(name: str) -> str | None:
    """The path of one of `list_smoother_files`, or None."""
    return folder_paths.get_full_path(SMOOTHERS_FOLDER, name) if name in list_smoother_files() else None


def _add_smoothers_folder() -> None:
    folder_paths.add_model_folder_path(SMOOTHERS_FOLDER, os.path.join(folder_paths.models_dir, SMOOTHERS_FOLDER))


def parse_model_name(text: str) -> str:
    """Validate a model name and remove its suffix; raises ClipError."""
    name = text.strip().removesuffix(MODEL_SUFFIX).strip()
    parts = name.replace("\\", "/").split("/")
    if not all(parts) or any(part.startswith(".") or not part.isprintable() for part in parts):
        raise ClipError(f"{text!r} is not a valid model name: use one such as my_model, or mine/my_model")
    if any(letter in name for letter in _FORBIDDEN_CHARS) or os.path.isabs(name):
        raise ClipError(f"{text!r} is not a valid model name: leave out {' '.join(_FORBIDDEN_CHARS[:-1])}")
    return "/".join(parts)


def numbered_path(prefix: str, root: Path, suffix: str, width: int, height: int) -> tuple[Path, str]:
    """An unused path, numbered by ComfyUI, and its folder relative to `root`.

    prefix: may have folders, and ComfyUI's placeholders such as %width%.
    """
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(prefix, str(root), width, height)
    return Path(folder) / f"{name}_{counter:05}_{suffix}", subfolder


def find_annotated_file(name: str, suffix: str) -> str | None:
    """The path of a file of the input or output folder, or None.

    name: may end in ` [output]`. None for names with another suffix, or outside these folders.
    """
    name, root = folder_paths.annotated_filepath(name)
    root = folder_paths.get_input_directory() if root is None else root
    allowed = (folder_paths.get_input_directory(), folder_paths.get_output_directory())
    name = name.strip()
    if root not in allowed or not name.endswith(suffix) or "\0" in name:
        return None
    return resolve_inside(root, os.path.join(root, name))


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
