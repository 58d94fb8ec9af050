"""What a run writes about itself: a line of JSON for each thing worth telling, TensorBoard's files, and pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ...runtime.atomic_write import atomic_path
from ...video.images.png_writer import write_images
from ..errors import TrainingError

LOG_FILE = "log.jsonl"
SAMPLE_SIDE = 256  # pixels a side, of the large picture, that sample pictures show


class RunLogger(Protocol):
    def log_values(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers by name, such as "loss/pixel", that hold after so many steps."""
        ...


@contextmanager
def open_log(folder: Path, step: int, *, tensorboard: bool) -> Iterator[RunLogger]:
    """The run's journal, to be written on from a step; what an earlier process wrote of later steps is taken out."""
    path = folder / LOG_FILE
    kept = [line for line in _complete_lines(path) if json.loads(line)["step"] <= step]
    with atomic_path(path) as partial:  # a full disk must not cost what was written before
        partial.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    board = _open_tensorboard(folder / "tensorboard", step) if tensorboard else None
    try:
        with path.open("a", encoding="utf-8") as file:
            yield _FileLogger(file, board)
    finally:
        if board is not None:
            board.close()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """All lines of a run's log so far, also while it is being written."""
    return [json.loads(line) for line in _complete_lines(folder / LOG_FILE)]


def make_sample(small: Tensor, pred: Tensor, target: Tensor) -> Tensor:
    """(1, 3, h, w), (1, 3, H, W) twice -> (1, 3, <= 256, three times that): input, result and truth, of the middle."""
    enlarged = F.interpolate(small, size=target.shape[-2:], mode="nearest")
    height, width = (min(SAMPLE_SIDE, side) for side in target.shape[-2:])
    top, left = (target.shape[-2] - height) // 2, (target.shape[-1] - width) // 2
    parts = [x[..., top : top + height, left : left + width].clamp(0, 1) for x in (enlarged, pred, target)]
    return torch.cat(parts, dim=-1)


def write_sample(folder: Path, name: str, image: Tensor) -> Path:
    """Write one picture as folder/NAME.png."""
    folder.mkdir(parents=True, exist_ok=True)
    write_images(folder / f"{name}.png", iter([image]))
    return folder / f"{name}.png"


class _FileLogger:
    def __init__(self, file: Any, writer: Any) -> None:
        self._file, self._writer = file, writer

    def log_values(self, step: int, values: Mapping[str, float]) -> None:
        rounded = {name: float(f"{value:.6g}") for name, value in values.items()}
        # NaN is no JSON, and whoever plots the log has no use for it.
        self._file.write(
            json.dumps({"step": step} | {k: v for k, v in rounded.items() if abs(v) < float("inf")}) + "\n"
        )
        self._file.flush()
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)


def _complete_lines(path: Path) -> list[str]:
    """The lines of a log; a last one without its end was being written when its process was killed."""
    if not path.exists():
        return []
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def _open_tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise TrainingError("keeping.tensorboard needs tensorboard: pip install 'steadyscale[train]'") from error
    return SummaryWriter(str(folder), purge_step=step + 1)
