"""The enlarging stage: frames through a network, tile by tile, to any size.

A stream is enlarged one chunk at a time; nothing is kept but the last frame, its result and the cut that fitted into
memory. The network runs at most once per frame, at its own scale, and a bicubic resize takes the result to the size
that was asked for. A factor above the network's scale is thus partly bicubic: a network run on its own output doubles
its artefacts rather than the detail.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from math import inf
from typing import Protocol

import torch
from torch import Tensor

from ..clip import ClipError, Frames, first_non_finite
from ..runtime.buffer_pool import BufferPool
from ..runtime.malloc import retain_freed_memory
from .change_detection import ChangeDetector
from .deprecated_keywords import accept_deprecated_keywords
from .precision import ModelRunner, dtype_candidates, find_module, model_device, on_device
from .resize import bleed_alpha, resize
from .settings import Alpha, Precision, UpscaleSettings, UpscaleStats
from .stream import UpscaleStream
from .tile_size import declared_activation_bytes, estimate_activation_bytes, plan_tiles, widest_layer_bytes
from .tiles import MIN_CORE, TilePlan, is_out_of_memory
from .torch_compile import torch_compiled

log = logging.getLogger(__name__)

# Residual dense networks need 64 pixels of context for results within 1/255 of the whole frame's.
DEFAULT_HALO = 64
# Side of the crop that the self-check and the memory measurement run on.
SAMPLE_SIZE = 192


class ImageModel(Protocol):
    """A network that enlarges: (B, 3, h, w) in [0, 1] -> (B, 3, h * scale, w * scale), of the same dtype and device.

    Optional: `halo`, its receptive field's radius in input pixels (default 64); `in_channels`, 4 if it takes RGBA and 1
    if it takes grey (default 3; `input_channels` is read too); `supports_half`, False if fp16 is not worth a try. A
    wrapper shows what it wraps as `.model`, so that these are found there and weights can be moved and cast;
    spandrel's descriptor fits unchanged. `whole_frames`, True if a frame need not be cut for speed on the CPU.
    `makes_parts`, True if it takes `roi=(rows, columns)` of its input, slices in pixels, and saves work by making
    those alone, and `out`, where it may put them, in [0, 1], and return that; asked of the model itself, not of what it
    wraps, as are `native_steps`, `renew` and `forget` (see `models.Upscaler`), which save more.
    """

    @property
    def scale(self) -> int: ...

    def __call__(self, frames: Tensor, /) -> Tensor: ...


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
    """Enlarge frames: chunks (B, C, h, w) come in, chunks (B, C, H, W) go out, float32 on the CPU, in [0, 1], in order.

    device: where the network runs, None = where it is. Its weights are lent to that device while the stream lasts and
    are back, unchanged, when it ends, fails, is cancelled or closed. What `model` raises passes straight through,
    within one tile. When memory runs out the tiles shrink and nothing is lost or repeated.

    RGBA: a network of 4 channels gets all 4. For others colour goes through the network, not premultiplied and as it is
    (but see `without_holes`), and `alpha` says how alpha is enlarged.

    reuse: frames and tiles that did not change are not run again. Tiles of compact networks by the native engine are
    what they would have been to the last bit, where frames fit the memory uncut; others, to a rounding in fp32 on the
    CPU, and no more than tiles differ elsewhere. One frame and its result are kept for it. finish: colours, grain
    and the like, each frame by itself. compile_network: see compiled.py. tally: counts what was done; read it when the
    stream has ended. first: number of the first frame in its clip, for grain and messages.

    Raises ClipError for frames of a wrong shape or with values that are not finite (torch would make them black without
    a word), for a model that does not keep its promises, and when memory is not enough for the smallest tile.
    """
    settings = settings or UpscaleSettings()
    tiling, alpha = settings.tiling, settings.alpha
    place = model_device(model) if device is None else torch.device(device)
    scale, channels = int(model.scale), _input_channels(model)
    field = int(get_trait(model, "halo", default=DEFAULT_HALO))
    halo = field if tiling.halo is None else tiling.halo
    whole = bool(get_trait(model, "prefers_full_frames", default=False))
    enlarger: UpscaleStream | None = None
    cut, cut_for = TilePlan(1, MIN_CORE), (0, 0)
    per_pixel, done, room = inf, first_frame, BufferPool()
    with ExitStack() as stack:
        cast = stack.enter_context(on_device(model, place))
        stack.enter_context(retain_freed_memory())
        if settings.compile:
            stack.enter_context(torch_compiled(model, place))
        for chunk in frames:
            _check_frames(chunk, done)
            height, width = chunk.shape[-2:]
            images = _frames_to_images(chunk.float(), channels, alpha)
            if enlarger is None:
                runner, per_pixel = _prepare_runner(model, cast, place, settings.precision, images, scale)
                reach = int(get_trait(model, "exact_halo", default=0)) if place.type == "cpu" else 0
                counts = UpscaleStats() if stats is None else stats
                steps = runner.roi_stages if len(images) == len(chunk) else ()
                stack.callback(runner.release_cache)
                watcher = ChangeDetector(
                    settings.reuse, max(halo, field), counts, reach, supports_roi=runner.supports_roi, roi_stages=steps
                )
                enlarger = UpscaleStream(runner, scale, halo, watcher, settings.postprocess, room)
            if cut_for != (height, width):
                layer = widest_layer_bytes(model)
                cut = plan_tiles(
                    height, width, len(images), halo, place, tiling, per_pixel, layer_bytes=layer, full_frames=whole
                )
                cut_for = height, width
                log.info("%dx%d frames are enlarged in %s with a halo of %d", width, height, cut, halo)
            size = settings.size.resolve(width, height, scale)
            result = room.empty(len(images), images.shape[1], size[1], size[0])
            cut = enlarger.upscale_into(result, images, len(images) // len(chunk), done, cut)
            done += len(chunk)
            yield _images_to_frames(result, chunk, channels, alpha)
            del result  # Before the next one is made: two large chunks need twice the memory.


def _prepare_runner(
    model: ImageModel,
    cast: Callable[[torch.dtype], None],
    device: torch.device,
    precision: Precision,
    images: Tensor,
    scale: int,
) -> tuple[ModelRunner, float]:
    """The network ready to run, its format checked on the middle of the first frame, and its bytes per input pixel."""
    height, width = images.shape[-2:]
    top, left = max(0, height - SAMPLE_SIZE) // 2, max(0, width - SAMPLE_SIZE) // 2
    sample = images[:1, :, top : top + SAMPLE_SIZE, left : left + SAMPLE_SIZE]
    tries = dtype_candidates(precision, device)
    if find_module(model) is None and precision is Precision.AUTO:
        tries = tries[-1:]  # Weights that cannot be cast stay in their format.
    if precision is Precision.AUTO and not get_trait(model, "supports_half", default=True):
        tries = tuple(dtype for dtype in tries if dtype is not torch.float16)
    try:
        runner = ModelRunner(model, cast, device, tries)
        runner.select_dtype(sample)
        if device.type != "cuda":
            return runner, estimate_activation_bytes(model, scale)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        runner(sample)
        used = torch.cuda.max_memory_allocated(device) - before
        measured = max(1.0, used / (sample.shape[-2] * sample.shape[-1]))
        # A network that enlarges in pieces takes less for each pixel of a large frame than it does for the sample.
        told = declared_activation_bytes(model)
        return runner, measured if told is None else min(measured, 1.5 * told * runner.dtype.itemsize / 4)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ClipError(
            f"memory ran out on {device} while the network was loaded and tried on "
            f"{sample.shape[-1]}x{sample.shape[-2]} pixels; close other programs, or take a smaller network "
            "or another device"
        ) from error


def get_trait(model: object, *names: str, default: int) -> int:
    """What a model, or else the one that it wraps, says of itself."""
    while model is not None:
        for name in names:
            if hasattr(model, name):
                return getattr(model, name)
        model = getattr(model, "model", None)
    return default


def _input_channels(model: object) -> int:
    channels = get_trait(model, "in_channels", "input_channels", default=3)
    if channels not in (1, 3, 4):
        raise ClipError(f"the network takes {channels} channels; only those for grey (1), RGB (3) and RGBA (4) enlarge")
    return channels


def _frames_to_images(chunk: Frames, channels: int, alpha: Alpha) -> Tensor:
    """Frames (B, 3 or 4, h, w) -> pictures for the network, (B * k, channels, h, w): all k of a frame in a row.

    One for RGB, or RGBA where the network takes it; grey networks see each channel as a picture, and alpha that goes
    through a network for RGB is a grey picture of its own.
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
    """The way back: (B, 3 or 4, H, W), as many channels as `chunk` has."""
    planes = result.reshape(len(chunk), -1, *result.shape[-2:])
    if chunk.shape[1] == 3:
        return planes[:, :3]
    if channels == 4:
        return planes
    if alpha is Alpha.NETWORK:
        return torch.cat([planes[:, :3], planes[:, 3:].mean(dim=1, keepdim=True)], dim=1)
    return torch.cat([planes, resize(chunk[:, 3:].float(), planes.shape[-1], planes.shape[-2])], dim=1)


def _check_frames(chunk: Frames, frame_offset: int) -> None:
    if chunk.ndim != 4 or chunk.shape[1] not in (3, 4) or 0 in chunk.shape or not chunk.is_floating_point():
        raise ClipError(
            f"frames to enlarge must be floats of shape (B, 3 or 4, H, W) with at least one pixel; "
            f"from frame {frame_offset} on they are {chunk.dtype} {tuple(chunk.shape)}"
        )
    if (bad := first_non_finite(chunk)) is not None:
        raise ClipError(
            f"frame {frame_offset + bad} (counted from 0) has values that are not finite; they would come out black"
        )
