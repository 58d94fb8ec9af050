"""Pairs to learn from: crops of good pictures, and what is left of them when they are small.

A pair is a function of the seed, the step and its number within the step, and of nothing else: no state is kept between
steps, so that a run that goes on sees what an unbroken one would have seen, on any number of threads and processes.
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
from ...upscaling.resize import resize
from ...video.images.image_clip import read_image
from ...video.images.sequence_paths import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from ...video.open import open_clip
from ..config.degradation import DegradationConfig
from ..config.schema import TrainConfig
from ..errors import TrainingError
from .degradations import degrade

Item = TypeVar("Item")

# Small pixels around a crop that its small version is made with, and cut off with: blur and reduction reach over edges.
CROP_MARGIN = 4
MAX_LISTED_FILES = 8  # files of many that a complaint lists


class ImageDataset(Protocol):
    """Good pictures by number, each (3, H, W), uint8, RGB."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Tensor: ...


class CachedImageDataset:
    """Good pictures by number, each (3, H, W), uint8, RGB. Decoded pictures are kept while there is room.

    sources: pictures, folders of them, and videos, of which `frames` are taken. memory: bytes that may be kept.
    All files are read once at the start, so that a broken or too small one stops nobody hours later. Safe to use from
    several threads. Raises TrainingError where there is nothing, or a picture smaller than `smallest` a side.
    """

    def __init__(
        self, sources: Sequence[str], *, min_side: int, frames_per_video: int = 24, cache_bytes: float = 8e9
    ) -> None:
        self._lock = threading.Lock()
        self._cache: dict[int, Tensor] = {}
        self._files: list[Path] = []  # of pictures that are kept or can be read again
        room, faults = cache_bytes, list[tuple[Path, str]]()
        for file in find_files(sources):
            try:
                for picture in _read_and_check(file, frames_per_video, min_side):
                    # Frames of a video cannot be read again one by one, so they stay in any case.
                    if file.suffix.lower() not in IMAGE_SUFFIXES or picture.numel() <= room:
                        self._cache[len(self._files)] = picture
                        room -= picture.numel()
                    self._files.append(file)
            except TrainingError as error:
                faults.append((file, str(error)))
        if faults:
            raise TrainingError(_describe_faults(faults))

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, index: int) -> Tensor:
        with self._lock:
            kept = self._cache.get(index)
        return _decode_image(self._files[index]) if kept is None else kept


def find_files(sources: Sequence[str]) -> list[Path]:
    """Every picture and video that the sources name or hold. Raises TrainingError where there are none."""
    files: list[Path] = []
    for source in map(Path, sources):
        inside = sorted(source.rglob("*")) if source.is_dir() else [source]
        # A folder may hold other things too; what is named by itself is meant.
        files += [f for f in inside if f == source or f.suffix.lower() in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)]
    if not files:
        raise TrainingError(f"there are no pictures or videos in {', '.join(sources) or 'data.train, which is empty'}")
    return files


def _read_and_check(file: Path, frames_per_video: int, min_side: int) -> Iterator[Tensor]:
    """The pictures in a file. Raises TrainingError where it cannot be read, or they are smaller than `smallest`."""
    try:
        for picture in (
            [_decode_image(file)]
            if file.suffix.lower() in IMAGE_SUFFIXES
            else _read_video_frames(file, frames_per_video)
        ):
            height, width = picture.shape[-2:]
            if min(height, width) < min_side:
                raise TrainingError(
                    f"{file} is {width}x{height}; with these settings pictures have {min_side} pixels a side or "
                    "more; remove it or, to learn from it, lower the crop (data.crop)"
                )
            yield picture
    except ClipError as error:
        raise TrainingError(str(error)) from error


def _read_video_frames(file: Path, max_frames: int) -> Iterator[Tensor]:
    clip = open_clip(file)
    every = max(1, (clip.info.length or max_frames) // max_frames)
    for number, frame in enumerate(clip.frames()):
        if number % every == 0 and number // every < max_frames:
            yield _to_uint8(frame)


def _describe_faults(faults: Sequence[tuple[Path, str]]) -> str:
    """What is wrong with the first file, and which others have to go too: nobody wants to be told of one at a time."""
    (_, first), *others = faults
    if not others:
        return first
    names = ", ".join(str(file) for file, _ in others[:MAX_LISTED_FILES]) + (
        ", ..." if len(others) > MAX_LISTED_FILES else ""
    )
    return f"{first}; {len(others)} more cannot be learnt from either: {names}"


def _decode_image(file: Path) -> Tensor:
    picture = read_image(file)[..., :3]
    if picture.dtype == np.uint16:
        picture = np.rint(picture.astype(np.float32) / 257)
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1), np.uint8))


def _to_uint8(frame: Tensor) -> Tensor:
    return (frame[0, :3] * 255).round().byte()


@dataclass(frozen=True)
class Batch:
    """Pairs of one step: small (B, 3, crop / scale, crop / scale) and large (B, 3, crop, crop), RGB in [0, 1].

    shift: with losses.steady, crops 2 n and 2 n + 1 are views of one place, and the second begins so many large pixels,
    rows and columns, further down and to the right, less than a small pixel each.
    """

    step: int
    scale: int
    small: Tensor
    large: Tensor
    shift: tuple[int, int] = (0, 0)


def min_image_side(config: TrainConfig) -> int:
    """The side that a picture must have for the crops that these settings cut."""
    edges = (2 * CROP_MARGIN + bool(config.losses.steady)) * max(config.network.scales)
    return int(np.ceil((config.data.crop + edges) / config.data.shrink))


def batches(
    config: TrainConfig, images: ImageDataset, first_step: int, *, rank: int = 0, world_size: int = 1
) -> Generator[Batch, None, None]:
    """The batches of steps first, first + 1, ... config.steps - 1. part, parts: which share of each is wanted."""
    share = config.batch // world_size
    if config.losses.steady and share % 2:
        raise TrainingError(
            f"losses.steady sees crops in pairs; batch {config.batch} on {world_size} processes parts them"
        )
    numbers = range(rank * share, (rank + 1) * share)

    def make_batch(step: int) -> Batch:
        scale = config.network.scales[step % len(config.network.scales)]
        shift = _draw_shift(config, step, scale)
        pairs = [_make_pair(config, images, step, number, scale, shift) for number in numbers]
        small, large = (torch.stack(side) for side in zip(*pairs, strict=True))
        return Batch(step, scale, small, large, shift)

    return prefetch_map(make_batch, range(first_step, config.steps), config.machine.loaders)


def _draw_shift(config: TrainConfig, step: int, scale: int) -> tuple[int, int]:
    """How far apart the two views of a place are: any part of a small pixel, but not none of it."""
    if not config.losses.steady:
        return (0, 0)
    rng = np.random.default_rng((config.seed, step))
    down, right = divmod(int(rng.integers(1, max(2, scale**2))), scale)
    return down, right


def _make_pair(
    config: TrainConfig, images: ImageDataset, step: int, index: int, scale: int, shift: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    room = scale if config.losses.steady else 0  # for the second view of a place
    second = index % 2 if room else 0
    rng = np.random.default_rng((config.seed, step, index - second))
    wanted = config.data.crop + 2 * CROP_MARGIN * scale
    large = _draw_crop(images[int(rng.integers(len(images)))], config, wanted + room, rng)
    large = _flip_rotate(large, int(rng.integers(8)))
    down, right = second * shift[0], second * shift[1]
    large = large[:, down : down + wanted, right : right + wanted]
    if second:  # noise, and whatever else is made worse, is not the first one's
        rng = np.random.default_rng((config.seed, step, index))
    small = make_lr_image(large, scale, config.degrade, rng)
    edge = CROP_MARGIN * scale
    return small[:, CROP_MARGIN:-CROP_MARGIN, CROP_MARGIN:-CROP_MARGIN], large[:, edge:-edge, edge:-edge]


def _draw_crop(image: Tensor, config: TrainConfig, size: int, rng: np.random.Generator) -> Tensor:
    """The busiest of a few places: (3, wanted, wanted) in [0, 1]."""
    side = round(size / rng.uniform(config.data.shrink, 1.0))
    room = (image.shape[1] - side + 1, image.shape[2] - side + 1)
    places = [(int(rng.integers(room[0])), int(rng.integers(room[1]))) for _ in range(config.data.candidates)]
    crops = [image[:, top : top + side, left : left + side] for top, left in places]
    crop = (crops[0] if len(crops) == 1 else max(crops, key=_mean_gradient)).float() / 255
    return resize(crop[None], size, size)[0]


def _mean_gradient(crop: Tensor) -> float:
    """The mean difference of neighbouring pixels, of every second row and column."""
    green = crop[1, ::2, ::2].short()
    return float((green[1:] - green[:-1]).abs().float().mean() + (green[:, 1:] - green[:, :-1]).abs().float().mean())


def _flip_rotate(image: Tensor, orientation: int) -> Tensor:
    """One of the eight ways to turn and mirror a square."""
    image = image.transpose(1, 2) if orientation & 4 else image
    return image.flip([axis for axis, bit in ((1, 1), (2, 2)) if orientation & bit]).contiguous()


def make_lr_image(large: Tensor, scale: int, settings: DegradationConfig, rng: np.random.Generator) -> Tensor:
    """(3, H, W) -> (3, H / scale, W / scale), in steps of 1/255: antialiased bicubic (a = -0.5), or worse."""
    height, width = large.shape[1] // scale, large.shape[2] // scale
    if settings.on:
        return degrade(large, height, width, settings, rng)
    return (resize(large[None], width, height)[0] * 255).round() / 255


def prefetch_map(function: Callable[[int], Item], indices: Iterable[int], threads: int) -> Generator[Item, None, None]:
    """make(number) for each number, in order, prepared a few ahead by threads; without any, when it is asked for."""
    if threads == 0:
        yield from map(function, indices)
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="training-data")
    waiting: deque[Future[Item]] = deque()
    try:
        for number in indices:
            waiting.append(pool.submit(function, number))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
