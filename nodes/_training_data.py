"""What the nodes that learn are given to learn from: frames on a wire, or a folder inside the host's input folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import folder_paths
from comfy_api.latest import Input
from torch import Tensor

from ..core.clip import Clip, ClipError, Frames
from ..core.training.data.sources import TrainingSources, sources_from_clip, sources_from_folder
from ._comfy.adapter import with_progress
from ._comfy.paths import parse_model_name, resolve_inside
from ._video.inputs import clip_from_input

RUNS_FOLDER = "steadyscale_training"
"""Folder of runs within ComfyUI's output folder; what they learn from lies in temp under the same name."""


def find_input_folder(folder: str) -> Path | None:
    """The folder of that name within ComfyUI's input folder; None where none is named. Raises ClipError."""
    if not folder.strip():
        return None
    root = folder_paths.get_input_directory()
    path = resolve_inside(root, os.path.join(root, folder.strip())) if "\0" not in folder else None
    if path is None or not os.path.isdir(path):
        raise ClipError(f"{folder!r} is no folder inside ComfyUI's input folder: put your pictures into one there")
    return Path(path)


def validate_training_inputs(name: str, folder: str) -> bool | str:
    """Whether a model can have that name and a folder is there to learn from; otherwise what is wrong, for people."""
    try:
        parse_model_name(name)
        find_input_folder(folder)
    except ClipError as error:
        return str(error)
    return True


def prepare_training_sources(frames: Tensor | Input.Video | None, folder: str) -> TrainingSources:
    """What the nodes that learn are given: frames, or else a folder. Pictures of a clip are written into ComfyUI's temp
    folder. Raises ClipError where there is neither."""
    store = Path(folder_paths.get_temp_directory()) / RUNS_FOLDER
    if frames is None:
        source = find_input_folder(folder)
        if source is None:
            raise ClipError("there is nothing to learn from: connect frames, or name a folder inside ComfyUI/input")
        return sources_from_folder(source, store)
    return sources_from_clip(_ClipWithProgress(clip_from_input(frames)), store)


class _ClipWithProgress:
    """A clip whose reading moves the progress bar and can be cancelled."""

    def __init__(self, clip: Clip) -> None:
        self._clip, self.info = clip, clip.info

    def frames(self, batch: int = 1) -> Iterator[Frames]:
        return with_progress(self._clip.frames(batch), self.info.length, len)
