"""Training pairs: high-resolution crops and their low-resolution versions.

A pair is a function of the seed, the step and its index within the step alone. No state is kept between steps, so a
resumed run sees the same pairs as an uninterrupted one, on any number of threads and processes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ...upscaling.resize import resize
from ..config.degradation import DegradationConfig
from ..config.schema import TrainConfig
from ..errors import TrainingError
from .clips import Motion, camera_margin, measure_motion, simulate_camera
from .degradations import degrade
from .image_files import CachedImageDataset, ImageDataset
from .paired import PairedImageDataset

Item = TypeVar("Item")

# Low-resolution pixels around a crop that are degraded with it and cut off afterwards: filters reach over its edges.
CROP_MARGIN = 4


@dataclass(frozen=True)
class Batch:
    """Pairs of one step, RGB in [0, 1].

    small: (B, 3, crop / scale, crop / scale). large: (B, 3, crop, crop). shift: with losses.shift_consistency, crops 2
    n and 2 n + 1 show the same place, and the second starts this many high-resolution pixels (rows, columns) further
    down and to the right, each less than a low-resolution pixel; (0, 0) with data.paired. motion: with
    data.clip_frames, of the high-resolution crops, which are clips one after the other.
    """

    step: int
    scale: int
    small: Tensor
    large: Tensor
    shift: tuple[int, int] = (0, 0)
    motion: Motion | None = None


def load_images(config: TrainConfig) -> CachedImageDataset | PairedImageDataset:
    """Load the images that crops are cut from. Raises TrainingError."""
    data = config.data
    if data.paired:
        (scale,) = config.network.scales
        min_side = data.crop // scale + 2 * CROP_MARGIN
        return PairedImageDataset(data.train, scale, min_side=min_side, cache_bytes=data.cache_gb * 1e9)
    return CachedImageDataset(
        data.train,
        min_side=min_image_side(config),
        frames_per_video=data.frames_per_video,
        cache_bytes=data.cache_gb * 1e9,
        clip_frames=data.clip_frames,
    )


def min_image_side(config: TrainConfig) -> int:
    """Return the side in pixels that an image needs for the crops of these settings."""
    margins = (2 * CROP_MARGIN + bool(config.losses.shift_consistency)) * max(config.network.scales)
    if config.data.clip_frames > 1:
        margins += 2 * camera_margin(config.data.clip_frames)
    return int(np.ceil((config.data.crop + margins) / config.data.min_resize))


def batches(
    config: TrainConfig,
    images: ImageDataset | PairedImageDataset,
    first_step: int,
    *,
    rank: int = 0,
    world_size: int = 1,
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
    frames = config.data.clip_frames
    if share % frames:
        raise TrainingError(
            f"batch {config.batch} on {world_size} processes is {share} crops for each; choose a multiple of "
            f"{frames * world_size}, for whole clips of data.clip_frames"
        )
    indices = range(rank * share, (rank + 1) * share)

    def make_batch(step: int) -> Batch:
        scale = config.network.scales[step % len(config.network.scales)]
        if frames > 1 and not isinstance(images, PairedImageDataset):
            clips = [_make_clip(config, images, step, index, scale) for index in indices[::frames]]
            small, large, flow, confidence = (torch.cat(part) for part in zip(*clips, strict=True))
            return Batch(step, scale, small, large, motion=Motion(flow, confidence))
        shift = _draw_shift(config, step, scale)
        if isinstance(images, PairedImageDataset):
            pairs = [_crop_pair(config, images, step, index, scale) for index in indices]
        else:
            pairs = [_make_pair(config, images, step, index, scale, shift) for index in indices]
        small, large = (torch.stack(side) for side in zip(*pairs, strict=True))
        return Batch(step, scale, small, large, shift)

    return prefetch_map(make_batch, range(first_step, config.steps), config.runtime.num_workers)


def _draw_shift(config: TrainConfig, step: int, scale: int) -> tuple[int, int]:
    """Draw the offset of the second crop of each pair.

    Any sub-pixel offset at low resolution, except for (0, 0). Pairs of images allow none.
    """
    if not config.losses.shift_consistency or config.data.paired:
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
    large = _draw_crop(images[int(rng.integers(len(images)))][None], config, size + shift_margin, rng)[0]
    large = _flip_rotate(large, int(rng.integers(8)))
    (large,) = _vary_colors(config, rng, large)
    down, right = is_second * shift[0], is_second * shift[1]
    large = large[:, down : down + size, right : right + size]
    if is_second:  # noise and the other degradations differ from those of the first
        rng = np.random.default_rng((config.seed, step, index))
    small = make_lr_image(large, scale, config.degrade, rng)
    margin = CROP_MARGIN * scale
    return small[:, CROP_MARGIN:-CROP_MARGIN, CROP_MARGIN:-CROP_MARGIN], large[:, margin:-margin, margin:-margin]


def _make_clip(
    config: TrainConfig, images: ImageDataset, step: int, index: int, scale: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the low- and high-resolution crops of a clip, and its motion.

    (T, 3, crop / scale, crop / scale) and (T, 3, crop, crop), in [0, 1]; flow and confidence as in `Motion`.
    """
    rng = np.random.default_rng((config.seed, step, index))
    frames, size = config.data.clip_frames, config.data.crop + 2 * CROP_MARGIN * scale
    source = images[int(rng.integers(len(images)))]
    if source.ndim == 3:
        image = _draw_crop(source[None], config, size + 2 * camera_margin(frames), rng)[0]
        large = simulate_camera(image, size, frames, rng)
    else:
        large = _draw_crop(source, config, size, rng)
    large = _flip_rotate(large, int(rng.integers(8)))
    if rng.random() < 0.5:
        large = large.flip(0)  # time backwards
    (large,) = _vary_colors(config, rng, large)
    small = make_lr_image(large, scale, config.degrade, rng)
    margin = CROP_MARGIN * scale
    large = large[..., margin:-margin, margin:-margin].contiguous()
    motion = measure_motion(large)
    return small[..., CROP_MARGIN:-CROP_MARGIN, CROP_MARGIN:-CROP_MARGIN], large, motion.flow, motion.confidence


def _crop_pair(
    config: TrainConfig, images: PairedImageDataset, step: int, index: int, scale: int
) -> tuple[Tensor, Tensor]:
    """Return a crop of a pair, the low-quality one degraded as the settings say.

    Shapes as in `_make_pair`. With losses.shift_consistency, crops 2 n and 2 n + 1 differ in their degradation alone.
    """
    is_second = index % 2 if config.losses.shift_consistency else 0
    rng = np.random.default_rng((config.seed, step, index - is_second))
    lq, gt = images[int(rng.integers(len(images)))]
    side = config.data.crop // scale + 2 * CROP_MARGIN
    top, left = _draw_position(gt, side * scale, config.data.crop_candidates, rng, multiple=scale)
    orientation = int(rng.integers(8))
    small, large = (
        _flip_rotate(image[:, top // by : top // by + size, left // by : left // by + size].float() / 255, orientation)
        for image, by, size in ((lq, scale, side), (gt, 1, side * scale))
    )
    small, large = _vary_colors(config, rng, small, large)
    if config.degrade.enabled:
        rng = np.random.default_rng((config.seed, step, index))
        small = degrade(small, side, side, config.degrade, rng)
    margin = CROP_MARGIN * scale
    return small[:, CROP_MARGIN:-CROP_MARGIN, CROP_MARGIN:-CROP_MARGIN], large[:, margin:-margin, margin:-margin]


def _draw_crop(frames: Tensor, config: TrainConfig, size: int, rng: np.random.Generator) -> Tensor:
    """Return the candidate crop with the most detail, at one place of all frames.

    (T, 3, H, W), uint8 -> resized, (T, 3, size, size) in [0, 1].
    """
    side = round(size / rng.uniform(config.data.min_resize, 1.0))
    top, left = _draw_position(frames[0], side, config.data.crop_candidates, rng)
    return resize(frames[..., top : top + side, left : left + side].float() / 255, size, size)


def _draw_position(
    image: Tensor, side: int, candidates: int, rng: np.random.Generator, *, multiple: int = 1
) -> tuple[int, int]:
    """Draw positions of a square, and return that with the most detail: top, left.

    multiple: of which both are, in pixels.
    """
    count_y, count_x = ((length - side) // multiple + 1 for length in image.shape[1:])
    positions = [
        (int(rng.integers(count_y)) * multiple, int(rng.integers(count_x)) * multiple) for _ in range(candidates)
    ]
    if candidates == 1:
        return positions[0]
    return max(positions, key=lambda at: _mean_gradient(image[:, at[0] : at[0] + side, at[1] : at[1] + side]))


def _mean_gradient(crop: Tensor) -> float:
    """Mean absolute difference of adjacent pixels.

    It is computed on the green channel, on every second row and column for speed.
    """
    green = crop[1, ::2, ::2].short()
    return float((green[1:] - green[:-1]).abs().float().mean() + (green[:, 1:] - green[:, :-1]).abs().float().mean())


def _flip_rotate(image: Tensor, orientation: int) -> Tensor:
    """Apply one of the eight symmetries of the square, 0 to 7, to (..., H, W)."""
    image = image.transpose(-2, -1) if orientation & 4 else image
    return image.flip([axis for axis, bit in ((-2, 1), (-1, 2)) if orientation & bit]).contiguous()


def _vary_colors(config: TrainConfig, rng: np.random.Generator, *images: Tensor) -> tuple[Tensor, ...]:
    """Permute the channels and raise the saturation of images, all alike.

    (..., 3, H, W) in [0, 1].
    """
    settings = config.data
    if settings.permute_colors and rng.random() < settings.permute_colors:
        order = rng.permutation(3).tolist()
        images = tuple(image[..., order, :, :] for image in images)
    if settings.max_saturation > 1:
        factor = rng.uniform(1, settings.max_saturation)
        images = tuple(torch.lerp(image.mean(-3, keepdim=True), image, factor).clamp(0, 1) for image in images)
    return images


def make_lr_image(large: Tensor, scale: int, settings: DegradationConfig, rng: np.random.Generator) -> Tensor:
    """Reduce an image, or degrade it as the settings say.

    (3, H, W) or (T, 3, H, W) -> (..., H / scale, W / scale) in steps of 1/255. The reduction is antialiased bicubic
    (a = -0.5).
    """
    height, width = (side // scale for side in large.shape[-2:])
    if settings.enabled:
        return degrade(large, height, width, settings, rng)
    frames = large if large.ndim == 4 else large[None]
    return ((resize(frames, width, height) * 255).round() / 255).view(*large.shape[:-2], height, width)


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
