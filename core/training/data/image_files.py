"""Images of files and videos, read once and cached."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ...clip import ClipError
from ...runtime.typed_torch import from_numpy
from ...video.images.image_clip import read_image
from ...video.images.sequence_paths import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from ...video.open import open_clip
from ..errors import TrainingError

MAX_LISTED_FILES = 8  # files named in an error


class ImageDataset(Protocol):
    """Images by index, each (3, H, W), uint8, RGB."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Tensor: ...


class CachedImageDataset:
    """Images by index, each (3, H, W), uint8, RGB, with a cache.

    sources: images, folders of images, and videos, of each of which `frames_per_video` are taken; with `clip_frames`,
    so many clips of that many neighboring frames, (clip_frames, 3, H, W). cache_bytes: limit of
    the cache; frames of videos stay in memory in any case. All files are read once at the start, so that a corrupt or
    too small one is reported before training starts. Thread-safe. Raises TrainingError if there are no files, if one
    cannot be read, or if an image has a side below `min_side`.
    """

    def __init__(
        self,
        sources: Sequence[str],
        *,
        min_side: int,
        frames_per_video: int = 24,
        cache_bytes: float = 8e9,
        clip_frames: int = 1,
    ) -> None:
        self._lock = threading.Lock()
        self._cache: dict[int, Tensor] = {}
        self._files: list[Path] = []  # one per image
        free_bytes, faults = cache_bytes, list[tuple[Path, str]]()
        for file in find_files(sources):
            try:
                for image in _read_and_check(file, frames_per_video, min_side, clip_frames):
                    # A frame of a video cannot be decoded again on its own.
                    if file.suffix.lower() not in IMAGE_SUFFIXES or image.numel() <= free_bytes:
                        self._cache[len(self._files)] = image
                        free_bytes -= image.numel()
                    self._files.append(file)
            except TrainingError as error:
                faults.append((file, str(error)))
        if faults:
            raise TrainingError(_describe_faults(faults))

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Tensor:
        with self._lock:
            cached = self._cache.get(index)
        return decode_image(self._files[index]) if cached is None else cached


def find_files(sources: Sequence[str]) -> list[Path]:
    """List the images and videos that the sources name or contain.

    Raises TrainingError if there are none.
    """
    files: list[Path] = []
    for source in map(Path, sources):
        candidates = sorted(source.rglob("*")) if source.is_dir() else [source]
        # A folder may hold other files too, but a file that is named itself is meant, whatever its extension.
        files += [f for f in candidates if f == source or f.suffix.lower() in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)]
    if not files:
        raise TrainingError(f"there are no images or videos in {', '.join(sources) or 'data.train, which is empty'}")
    return files


def _read_and_check(file: Path, frames_per_video: int, min_side: int, clip_frames: int) -> Iterator[Tensor]:
    """Yield the images or clips of a file.

    Raises TrainingError if it cannot be read or has a side below `min_side`.
    """
    try:
        is_image = file.suffix.lower() in IMAGE_SUFFIXES
        if is_image:
            images = iter([decode_image(file)])
        else:
            images = _read_clips(file, frames_per_video, clip_frames)
        image = None
        for image in images:
            height, width = image.shape[-2:]
            if min(height, width) < min_side:
                raise TrainingError(
                    f"{file} is {width}x{height}; these settings need {min_side} pixels a side or more; remove it "
                    "or, to train on it, lower the crop (data.crop)"
                )
            yield image
        if image is None:
            raise TrainingError(f"{file} has fewer than {clip_frames} frames (data.clip_frames); remove it")
    except ClipError as error:
        raise TrainingError(str(error)) from error


def _read_clips(file: Path, max_clips: int, clip_frames: int) -> Iterator[Tensor]:
    """Yield evenly spaced clips of a video.

    Each is (clip_frames, 3, H, W), and with clip_frames 1 a single frame (3, H, W). An incomplete clip at the end is
    left out.
    """
    video = open_clip(file)
    stride = max(clip_frames, (video.info.length or max_clips) // max_clips)
    frames: list[Tensor] = []
    for number, frame in enumerate(video.frames()):
        if number % stride >= clip_frames or number // stride >= max_clips:
            continue
        frames.append(_to_uint8(frame))
        if len(frames) == clip_frames:
            yield frames[0] if clip_frames == 1 else torch.stack(frames)
            frames.clear()


def _describe_faults(faults: Sequence[tuple[Path, str]]) -> str:
    """Describe the first fault, and list the other unusable files.

    So all can be removed at once.
    """
    (_, first), *others = faults
    if not others:
        return first
    names = ", ".join(str(file) for file, _ in others[:MAX_LISTED_FILES])
    ellipsis = ", ..." if len(others) > MAX_LISTED_FILES else ""
    return f"{first}; {len(others)} more files cannot be used either: {names}{ellipsis}"


def decode_image(file: Path) -> Tensor:
    """Decode without alpha, and 16 bits rounded to 8."""
    image = read_image(file)[..., :3]
    if image.dtype == np.uint16:
        image = np.rint(image.astype(np.float32) / 257)
    return from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), np.uint8))


def _to_uint8(frame: Tensor) -> Tensor:
    return (frame[0, :3] * 255).round().byte()
