"""Upscale the chunks of one stream.

It loads the network, chooses precision and tiles, and converts between frames and images.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from math import lcm

import torch
from torch import Tensor

from ..clip import ClipError, Frames
from ..runtime.device.accelerator import accelerator_for
from ..runtime.device.out_of_memory import is_out_of_memory
from .model.batch_trial import BATCHES, find_known_batch, try_batches
from .model.engine import check_engine
from .model.fastest_module import hash_structure
from .model.model_runner import ModelRunner
from .model.model_traits import ImageModel, ModelTraits, find_module, read_traits
from .model.precision import compute_modes
from .regions.reuse import RegionReuse
from .resize import bleed_alpha, resize
from .settings import Alpha, Engine, UpscaleSettings, UpscaleStats
from .stream import UpscaleStream, empty_result
from .tile_size import plan_tiles
from .tiles import ALIGN, FEATHER, MIN_CORE, WINDOW_ALIGN, TilePlan

log = logging.getLogger(__name__)

# Side of the crop on which modes are checked and memory is measured; the smaller one is for little memory.
SAMPLE_SIZE, MIN_SAMPLE_SIZE = 192, 48
# Larger frames fill a GPU one by one.
MAX_BATCHED_PIXELS = 200_000
# Chunks of a stream before a trial of batches, which takes the time of up to 75 frames.
CHUNKS_BEFORE_TRIAL = 12


class ChunkUpscaler:
    """Upscales the chunks of one stream; the network is loaded with the first one."""

    def __init__(self, model: ImageModel, settings: UpscaleSettings, device: torch.device, stats: UpscaleStats) -> None:
        self._model, self._settings, self._device, self._stats = model, settings, device, stats
        self.accelerator = accelerator_for(device)
        traits = check_engine(settings.engine, model, read_traits(model), device, settings.precision)
        self._traits = traits
        self._halo = traits.halo if settings.tiling.halo is None else settings.tiling.halo
        self._runner: ModelRunner | None = None
        self._stream: UpscaleStream | None = None
        self._plan, self._plan_size, self._bytes_per_pixel = TilePlan(1, MIN_CORE), (0, 0), 0.0
        self._planned_images = 0
        self._batched_shape, self._chunks, self._frames_at_once = torch.Size(()), 0, 1

    def frames_at_once(self, chunk: Frames) -> int:
        """How many frames like those of a chunk to compute at once.

        More than one only for small frames on a GPU, where it was faster in a trial. The chunk is the next
        one of the stream.
        """
        if chunk.shape[1:] != self._batched_shape:
            self._batched_shape, self._chunks, self._frames_at_once = chunk.shape[1:], 0, 1
        self._chunks += 1
        if self._chunks == CHUNKS_BEFORE_TRIAL + 1:
            try:
                self._frames_at_once = self._find_batch(chunk)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
        return self._frames_at_once

    def _find_batch(self, chunk: Frames) -> int:
        runner, settings, module = self._runner, self._settings, find_module(self._model)
        height, width = chunk.shape[-2:]
        can_batch = settings.engine is Engine.AUTO and not settings.compile and len(chunk) == 1
        if runner is None or module is None or not can_batch or height * width > MAX_BATCHED_PIXELS:
            return 1
        image = self._to_images(chunk)
        per_frame = len(image)
        limit = self._make_plan(height, width, per_frame * BATCHES[-1])
        if limit.core_size < max(height, width):
            return 1
        structure = hash_structure(module)
        key = structure, self.accelerator.name, torch.__version__, tuple(image.shape), runner.mode
        batch = find_known_batch(key)
        if batch is None:
            batch = try_batches(runner, image.to(self._device), limit.batch_size // per_frame, self.accelerator, key)
            runner.take_checksum()
        return batch

    def compute(self, chunk: Frames, first_frame: int, compared: Sequence[Frames] = ()) -> Frames:
        """Upscale a chunk on its device.

        For a network that reads several frames, a chunk holds windows, see `frame_windows`.
        compared: the same frames in one or more chunks, in which changes are found; empty: `chunk`.
        """
        traits, settings = self._traits, self._settings
        height, width = chunk.shape[-2:]
        images = self._to_images(chunk)
        per_frame = len(images) // len(chunk)
        compared_images = [
            image for part in compared or (chunk,) for image in torch.split(self._to_images(part), per_frame)
        ]
        runner, stream = self._prepare(images, per_frame)
        if self._plan_size != (height, width) or len(images) > self._planned_images:
            self._plan_tiles(height, width, len(images))
        size = settings.size.resolve(width, height, traits.scale)
        place = accelerator_for(images.device)
        result = empty_result(images[:, self._center_of(images)], *size, place, runner.dtype)
        self._plan = stream.upscale_into(result, images, per_frame, first_frame, self._plan, compared_images)
        self._stats.engine = runner.engine_name
        return _images_to_frames(result, chunk[:, self._center_of(chunk)], traits.in_channels, settings.alpha)

    def _to_images(self, chunk: Frames) -> Tensor:
        return _windows_to_images(
            chunk.float(), self._traits.window_frames, self._traits.in_channels, self._settings.alpha
        )

    def _center_of(self, windows: Tensor) -> slice:
        """The channels of the frame that is upscaled.

        windows: a chunk of them, or images.
        """
        channels = windows.shape[1] // self._traits.window_frames
        before = self._traits.frames_context[0]
        return slice(before * channels, (before + 1) * channels)

    def compute_again(self, chunk: Frames, first_frame: int) -> Frames:
        """Upscale a chunk in full, and do not count it.

        A chunk on the CPU is moved to the device tile by tile.
        """
        counted = replace(self._stats)
        self.reset()
        result = self.compute(chunk, first_frame)
        self.reset()
        vars(self._stats).update(vars(counted))
        return result

    def take_checksum(self) -> Tensor | None:
        """Return a number that is finite if all results since the last call are.

        It is on the device; None if there was no result.
        """
        return None if self._runner is None else self._runner.take_checksum()

    def drop_mode(self, reason: str) -> None:
        """Continue in the next compute mode. Raises ClipError if there is none."""
        assert self._runner is not None
        self._runner.drop_mode(reason)

    def reset(self) -> None:
        """Compute the next chunk in full."""
        if self._stream is not None:
            self._stream.reset()

    def close(self) -> None:
        if self._runner is not None:
            self._runner.close()

    def _prepare(self, images: Tensor, per_frame: int) -> tuple[ModelRunner, UpscaleStream]:
        if self._runner is None or self._stream is None:
            self._runner = runner = _make_runner(self._model, self._traits, self._device, self._settings)
            self._bytes_per_pixel = _prepare_runner(runner, self._traits, images, self._settings.engine)
            halo, settings = max(self._halo, self._traits.halo), self._settings
            reuse = RegionReuse(
                settings.reuse, self._stats, self._traits, runner, halo=halo, images_per_frame=per_frame
            )
            self._stream = UpscaleStream(
                runner,
                self._traits.scale,
                self._halo,
                reuse,
                settings.postprocess,
                center=self._center_of(images),
                align=lcm(WINDOW_ALIGN if self._traits.blends_tiles else ALIGN, self._traits.multiple),
                feather=min(FEATHER, self._halo) if self._traits.blends_tiles else 0,
            )
            self._stats.mode, self._stats.mode_check = runner.mode.value, str(runner.check or "")
        return self._runner, self._stream

    def _plan_tiles(self, height: int, width: int, images: int) -> None:
        self._plan_size, self._planned_images = (height, width), images
        self._plan = self._make_plan(height, width, images)
        log.info("%dx%d frames are upscaled in %s with a halo of %d", width, height, self._plan, self._halo)

    def _make_plan(self, height: int, width: int, images: int) -> TilePlan:
        return plan_tiles(
            height,
            width,
            images,
            self._halo,
            self._device,
            self._settings.tiling,
            self._bytes_per_pixel,
            layer_bytes=self._traits.layer_bytes,
            full_frames=self._traits.prefers_full_frames,
            never_tiled=self._traits.never_tiled,
        )


def _make_runner(
    model: ImageModel, traits: ModelTraits, device: torch.device, settings: UpscaleSettings
) -> ModelRunner:
    module = find_module(model)
    modes = compute_modes(
        settings.precision,
        accelerator_for(device),
        supports_half=traits.supports_half,
        can_cast=module is not None,  # Weights that cannot be cast stay in their dtype.
    )
    is_torch = module is not None and settings.engine is not Engine.ONNX
    return ModelRunner(
        model, device, modes, traits=traits, compiled=settings.compile and is_torch, engine=settings.engine
    )


def _prepare_runner(runner: ModelRunner, traits: ModelTraits, images: Tensor, engine: Engine) -> float:
    """Load the network and check its dtype on the middle of the first image.

    Returns the bytes that the network needs per input pixel. Raises ClipError when memory runs out.
    """
    side = SAMPLE_SIZE
    while True:
        height, width = images.shape[-2:]
        top, left = max(0, height - side) // 2, max(0, width - side) // 2
        sample = images[:1, :, top : top + side, left : left + side]
        try:
            return _try_runner(runner, traits, sample, engine)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if side < MIN_SAMPLE_SIZE * 2:
                raise ClipError(
                    f"memory ran out on {runner.device} while the network was loaded and tried on "
                    f"{sample.shape[-1]}x{sample.shape[-2]} pixels; close other programs, or take a smaller network "
                    "or another device"
                ) from error
        runner.accelerator.release_cache()
        side //= 2


def _try_runner(runner: ModelRunner, traits: ModelTraits, sample: Tensor, engine: Engine) -> float:
    accelerator = runner.accelerator
    runner.select_mode(sample)
    # The memory of other engines is not in the counters of torch.
    if not accelerator.reports_peak_memory or engine is Engine.ONNX:
        return traits.estimated_activation_bytes
    accelerator.reset_peak_memory()
    before = accelerator.allocated_memory()
    runner(sample)
    runner.take_checksum()
    measured = max(1.0, (accelerator.peak_memory() - before) / (sample.shape[-2] * sample.shape[-1]))
    if traits.activation_bytes is None:
        return measured
    # A network that upscales in pieces takes less per pixel of a large frame than of the sample.
    return min(measured, 1.5 * traits.activation_bytes * runner.dtype.itemsize / 4)


def _windows_to_images(windows: Frames, frames: int, channels: int, alpha: Alpha) -> Tensor:
    """Convert windows of `frames` frames to images for the network.

    (B, frames * (3 or 4), h, w) -> (B * k, frames * channels, h, w); see `_frames_to_images` for k.
    """
    if frames == 1:
        return _frames_to_images(windows, channels, alpha)
    count, _, height, width = windows.shape
    images = _frames_to_images(windows.reshape(count * frames, -1, height, width), channels, alpha)
    images = images.reshape(count, frames, -1, channels, height, width)
    return images.transpose(1, 2).reshape(-1, frames * channels, height, width)


def _frames_to_images(chunk: Frames, channels: int, alpha: Alpha) -> Tensor:
    """Convert frames to images for the network.

    (B, 3 or 4, h, w) -> (B * k, channels, h, w), the k images of a frame in a row.

    One image for RGB, or RGBA where the network takes it; a network for gray gets each channel as an image, and alpha
    that goes through a network for RGB is a gray image of its own.
    """
    if channels == 4:
        return chunk if chunk.shape[1] == 4 else torch.cat([chunk, torch.ones_like(chunk[:, :1])], dim=1)
    planes = chunk[:, :3]
    if chunk.shape[1] == 4:
        planes = bleed_alpha(chunk)
        if alpha is Alpha.NETWORK:
            planes = torch.cat([planes, chunk[:, 3:].expand(-1, 1 if channels == 1 else 3, -1, -1)], dim=1)
    return planes.reshape(-1, channels, *chunk.shape[-2:])


def _images_to_frames(result: Tensor, chunk: Frames, channels: int, alpha: Alpha) -> Frames:
    """Convert the network's result to frames: the inverse of `_frames_to_images`.

    Returns (B, 3 or 4, H, W), with as many channels as `chunk` has.
    """
    planes = result.reshape(len(chunk), -1, *result.shape[-2:])
    if chunk.shape[1] == 3:
        return planes[:, :3]
    if channels == 4:
        return planes
    if alpha is Alpha.NETWORK:
        return torch.cat([planes[:, :3], planes[:, 3:].mean(dim=1, keepdim=True)], dim=1)
    return torch.cat([planes, resize(chunk[:, 3:].float(), planes.shape[-1], planes.shape[-2])], dim=1)
