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

from ...runtime.atomic_write import appearing
from ...video.images.png_writer import write_images
from ..errors import TrainingError

LOG = "log.jsonl"
SHOWN = 256  # pixels a side, of the large picture, that sample pictures show


class Journal(Protocol):
    def tell(self, step: int, facts: Mapping[str, float]) -> None:
        """Numbers by name, such as "loss/pixel", that hold after so many steps."""
        ...


@contextmanager
def opened(folder: Path, step: int, *, tensorboard: bool) -> Iterator[Journal]:
    """The run's journal, to be written on from a step; what an earlier process wrote of later steps is taken out."""
    path = folder / LOG
    kept = [line for line in _whole_lines(path) if json.loads(line)["step"] <= step]
    with appearing(path) as partial:  # a full disk must not cost what was written before
        partial.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    board = _tensorboard(folder / "tensorboard", step) if tensorboard else None
    try:
        with path.open("a", encoding="utf-8") as file:
            yield _Journal(file, board)
    finally:
        if board is not None:
            board.close()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """All lines of a run's log so far, also while it is being written."""
    return [json.loads(line) for line in _whole_lines(folder / LOG)]


def sample_picture(small: Tensor, made: Tensor, true: Tensor) -> Tensor:
    """(1, 3, h, w), (1, 3, H, W) twice -> (1, 3, <= 256, three times that): input, result and truth, of the middle."""
    enlarged = F.interpolate(small, size=true.shape[-2:], mode="nearest")
    height, width = (min(SHOWN, side) for side in true.shape[-2:])
    top, left = (true.shape[-2] - height) // 2, (true.shape[-1] - width) // 2
    parts = [x[..., top : top + height, left : left + width].clamp(0, 1) for x in (enlarged, made, true)]
    return torch.cat(parts, dim=-1)


def write_sample(folder: Path, name: str, picture: Tensor) -> Path:
    """Write one picture as folder/NAME.png."""
    folder.mkdir(parents=True, exist_ok=True)
    write_images(folder / f"{name}.png", iter([picture]))
    return folder / f"{name}.png"


class _Journal:
    def __init__(self, file: Any, board: Any) -> None:
        self._file, self._board = file, board

    def tell(self, step: int, facts: Mapping[str, float]) -> None:
        rounded = {name: float(f"{value:.6g}") for name, value in facts.items()}
        # NaN is no JSON, and whoever plots the log has no use for it.
        self._file.write(
            json.dumps({"step": step} | {k: v for k, v in rounded.items() if abs(v) < float("inf")}) + "\n"
        )
        self._file.flush()
        if self._board is not None:
            for name, value in facts.items():
                self._board.add_scalar(name, value, step)


def _whole_lines(path: Path) -> list[str]:
    """The lines of a log; a last one without its end was being written when its process was killed."""
    if not path.exists():
        return []
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def _tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise TrainingError("keeping.tensorboard needs tensorboard: pip install 'steadyscale[train]'") from error
    return SummaryWriter(str(folder), purge_step=step + 1)
