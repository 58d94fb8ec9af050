"""Training files from a clip or a folder, with one held-out image for validation."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ...clip import Clip, ClipError, Frames
from ...runtime.files.atomic_write import temp_path
from ...video.images.png_writer import write_images
from ...video.images.sequence_paths import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from ...video.open import open_clip
from ..errors import TrainingError

MAX_FRAMES = 64  # frames of a clip that are used, evenly spaced; adjacent frames show the same content
HELD_OUT_SIDE = 384  # maximum side of the held-out image in pixels


@dataclass(frozen=True)
class TrainingSources:
    """Training files and the held-out image.

    train: files. held_out: file that validation measures on. held_out_unseen: whether it is not among the training
    files. min_side: shortest side of the images in pixels, None if unknown. digest: hash of the training data.
    """

    train: tuple[str, ...]
    held_out: str
    held_out_unseen: bool
    min_side: int | None
    digest: str


def sources_from_clip(clip: Clip, cache_folder: Path) -> TrainingSources:
    """Write up to MAX_FRAMES frames of a clip as images.

    They are in a folder within `cache_folder`. The middle one is held out if there are three or more. Raises
    TrainingError, and what the clip raises.
    """
    cache_folder.mkdir(parents=True, exist_ok=True)
    stride = max(1, -(-(clip.info.length or MAX_FRAMES) // MAX_FRAMES))
    with temp_path(cache_folder / "frames") as parent:
        written = parent / "frames"
        write_images(written, _sample_frames(clip, stride))
        digest = hash_parts(file.read_bytes() for file in sorted(written.glob("*.png")))
        folder = cache_folder / f"frames-{digest}"
        if not folder.exists():
            os.replace(written, folder)
    files = sorted(folder.glob("frame_*.png"))
    middle = files[len(files) // 2]
    is_unseen = len(files) > 2
    held_out = _write_held_out(middle, folder)
    train = tuple(os.fspath(file) for file in files if file != middle or not is_unseen)
    return TrainingSources(train, os.fspath(held_out), is_unseen, min(clip.info.width, clip.info.height), digest)


def _sample_frames(clip: Clip, stride: int) -> Iterator[Frames]:
    return islice((frame[:, :3] for number, frame in enumerate(clip.frames()) if number % stride == 0), MAX_FRAMES)


def sources_from_folder(source: Path, cache_folder: Path) -> TrainingSources:
    """Take the images and videos in `source` and its subfolders.

    The first image is held out if there are three or more, as a copy of its center in `cache_folder`. Raises
    TrainingError if there are no files.
    """
    files = sorted(file for file in source.rglob("*") if file.suffix.lower() in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))
    images = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        raise TrainingError(f"there are no images or videos in {source}")
    descriptions = (f"{file.relative_to(source)} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files)
    digest = hash_parts(description.encode() for description in descriptions)
    first = (images or files)[0]
    is_unseen = len(images) > 2
    held_out = _write_held_out(first, cache_folder / f"folder-{digest}")
    train = tuple(os.fspath(file) for file in files if file != first or not is_unseen)
    return TrainingSources(train, os.fspath(held_out), is_unseen, None, digest)


def _write_held_out(source: Path, folder: Path) -> Path:
    """Write the center of an image as a file of its own.

    Measuring a large image would take longer than training.
    """
    target = folder / "held_out.png"
    if not target.exists():
        try:
            frame = next(open_clip(source).frames())[:, :3]
        except ClipError as error:
            raise TrainingError(str(error)) from error
        height, width = (min(HELD_OUT_SIDE, side) for side in frame.shape[-2:])
        top, left = (frame.shape[-2] - height) // 2, (frame.shape[-1] - width) // 2
        folder.mkdir(parents=True, exist_ok=True)
        write_images(target, iter([frame[..., top : top + height, left : left + width]]))
    return target


def hash_parts(parts: Iterable[bytes]) -> str:
    """Hash byte strings with their boundaries: 16 digits of a SHA-256."""
    combined = hashlib.sha256()
    for part in parts:
        combined.update(hashlib.sha256(part).digest())
    return combined.hexdigest()[:16]
