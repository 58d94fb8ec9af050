"""Training pairs: high-resolution crops and their low-resolution versions.

A pair is a function of the seed, the step and its index within the step alone. No state is kept between steps, so a
resumed run sees the same pairs as an uninterrupted one, on any number of threads and processes.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from ...clip import ClipError
from ...runtime.typed_torch import from_numpy
from ...upscaling.resize import resize
from ...video.images.image_clip import read_image
from ...video.images.sequence_paths import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from ...video.open import open_clip
from ..config.degradation import DegradationConfig
from ..config.schema import TrainConfig
from ..errors import TrainingError
from .degradations import degrade

Item = TypeVar("Item")

# Low-resolution pixels around a crop that are degraded with it and cut off afterwards: filters reach over its edges.
CROP_MARGIN = 4
MAX_LISTED_FILES = 8  # files named in an error


class ImageDataset(Protocol):
    """Images by index, each (3, H, W), uint8, RGB."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Tensor: ...


class CachedImageDataset:
    """Images by index, each (3, H, W), uint8, RGB, with a cache.

    sources: images, folders of images, and videos, of each of which `frames_per_video` are taken. cache_bytes: limit of
    the cache; frames of videos stay in memory in any case. All files are read once at the start, so that a corrupt or
    too small one is reported before training starts. Thread-safe. Raises TrainingError if there are no files, if one
    cannot be read, or if an image has a side below `min_side`.
    """

    def __init__(
        self, sources: Sequence[str], *, min_side: int, frames_per_video: int = 24, cache_bytes: float = 8e9
    ) -> None:
        self._lock = threading.Lock()
        self._cache: dict[int, Tensor] = {}
        self._files: list[Path] = []  # one per image
        free_bytes, faults = cache_bytes, list[tuple[Path, str]]()
        for file in find_files(sources):
            try:
                for image in _read_and_check(file, frames_per_video, min_side):
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
        return _decode_image(self._files[index]) if cached is None else cached


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


def _read_and_check(file: Path, frames_per_video: int, min_side: int) -> Iterator[Tensor]:
    """Yield the images of a file.

    Raises TrainingError if it cannot be read or has a side below `min_side`.
    """
    try:
        is_image = file.suffix.lower() in IMAGE_SUFFIXES
        for image in [_decode_image(file)] if is_image else _read_video_frames(file, frames_per_video):
            height, width = image.shape[-2:]
            if min(height, width) < min_side:
                raise TrainingError(
                    f"{file} is {width}x{height}; these settings need {min_side} pixels a side or more; remove it "
                    "or, to train on it, lower the crop (data.crop)"
                )
            yield image
    except ClipError as error:
        raise TrainingError(str(error)) from error


def _read_video_frames(file: Path, max_frames: int) -> Iterator[Tensor]:
    clip = open_clip(file)
    stride = max(1, (clip.info.length or max_frames) // max_frames)
    for number, frame in enumerate(clip.frames()):
        if number % stride == 0 and number // stride < max_frames:
            yield _to_uint8(frame)


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


def _decode_image(file: Path) -> Tensor:
    """Decode without alpha, and 16 bits rounded to 8."""
    image = read_image(file)[..., :3]
    if image.dtype == np.uint16:
        image = np.rint(image.astype(np.float32) / 257)
    return from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), np.uint8))


def _to_uint8(frame: Tensor) -> Tensor:
    return (frame[0, :3] * 255).round().byte()


@dataclass(frozen=True)
class Batch:
    """Pairs of one step, RGB in [0, 1].

    small: (B, 3, crop / scale, crop / scale). large: (B, 3, crop, crop). shift: with losses.shift_consistency, crops 2
    n and 2 n + 1 show the same place, and the second starts this many high-resolution pixels (rows, columns) further
    down and to the right, each less than a low-resolution pixel.
    """

    step: int
    scale: int
    small: Tensor
    large: Tensor
    shift: tuple[int, int] = (0, 0)


def min_image_side(config: TrainConfig) -> int:
    """Return the side in pixels that an image needs for the crops of these settings."""
    margins = (2 * CROP_MARGIN + bool(config.losses.shift_consistency)) * max(config.network.scales)
    return int(np.ceil((config.data.crop + margins) / config.data.min_resize))


def batches(
    config: TrainConfig, images: ImageDataset, first_step: int, *, rank: int = 0, world_size: int = 1
) -> Generator[Batch, None, None]:
    """Yield the batches of steps first_step ... config.steps - 1.

    rank, world_size: index of this process and number of processes, which divide each batch among them.
    """
    share = config.batch // world_size
    if config.losses.shift_consistency and share % 2:
        raise TrainingError(
            f"losses.shift_consistency needs pairs of crops; batch {config.batch} on {world_size} processes is an odd "
            "number for each"
        )
    indices = range(rank * share, (rank + 1) * share)

    def make_batch(step: int) -> Batch:
        scale = config.network.scales[step % len(config.network.scales)]
        shift = _draw_shift(config, step, scale)
        pairs = [_make_pair(config, images, step, index, scale, shift) for index in indices]
        small, large = (torch.stack(side) for side in zip(*pairs, strict=True))
        return Batch(step, scale, small, large, shift)

    return prefetch_map(make_batch, range(first_step, config.steps), config.runtime.num_workers)


def _draw_shift(config: TrainConfig, step: int, scale: int) -> tuple[int, int]:
    """Draw the offset of the second crop of each pair.

    Any sub-pixel offset at low resolution, except for (0, 0).
    """
    if not config.losses.shift_consistency:
        return (0, 0)
    rng = np.random.default_rng((config.seed, step))
    down, right = divmod(int(rng.integers(1, max(2, scale**2))), scale)
    return down, right


def _make_pair(
    config: TrainConfig, images: ImageDataset, step: int, index: int, scale: int, shift: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Return a low-resolution crop and its high-resolution crop.

    (3, crop / scale, crop / scale) and (3, crop, crop), in [0, 1].
    """
    shift_margin = scale if config.losses.shift_consistency else 0
    is_second = index % 2 if shift_margin else 0
    # Both crops of a pair draw the same place and orientation.
    rng = np.random.default_rng((config.seed, step, index - is_second))
    size = config.data.crop + 2 * CROP_MARGIN * scale
    large = _draw_crop(images[int(rng.integers(len(images)))], config, size + shift_margin, rng)
    large = _flip_rotate(large, int(rng.integers(8)))
    down, right = is_second * shift[0], is_second * shift[1]
    large = large[:, down : down + size, right : right + size]
    if is_second:  # noise and the other degradations differ from those of the first
        rng = np.random.default_rng((config.seed, step, index))
    small = make_lr_image(large, scale, config.degrade, rng)
    margin = CROP_MARGIN * scale
    return small[:, CROP_MARGIN:-CROP_MARGIN, CROP_MARGIN:-CROP_MARGIN], large[:, margin:-margin, margin:-margin]


def _draw_crop(image: Tensor, config: TrainConfig, size: int, rng: np.random.Generator) -> Tensor:
    """Return the candidate crop with the most detail.

    Resized: (3, size, size) in [0, 1].
    """
    side = round(size / rng.uniform(config.data.min_resize, 1.0))
    positions = (image.shape[1] - side + 1, image.shape[2] - side + 1)
    candidates = [
        (int(rng.integers(positions[0])), int(rng.integers(positions[1]))) for _ in range(config.data.crop_candidates)
    ]
    crops = [image[:, top : top + side, left : left + side] for top, left in candidates]
    crop = (crops[0] if len(crops) == 1 else max(crops, key=_mean_gradient)).float() / 255
    return resize(crop[None], size, size)[0]


def _mean_gradient(crop: Tensor) -> float:
    """Mean absolute difference of adjacent pixels.

    Of the green channel, on every second row and column for speed.
    """
    green = crop[1, ::2, ::2].short()
    return float((green[1:] - green[:-1]).abs().float().mean() + (green[:, 1:] - green[:, :-1]).abs().float().mean())


def _flip_rotate(image: Tensor, orientation: int) -> Tensor:
    """Apply one of the eight symmetries of the square. orientation: 0 to 7."""
    image = image.transpose(1, 2) if orientation & 4 else image
    return image.flip([axis for axis, bit in ((1, 1), (2, 2)) if orientation & bit]).contiguous()


def make_lr_image(large: Tensor, scale: int, settings: DegradationConfig, rng: np.random.Generator) -> Tensor:
    """Reduce an image, or degrade it as the settings say.

    (3, H, W) -> (3, H / scale, W / scale) in steps of 1/255. The reduction is antialiased bicubic (a = -0.5).
    """
    height, width = large.shape[1] // scale, large.shape[2] // scale
    if settings.enabled:
        return degrade(large, height, width, settings, rng)
    return (resize(large[None], width, height)[0] * 255).round() / 255


def prefetch_map(function: Callable[[int], Item], indices: Iterable[int], threads: int) -> Generator[Item, None, None]:
    """Yield function(index) in order, computed ahead by threads.

    At most `threads` + 1 items ahead; with 0 threads, in the calling thread.
    """
    if threads == 0:
        yield from map(function, indices)
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="training-data")
    pending: deque[Future[Item]] = deque()
    try:
        for index in indices:
            pending.append(pool.submit(function, index))
            if len(pending) > threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
