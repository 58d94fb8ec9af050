"""What the nodes that learn are given to learn from: frames on a wire, or a folder inside the host's input folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import folder_paths
from comfy_api.latest import Input
from torch import Tensor

from ..core.clip import Clip, ClipError, Frames
from ..core.training.data.sources import Material, of_folder, of_frames
from ._comfy.adapter import watched
from ._comfy.paths import inside, model_name
from ._video.inputs import clip_of

RUNS = "steadyscale_training"
"""Folder of runs within ComfyUI's output folder; what they learn from lies in temp under the same name."""


def source_of(folder: str) -> Path | None:
    """The folder of that name within ComfyUI's input folder; None where none is named. Raises ClipError."""
    if not folder.strip():
        return None
    root = folder_paths.get_input_directory()
    path = inside(root, os.path.join(root, folder.strip())) if "\0" not in folder else None
    if path is None or not os.path.isdir(path):
        raise ClipError(f"{folder!r} is no folder inside ComfyUI's input folder: put your pictures into one there")
    return Path(path)


def accepted(name: str, folder: str) -> bool | str:
    """Whether a model can have that name and a folder is there to learn from; otherwise what is wrong, for people."""
    try:
        model_name(name)
        source_of(folder)
    except ClipError as error:
        return str(error)
    return True


def material_of(frames: Tensor | Input.Video | None, folder: str) -> Material:
    """What the nodes that learn are given: frames, or else a folder. Pictures of a clip are written into ComfyUI's temp
    folder. Raises ClipError where there is neither."""
    store = Path(folder_paths.get_temp_directory()) / RUNS
    if frames is None:
        source = source_of(folder)
        if source is None:
            raise ClipError("there is nothing to learn from: connect frames, or name a folder inside ComfyUI/input")
        return of_folder(source, store)
    return of_frames(_Watched(clip_of(frames)), store)


class _Watched:
    """A clip whose reading moves the progress bar and can be cancelled."""

    def __init__(self, clip: Clip) -> None:
        self._clip, self.info = clip, clip.info

    def frames(self, batch: int = 1) -> Iterator[Frames]:
        return watched(self._clip.frames(batch), self.info.length, len)
