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
from ...video.images.image_clip import read_picture
from ...video.images.sequence_paths import SUFFIXES, VIDEO_SUFFIXES
from ...video.open import open_clip
from ..config.degradation import Degradation
from ..config.schema import Config
from ..errors import TrainingError
from .degradations import degrade

Made = TypeVar("Made")

# Small pixels around a crop that its small version is made with, and cut off with: blur and reduction reach over edges.
MARGIN = 4
NAMED = 8  # files of many that a complaint lists


class Album(Protocol):
    """Good pictures by number, each (3, H, W), uint8, RGB."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> Tensor: ...


class Pictures:
    """Good pictures by number, each (3, H, W), uint8, RGB. Decoded pictures are kept while there is room.

    sources: pictures, folders of them, and videos, of which `frames` are taken. memory: bytes that may be kept.
    All files are read once at the start, so that a broken or too small one stops nobody hours later. Safe to use from
    several threads. Raises TrainingError where there is nothing, or a picture smaller than `smallest` a side.
    """

    def __init__(self, sources: Sequence[str], *, smallest: int, frames: int = 24, memory: float = 8e9) -> None:
        self._lock = threading.Lock()
        self._kept: dict[int, Tensor] = {}
        self._files: list[Path] = []  # of pictures that are kept or can be read again
        room, faults = memory, list[tuple[Path, str]]()
        for file in found_files(sources):
            try:
                for picture in _first_look(file, frames, smallest):
                    # Frames of a video cannot be read again one by one, so they stay in any case.
                    if file.suffix.lower() not in SUFFIXES or picture.numel() <= room:
                        self._kept[len(self._files)] = picture
                        room -= picture.numel()
                    self._files.append(file)
            except TrainingError as error:
                faults.append((file, str(error)))
        if faults:
            raise TrainingError(_told(faults))

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> Tensor:
        with self._lock:
            kept = self._kept.get(number)
        return _decoded(self._files[number]) if kept is None else kept


def found_files(sources: Sequence[str]) -> list[Path]:
    """Every picture and video that the sources name or hold. Raises TrainingError where there are none."""
    files: list[Path] = []
    for source in map(Path, sources):
        inside = sorted(source.rglob("*")) if source.is_dir() else [source]
        # A folder may hold other things too; what is named by itself is meant.
        files += [f for f in inside if f == source or f.suffix.lower() in (*SUFFIXES, *VIDEO_SUFFIXES)]
    if not files:
        raise TrainingError(f"there are no pictures or videos in {', '.join(sources) or 'data.train, which is empty'}")
    return files


def _first_look(file: Path, frames: int, smallest: int) -> Iterator[Tensor]:
    """The pictures in a file. Raises TrainingError where it cannot be read, or they are smaller than `smallest`."""
    try:
        for picture in [_decoded(file)] if file.suffix.lower() in SUFFIXES else _of_video(file, frames):
            height, width = picture.shape[-2:]
            if min(height, width) < smallest:
                raise TrainingError(
                    f"{file} is {width}x{height}; with these settings pictures have {smallest} pixels a side or "
                    "more; remove it or, to learn from it, lower the crop (data.crop)"
                )
            yield picture
    except ClipError as error:
        raise TrainingError(str(error)) from error


def _of_video(file: Path, frames: int) -> Iterator[Tensor]:
    clip = open_clip(file)
    every = max(1, (clip.info.length or frames) // frames)
    for number, frame in enumerate(clip.frames()):
        if number % every == 0 and number // every < frames:
            yield _stored(frame)


def _told(faults: Sequence[tuple[Path, str]]) -> str:
    """What is wrong with the first file, and which others have to go too: nobody wants to be told of one at a time."""
    (_, first), *others = faults
    if not others:
        return first
    names = ", ".join(str(file) for file, _ in others[:NAMED]) + (", ..." if len(others) > NAMED else "")
    return f"{first}; {len(others)} more cannot be learnt from either: {names}"


def _decoded(file: Path) -> Tensor:
    picture = read_picture(file)[..., :3]
    if picture.dtype == np.uint16:
        picture = np.rint(picture.astype(np.float32) / 257)
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1), np.uint8))


def _stored(frame: Tensor) -> Tensor:
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


def smallest_picture(config: Config) -> int:
    """The side that a picture must have for the crops that these settings cut."""
    edges = (2 * MARGIN + bool(config.losses.steady)) * max(config.network.scales)
    return int(np.ceil((config.data.crop + edges) / config.data.shrink))


def batches(
    config: Config, pictures: Album, first: int, *, part: int = 0, parts: int = 1
) -> Generator[Batch, None, None]:
    """The batches of steps first, first + 1, ... config.steps - 1. part, parts: which share of each is wanted."""
    share = config.batch // parts
    if config.losses.steady and share % 2:
        raise TrainingError(f"losses.steady sees crops in pairs; batch {config.batch} on {parts} processes parts them")
    numbers = range(part * share, (part + 1) * share)

    def batch(step: int) -> Batch:
        scale = config.network.scales[step % len(config.network.scales)]
        shift = _shift(config, step, scale)
        pairs = [_pair(config, pictures, step, number, scale, shift) for number in numbers]
        small, large = (torch.stack(side) for side in zip(*pairs, strict=True))
        return Batch(step, scale, small, large, shift)

    return ahead(batch, range(first, config.steps), config.machine.loaders)


def _shift(config: Config, step: int, scale: int) -> tuple[int, int]:
    """How far apart the two views of a place are: any part of a small pixel, but not none of it."""
    if not config.losses.steady:
        return (0, 0)
    rng = np.random.default_rng((config.seed, step))
    down, right = divmod(int(rng.integers(1, max(2, scale**2))), scale)
    return down, right


def _pair(
    config: Config, pictures: Album, step: int, number: int, scale: int, shift: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    room = scale if config.losses.steady else 0  # for the second view of a place
    second = number % 2 if room else 0
    rng = np.random.default_rng((config.seed, step, number - second))
    wanted = config.data.crop + 2 * MARGIN * scale
    large = _crop(pictures[int(rng.integers(len(pictures)))], config, wanted + room, rng)
    large = _turned(large, int(rng.integers(8)))
    down, right = second * shift[0], second * shift[1]
    large = large[:, down : down + wanted, right : right + wanted]
    if second:  # noise, and whatever else is made worse, is not the first one's
        rng = np.random.default_rng((config.seed, step, number))
    small = reduced(large, scale, config.degrade, rng)
    edge = MARGIN * scale
    return small[:, MARGIN:-MARGIN, MARGIN:-MARGIN], large[:, edge:-edge, edge:-edge]


def _crop(picture: Tensor, config: Config, wanted: int, rng: np.random.Generator) -> Tensor:
    """The busiest of a few places: (3, wanted, wanted) in [0, 1]."""
    side = round(wanted / rng.uniform(config.data.shrink, 1.0))
    room = (picture.shape[1] - side + 1, picture.shape[2] - side + 1)
    places = [(int(rng.integers(room[0])), int(rng.integers(room[1]))) for _ in range(config.data.candidates)]
    crops = [picture[:, top : top + side, left : left + side] for top, left in places]
    crop = (crops[0] if len(crops) == 1 else max(crops, key=_busyness)).float() / 255
    return resize(crop[None], wanted, wanted)[0]


def _busyness(crop: Tensor) -> float:
    """The mean difference of neighbouring pixels, of every second row and column."""
    green = crop[1, ::2, ::2].short()
    return float((green[1:] - green[:-1]).abs().float().mean() + (green[:, 1:] - green[:, :-1]).abs().float().mean())


def _turned(picture: Tensor, way: int) -> Tensor:
    """One of the eight ways to turn and mirror a square."""
    picture = picture.transpose(1, 2) if way & 4 else picture
    return picture.flip([axis for axis, bit in ((1, 1), (2, 2)) if way & bit]).contiguous()


def reduced(large: Tensor, scale: int, settings: Degradation, rng: np.random.Generator) -> Tensor:
    """(3, H, W) -> (3, H / scale, W / scale), in steps of 1/255: antialiased bicubic (a = -0.5), or worse."""
    height, width = large.shape[1] // scale, large.shape[2] // scale
    if settings.on:
        return degrade(large, height, width, settings, rng)
    return (resize(large[None], width, height)[0] * 255).round() / 255


def ahead(make: Callable[[int], Made], numbers: Iterable[int], threads: int) -> Generator[Made, None, None]:
    """make(number) for each number, in order, prepared a few ahead by threads; without any, when it is asked for."""
    if threads == 0:
        yield from map(make, numbers)
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="training-data")
    waiting: deque[Future[Made]] = deque()
    try:
        for number in numbers:
            waiting.append(pool.submit(make, number))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
