"""Images to calibrate, fine-tune and evaluate a compressed model with.

Of each folder and each video the first three quarters are for training and calibration, the last is for evaluation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..clip import ClipError
from ..training.data.dataset import CROP_MARGIN
from ..training.data.image_files import CachedImageDataset, ImageDataset, find_files
from ..training.errors import TrainingError
from ..training.evaluate.metrics import make_lr_pair
from ..video.images.sequence_paths import IMAGE_SUFFIXES
from ..video.open import open_clip
from .errors import CompressionError

MIN_RESIZE = 0.35  # photographs from a camera have little fine detail at full size
MAX_EVAL_IMAGES = 12  # over all sources, but at least one of each
EVAL_SIDE = 384  # maximum side of the center crops for evaluation, in high-resolution pixels
MAX_CALIBRATION_CROPS = 16
CALIBRATION_SIDE = 64  # maximum side of the calibration crops, in low-resolution pixels
MAX_EVAL_CLIPS, EVAL_CLIP_FRAMES = 2, 6  # videos, and consecutive frames of each, for the warping error

Item = tuple[ImageDataset, int]
"""An image, as its dataset and its index there."""


@dataclass(frozen=True)
class Selection:
    """Images of several datasets, by dataset and index."""

    items: Sequence[Item]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int, /) -> Tensor:
        dataset, position = self.items[index]
        return dataset[position]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[index] for index in range(len(self)))


@dataclass(frozen=True)
class CalibrationData:
    """Images for training, calibration and evaluation.

    calibration_crops: low-resolution crops (1, 3, h, w) in [0, 1] of the training images. eval_images: other images,
    (3, H, W), uint8. eval_clips: consecutive frames of videos, of the same form. crop: side of the largest crop that
    all training images allow, at most 48, in low-resolution pixels. min_resize: smallest factor by which all images can
    be reduced before cropping.
    """

    train_images: ImageDataset
    calibration_crops: Sequence[Tensor]
    eval_images: Sequence[Tensor]
    eval_clips: Sequence[Sequence[Tensor]]
    crop: int
    min_resize: float


def load_calibration(sources: Sequence[str], scale: int, multiple: int) -> CalibrationData:
    """Load images, folders of images and videos. Raises CompressionError.

    scale, multiple: of the network; crops are multiples of `multiple`.
    """
    try:
        files = find_files(sources)
        groups = _group_images(files)
    except TrainingError as error:
        raise CompressionError(str(error)) from error
    images = Selection([item for group in groups for item in group])
    if len(images) < 2:
        raise CompressionError(
            f"{', '.join(sources)} holds one image; give two or more: one to train on and one to measure on"
        )
    shortest = min(min(image.shape[-2:]) for image in images)
    crop = min(48, (shortest // scale - 2 * CROP_MARGIN) // multiple * multiple)
    if crop < 16:
        raise CompressionError(f"the smallest image has {shortest} pixels a side; {scale}x needs {24 * scale} or more")
    train_images = Selection([item for group in groups for item in group[: -_eval_count(group)]])
    eval_groups = [Selection(group[-_eval_count(group) :]) for group in groups]
    per_group = max(1, MAX_EVAL_IMAGES // len(groups))
    eval_images = [_center_crop(x, EVAL_SIDE) for group in eval_groups for x in _evenly_spaced(group, per_group)]
    crops = [_center_crop(x, CALIBRATION_SIDE * scale) for x in _evenly_spaced(train_images, MAX_CALIBRATION_CROPS)]
    return CalibrationData(
        train_images,
        [make_lr_pair(x, scale)[0] for x in crops],
        eval_images,
        [_first_frames(file) for file in files if _is_video(file)][:MAX_EVAL_CLIPS],
        crop,
        max(MIN_RESIZE, (crop + 2 * CROP_MARGIN) * scale / shortest),
    )


def _group_images(files: Sequence[Path]) -> list[list[Item]]:
    """Group the frames of each video and the images of each folder.

    Images without company form one group.
    """
    photographs = [file for file in files if not _is_video(file)]
    videos: list[ImageDataset] = [CachedImageDataset([str(file)], min_side=1) for file in files if _is_video(file)]
    folders: dict[Path, list[Item]] = {}
    if photographs:
        images = CachedImageDataset([str(file) for file in photographs], min_side=1)
        for index, file in enumerate(photographs):
            folders.setdefault(file.parent, []).append((images, index))
    groups = [*folders.values(), *([(video, index) for index in range(len(video))] for video in videos)]
    single = [item for group in groups if len(group) == 1 for item in group]
    several = [group for group in groups if len(group) > 1]
    return [*several, single] if single else several


def _is_video(file: Path) -> bool:
    return file.suffix.lower() not in IMAGE_SUFFIXES


def _eval_count(group: Sequence[object]) -> int:
    return max(1, len(group) // 4)


def _evenly_spaced(dataset: ImageDataset, max_count: int) -> list[Tensor]:
    count = min(max_count, len(dataset))
    return [dataset[index * len(dataset) // count] for index in range(count)]


def _center_crop(image: Tensor, side: int) -> Tensor:
    height, width = image.shape[-2:]
    top, left = max(0, height - side) // 2, max(0, width - side) // 2
    return image[:, top : top + side, left : left + side].clone()  # a view would keep the whole image in memory


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
