"""Upscale a stream of frames with a network, tile by tile, to any size.

A stream is processed chunk by chunk; only the last frame, its output and the tiling that fits into memory are kept. The
network runs at most once per frame, at its own scale, and a bicubic resize leads to the output size. A factor above the
network's scale is thus partly bicubic: a network that runs on its own output doubles its artifacts, not the detail.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack

import torch
from torch import Tensor

from ..clip import ClipError, Frames, first_non_finite
from ..runtime.frame_buffers import empty_frames
from ..runtime.malloc import retain_freed_memory
from .deprecated_keywords import accept_deprecated_keywords
from .engine import check_engine
from .model_traits import ImageModel, ModelTraits, find_module, model_device, read_traits
from .precision import ModelRunner, dtype_candidates
from .resize import bleed_alpha, resize
from .reuse import RegionReuse
from .settings import Alpha, Engine, Precision, UpscaleSettings, UpscaleStats
from .stream import UpscaleStream
from .tile_size import plan_tiles
from .tiles import MIN_CORE, TilePlan, is_out_of_memory

log = logging.getLogger(__name__)

# Side of the crop on which dtypes are checked and memory is measured.
SAMPLE_SIZE = 192


@accept_deprecated_keywords
def upscale(
    frames: Iterator[Frames],
    model: ImageModel,
    settings: UpscaleSettings | None = None,
    *,
    device: torch.device | str | None = None,
    stats: UpscaleStats | None = None,
    first_frame: int = 0,
) -> Iterator[Frames]:
    """Upscale a stream of frames.

    Chunks (B, 3 or 4, h, w) -> chunks (B, 3 or 4, H, W), float32 on the CPU, in [0, 1], in order.

    device: where the network runs, None: where its weights are. The caller's module is not modified: for another device
    or dtype a replica runs, which lives as long as the stream. What `model` raises is raised within one tile. When
    memory runs out, tiles shrink; no frame is lost or computed twice.

    RGBA: a network of 4 channels gets all 4. For others, color goes through the network, not premultiplied and as it is
    (but see `bleed_alpha`), and `settings.alpha` decides how alpha is upscaled.

    Reuse of unchanged regions: bit-identical for compact networks on the native engine where frames fit into memory
    untiled; within rounding for others in fp32 on the CPU; elsewhere within the difference between tiles and frames.
    It keeps one frame and its output.

    stats: counts what was done, complete when the stream has ended. first_frame: number of the first frame in its clip,
    for film grain and messages.

    Raises ClipError for frames of a wrong shape or with values that are not finite (which torch would make black), for
    a model whose result does not have the size of its scale, and when memory is too small for the smallest tile.
    """
    settings = settings or UpscaleSettings()
    place = model_device(model) if device is None else torch.device(device)
    traits = check_engine(settings.engine, model, read_traits(model), place, settings.precision)
    stats = UpscaleStats() if stats is None else stats
    halo = traits.halo if settings.tiling.halo is None else settings.tiling.halo
    stream: UpscaleStream | None = None
    plan, plan_size, bytes_per_pixel = TilePlan(1, MIN_CORE), (0, 0), 0.0
    done = first_frame
    if settings.compile and find_module(model) is None:
        log.warning("%s holds no torch module, so there is nothing to compile", type(model).__name__)
    with ExitStack() as stack:
        stack.enter_context(retain_freed_memory())
        for chunk in frames:
            _check_frames(chunk, done)
            height, width = chunk.shape[-2:]
            images = _frames_to_images(chunk.float(), traits.in_channels, settings.alpha)
            per_frame = len(images) // len(chunk)
            if stream is None:
                runner = _make_runner(model, traits, place, settings)
                stack.callback(runner.close)
                bytes_per_pixel = _prepare_runner(runner, traits, images, settings.engine)
                reuse = RegionReuse(
                    settings.reuse,
                    stats,
                    traits,
                    runner,
                    halo=max(halo, traits.halo),
                    images_per_frame=per_frame,
                )
                stream = UpscaleStream(runner, traits.scale, halo, reuse, settings.postprocess)
            if plan_size != (height, width):
                plan = plan_tiles(
                    height,
                    width,
                    len(images),
                    halo,
                    place,
                    settings.tiling,
                    bytes_per_pixel,
                    layer_bytes=traits.layer_bytes,
                    full_frames=traits.prefers_full_frames,
                )
                plan_size = height, width
                log.info("%dx%d frames are upscaled in %s with a halo of %d", width, height, plan, halo)
            size = settings.size.resolve(width, height, traits.scale)
            result = empty_frames(len(images), images.shape[1], size[1], size[0])
            plan = stream.upscale_into(result, images, per_frame, done, plan)
            done += len(chunk)
            stats.engine = stream.engine_name
            yield _images_to_frames(result, chunk, traits.in_channels, settings.alpha)
            del result  # Before the next one is allocated: two large chunks need twice the memory.


def _make_runner(
    model: ImageModel, traits: ModelTraits, device: torch.device, settings: UpscaleSettings
) -> ModelRunner:
    dtypes = dtype_candidates(settings.precision, device)
    if settings.precision is Precision.AUTO:
        if find_module(model) is None:
            dtypes = dtypes[-1:]  # Weights that cannot be cast stay in their dtype.
        if not traits.supports_half:
            dtypes = tuple(dtype for dtype in dtypes if dtype is not torch.float16)
        if settings.engine is Engine.ONNX:  # It has no bfloat16.
            dtypes = tuple(dtype for dtype in dtypes if dtype is not torch.bfloat16) or dtypes
    is_torch = find_module(model) is not None and settings.engine is not Engine.ONNX
    return ModelRunner(
        model, device, dtypes, traits=traits, compiled=settings.compile and is_torch, engine=settings.engine
    )


def _prepare_runner(runner: ModelRunner, traits: ModelTraits, images: Tensor, engine: Engine) -> float:
    """Load the network and check its dtype on the middle of the first image.

    Returns the bytes that the network needs per input pixel. Raises ClipError when memory runs out.
    """
    height, width = images.shape[-2:]
    top, left = max(0, height - SAMPLE_SIZE) // 2, max(0, width - SAMPLE_SIZE) // 2
    sample = images[:1, :, top : top + SAMPLE_SIZE, left : left + SAMPLE_SIZE]
    device = runner.device
    try:
        runner.select_dtype(sample)
        # The memory of other engines is not in torch's counters.
        if device.type != "cuda" or engine is Engine.ONNX:
            return traits.estimated_activation_bytes
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        runner(sample)
        used = torch.cuda.max_memory_allocated(device) - before
        measured = max(1.0, used / (sample.shape[-2] * sample.shape[-1]))
        if traits.activation_bytes is None:
            return measured
        # A network that upscales in pieces takes less per pixel of a large frame than of the sample.
        return min(measured, 1.5 * traits.activation_bytes * runner.dtype.itemsize / 4)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ClipError(
            f"memory ran out on {device} while the network was loaded and tried on "
            f"{sample.shape[-1]}x{sample.shape[-2]} pixels; close other programs, or take a smaller network "
            "or another device"
        ) from error


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


def _check_frames(chunk: Frames, first_frame: int) -> None:
    if chunk.ndim != 4 or chunk.shape[1] not in (3, 4) or 0 in chunk.shape or not chunk.is_floating_point():
        raise ClipError(
            f"frames to upscale must be floats of shape (B, 3 or 4, H, W) with at least one pixel; "
            f"from frame {first_frame} on they are {chunk.dtype} {tuple(chunk.shape)}"
        )
    if (bad := first_non_finite(chunk)) is not None:
        raise ClipError(
            f"frame {first_frame + bad} (counted from 0) has values that are not finite; they would come out black"
        )
