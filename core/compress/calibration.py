"""The pictures that a model is compressed with: most to learn and calibrate on, the last quarter to be judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..clip import ClipError
from ..training.data.dataset import MARGIN, Album, Pictures, found_files
from ..training.errors import TrainingError
from ..training.evaluate.metrics import small_and_large
from ..video.images.sequence_paths import SUFFIXES
from ..video.open import open_clip
from .errors import CompressionError

MOST_SHRUNK = 0.35  # photographs from a camera hold little fine detail until they are reduced
JUDGES = 12  # pictures that are measured on, at most
JUDGED = 384  # side of the middle that is measured, at most, in large pixels
SHOWN = 16  # crops for calibration and pruning, at most
SHOWN_SIDE = 64  # of them, at most, in small pixels
RUNS, RUN = 2, 6  # videos, and neighbouring frames of each, that flicker is measured on


@dataclass(frozen=True)
class Part:
    """Some of an album's pictures."""

    album: Album
    numbers: range

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, number: int, /) -> Tensor:
        return self.album[self.numbers[number]]


@dataclass(frozen=True)
class Footage:
    """learnt: to train on. shown: small crops (1, 3, h, w) in [0, 1] of the same pictures. judges: other pictures,
    (3, H, W), uint8. runs: neighbouring frames of videos, alike. crop: the largest that training can cut, up to 48, at
    input size. shrink: the factor that all pictures may be reduced by before it is cut.
    """

    learnt: Album
    shown: Sequence[Tensor]
    judges: Sequence[Tensor]
    runs: Sequence[Sequence[Tensor]]
    crop: int
    shrink: float


def gathered(sources: Sequence[str], scale: int, multiple: int) -> Footage:
    """The footage in pictures, folders of them and videos, for a network of that scale. Raises CompressionError."""
    try:
        files = found_files(sources)
        pictures = Pictures(sources, smallest=1)
    except TrainingError as error:
        raise CompressionError(str(error)) from error
    if len(pictures) < 2:
        raise CompressionError(
            f"{', '.join(sources)} holds one picture; give two or more, for what is learnt from one is judged by the "
            "other"
        )
    least = min(min(picture.shape[-2:]) for picture in pictures)
    crop = min(48, (least // scale - 2 * MARGIN) // multiple * multiple)
    if crop < 16:
        raise CompressionError(f"the smallest picture has {least} pixels a side; {scale}x wants {24 * scale} or more")
    kept = len(pictures) - max(1, len(pictures) // 4)
    learnt, judges = Part(pictures, range(kept)), Part(pictures, range(kept, len(pictures)))
    shown = [_middle(picture, SHOWN_SIDE * scale) for picture in _spread(learnt, SHOWN)]
    return Footage(
        learnt,
        [small_and_large(picture, scale)[0] for picture in shown],
        [_middle(picture, JUDGED) for picture in _spread(judges, JUDGES)],
        [_neighbours(file) for file in files if file.suffix.lower() not in SUFFIXES][:RUNS],
        crop,
        max(MOST_SHRUNK, (crop + 2 * MARGIN) * scale / least),
    )


def _spread(album: Album, most: int) -> list[Tensor]:
    count = min(most, len(album))
    return [album[index * len(album) // count] for index in range(count)]


def _middle(picture: Tensor, side: int) -> Tensor:
    height, width = picture.shape[-2:]
    top, left = max(0, height - side) // 2, max(0, width - side) // 2
    return picture[:, top : top + side, left : left + side].clone()  # a view would keep all of it in memory


def _neighbours(file: Path) -> list[Tensor]:
    frames: list[Tensor] = []
    try:
        for frame in open_clip(file).frames():
            frames.append(_middle((frame[0, :3] * 255).round().to(torch.uint8), JUDGED))
            if len(frames) == RUN:
                break
    except ClipError as error:
        raise CompressionError(str(error)) from error
    return frames
