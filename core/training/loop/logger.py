"""Log of a run: JSON lines and sample images."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import torch
import torch.nn.functional as F
from torch import Tensor

from ...runtime.files.atomic_write import atomic_path
from ...video.images.png_writer import write_images
from .trackers import Tracker

LOG_FILE = "log.jsonl"
SAMPLE_SIDE = 256  # maximum side of each part of a sample image, in high-resolution pixels


class RunLogger:
    """Writer of the values of a step, to a file and to trackers."""

    def __init__(self, file: TextIO, trackers: Sequence[Tracker]) -> None:
        self._file, self._trackers = file, trackers

    def log_values(self, step: int, values: Mapping[str, float]) -> None:
        """Write values by name, such as "loss/pixel", for a step."""
        rounded = {name: float(f"{value:.6g}") for name, value in values.items()}
        # JSON has neither inf nor NaN.
        self._file.write(
            json.dumps({"step": step} | {k: v for k, v in rounded.items() if abs(v) < float("inf")}) + "\n"
        )
        self._file.flush()
        for tracker in self._trackers:
            tracker.log_values(step, values)


@contextmanager
def open_log(folder: Path, step: int, trackers: Sequence[Tracker] = ()) -> Generator[RunLogger, None, None]:
    """Open the log of a run for appending after `step`.

    Lines of later steps, which an earlier process wrote, are removed. trackers: get the same values.
    """
    path = folder / LOG_FILE
    kept = [line for line in _complete_lines(path) if json.loads(line)["step"] <= step]
    with atomic_path(path) as partial:  # on a full disk the old lines stay
        partial.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    with path.open("a", encoding="utf-8") as file:
        yield RunLogger(file, trackers)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Read all complete lines of the log of a run, also while it is being written."""
    return [json.loads(line) for line in _complete_lines(folder / LOG_FILE)]


def make_sample(small: Tensor, pred: Tensor, target: Tensor) -> Tensor:
    """Put the centers of input, result and ground truth side by side.

    small (1, 3, h, w), pred and target (1, 3, H, W) -> (1, 3, at most 256, at most 3 * 256).
    """
    upscaled = F.interpolate(small, size=target.shape[-2:], mode="nearest")
    height, width = (min(SAMPLE_SIDE, side) for side in target.shape[-2:])
    top, left = (target.shape[-2] - height) // 2, (target.shape[-1] - width) // 2
    parts = [x[..., top : top + height, left : left + width].clamp(0, 1) for x in (upscaled, pred, target)]
    return torch.cat(parts, dim=-1)


def write_sample(folder: Path, name: str, image: Tensor) -> Path:
    """Write an image as folder/NAME.png, and return the path."""
    folder.mkdir(parents=True, exist_ok=True)
    write_images(folder / f"{name}.png", iter([image]))
    return folder / f"{name}.png"


def _complete_lines(path: Path) -> list[str]:
    """Return the lines of a log, without a last one that has no newline yet."""
    if not path.exists():
        return []
    return path.read_text(encoding="utf-8").split("\n")[:-1]
