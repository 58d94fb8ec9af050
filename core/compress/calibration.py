"""The pictures that a model is compressed with: most to learn and calibrate on, the last quarter to be judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..clip import ClipError
from ..training.data.dataset import CROP_MARGIN, CachedImageDataset, ImageDataset, find_files
from ..training.errors import TrainingError
from ..training.evaluate.metrics import make_lr_pair
from ..video.images.sequence_paths import IMAGE_SUFFIXES
from ..video.open import open_clip
from .errors import CompressionError

MIN_RESIZE = 0.35  # photographs from a camera hold little fine detail until they are reduced
MAX_EVAL_IMAGES = 12  # pictures that are measured on, at most
EVAL_SIDE = 384  # side of the middle that is measured, at most, in large pixels
MAX_CALIBRATION_CROPS = 16  # crops for calibration and pruning, at most
CALIBRATION_SIDE = 64  # of them, at most, in small pixels
MAX_EVAL_CLIPS, EVAL_CLIP_FRAMES = 2, 6  # videos, and neighbouring frames of each, that flicker is measured on


@dataclass(frozen=True)
class Subset:
    """Some of an album's pictures."""

    dataset: ImageDataset
    indices: range

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int, /) -> Tensor:
        return self.dataset[self.indices[index]]


@dataclass(frozen=True)
class CalibrationData:
    """learnt: to train on. shown: small crops (1, 3, h, w) in [0, 1] of the same pictures. judges: other pictures,
    (3, H, W), uint8. runs: neighbouring frames of videos, alike. crop: the largest that training can cut, up to 48, at
    input size. shrink: the factor that all pictures may be reduced by before it is cut.
    """

    train_images: ImageDataset
    calibration_crops: Sequence[Tensor]
    eval_images: Sequence[Tensor]
    eval_clips: Sequence[Sequence[Tensor]]
    crop: int
    min_resize: float


def load_calibration(sources: Sequence[str], scale: int, multiple: int) -> CalibrationData:
    """The footage in pictures, folders of them and videos, for a network of that scale. Raises CompressionError."""
    try:
        files = find_files(sources)
        pictures = CachedImageDataset(sources, min_side=1)
    except TrainingError as error:
        raise CompressionError(str(error)) from error
    if len(pictures) < 2:
        raise CompressionError(
            f"{', '.join(sources)} holds one picture; give two or more, for what is learnt from one is judged by the "
            "other"
        )
    least = min(min(picture.shape[-2:]) for picture in pictures)
    crop = min(48, (least // scale - 2 * CROP_MARGIN) // multiple * multiple)
    if crop < 16:
        raise CompressionError(f"the smallest picture has {least} pixels a side; {scale}x wants {24 * scale} or more")
    kept = len(pictures) - max(1, len(pictures) // 4)
    learnt, judges = Subset(pictures, range(kept)), Subset(pictures, range(kept, len(pictures)))
    shown = [
        _center_crop(picture, CALIBRATION_SIDE * scale) for picture in _evenly_spaced(learnt, MAX_CALIBRATION_CROPS)
    ]
    return CalibrationData(
        learnt,
        [make_lr_pair(picture, scale)[0] for picture in shown],
        [_center_crop(picture, EVAL_SIDE) for picture in _evenly_spaced(judges, MAX_EVAL_IMAGES)],
        [_first_frames(file) for file in files if file.suffix.lower() not in IMAGE_SUFFIXES][:MAX_EVAL_CLIPS],
        crop,
        max(MIN_RESIZE, (crop + 2 * CROP_MARGIN) * scale / least),
    )


def _evenly_spaced(dataset: ImageDataset, max_count: int) -> list[Tensor]:
    count = min(max_count, len(dataset))
    return [dataset[index * len(dataset) // count] for index in range(count)]


def _center_crop(image: Tensor, side: int) -> Tensor:
    height, width = image.shape[-2:]
    top, left = max(0, height - side) // 2, max(0, width - side) // 2
    return image[:, top : top + side, left : left + side].clone()  # a view would keep all of it in memory


def _first_frames(file: Path) -> list[Tensor]:
    frames: list[Tensor] = []
    try:
        for frame in open_clip(file).frames():
            frames.append(_center_crop((frame[0, :3] * 255).round().to(torch.uint8), EVAL_SIDE))
            if len(frames) == EVAL_CLIP_FRAMES:
                break
    except ClipError as error:
        raise CompressionError(str(error)) from error
    return frames
