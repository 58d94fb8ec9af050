"""Training data of the nodes: frames, or a folder of images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from comfy_api.latest import Input
from torch import Tensor

from ..core.clip import Clip, ClipError, Frames
from ..core.training.data.sources import TrainingSources, sources_from_clip, sources_from_folder
from ._comfy.adapter import with_progress
from ._comfy.paths import input_folder, parse_model_name, resolve_inside, temp_folder
from ._video.inputs import clip_from_input

RUNS_FOLDER = "steadyscale_training"
"""Folder of the runs in ComfyUI's output folder, and of their training images in its temp folder."""


def find_input_folder(folder: str) -> Path | None:
    """Return the folder of that name in ComfyUI's input folder.

    None for an empty name. Raises ClipError.
    """
    if not folder.strip():
        return None
    root = str(input_folder())
    path = resolve_inside(root, os.path.join(root, folder.strip())) if "\0" not in folder else None
    if path is None or not os.path.isdir(path):
        raise ClipError(f"{folder!r} is not a folder inside ComfyUI's input folder; put your images into one there")
    return Path(path)


def validate_training_inputs(name: str, folder: str) -> bool | str:
    """Return True if model name and folder are valid, else the error message."""
    try:
        parse_model_name(name)
        find_input_folder(folder)
    except ClipError as error:
        return str(error)
    return True


def prepare_training_sources(frames: Tensor | Input.Video | None, folder: str) -> TrainingSources:
    """Return the training data from frames or, without them, from a folder.

    Frames are written into the temp folder. Raises ClipError if there is neither.
    """
    cache_folder = temp_folder() / RUNS_FOLDER
    if frames is None:
        source = find_input_folder(folder)
        if source is None:
            raise ClipError("there is nothing to train on: connect frames, or name a folder inside ComfyUI/input")
        return sources_from_folder(source, cache_folder)
    return sources_from_clip(_ClipWithProgress(clip_from_input(frames)), cache_folder)


class _ClipWithProgress:
    """A clip that updates the progress bar and checks for a cancel while it is read."""

    def __init__(self, clip: Clip) -> None:
        self._clip, self.info = clip, clip.info

    def frames(self, batch: int = 1) -> Iterator[Frames]:
        return with_progress(self._clip.frames(batch), self.info.length, len)
