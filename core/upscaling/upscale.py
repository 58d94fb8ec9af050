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

from ..clip import ClipError, Frames, not_finite
from ..runtime.buffer_pool import Room
from ..runtime.malloc import kept_pages
from .change_detection import Watcher
from .precision import Runner, borrowed, formats, home_of, module_of
from .resize import resize, without_holes
from .settings import Alpha, Finish, Precision, Reuse, Tally, Target, Tiling
from .stream import Enlarger
from .tile_size import choose_cut, guessed_bytes, layer_bytes, told_bytes
from .tiles import SMALLEST_CORE, Cut, is_out_of_memory
from .torch_compile import compiled

log = logging.getLogger(__name__)

# Residual dense networks need 64 pixels of context for results within 1/255 of the whole frame's.
DEFAULT_HALO = 64
# Side of the crop that the self-check and the memory measurement run on.
SAMPLE = 192


class ImageModel(Protocol):
    """A network that enlarges: (B, 3, h, w) in [0, 1] -> (B, 3, h * scale, w * scale), of the same dtype and device.

    Optional: `halo`, its receptive field's radius in input pixels (default 64); `in_channels`, 4 if it takes RGBA and 1
    if it takes grey (default 3; `input_channels` is read too); `supports_half`, False if fp16 is not worth a try. A
    wrapper shows what it wraps as `.model`, so that these are found there and weights can be moved and cast;
    spandrel's descriptor fits unchanged. `whole_frames`, True if a frame need not be cut for speed on the CPU.
    `makes_parts`, True if it takes `wanted=(rows, columns)` of its input, slices in pixels, and saves work by making
    those alone, and `out`, where it may put them, in [0, 1], and return that; asked of the model itself, not of what it
    wraps, as are `native_steps`, `renew` and `forget` (see `models.Upscaler`), which save more.
    """

    @property
    def scale(self) -> int: ...

    def __call__(self, frames: Tensor, /) -> Tensor: ...


def upscale(
    frames: Iterator[Frames],
    model: ImageModel,
    *,
    target: Target = Target(),  # noqa: B008, it is frozen
    tiling: Tiling = Tiling(),  # noqa: B008
    precision: Precision = Precision.AUTO,
    device: torch.device | str | None = None,
    reuse: Reuse = Reuse(),  # noqa: B008
    finish: Finish = Finish(),  # noqa: B008
    alpha: Alpha = Alpha.RESIZE,
    compile_network: bool = False,
    tally: Tally | None = None,
    first: int = 0,
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
    place = home_of(model) if device is None else torch.device(device)
    scale, channels = int(model.scale), _channels_of(model)
    field = int(trait(model, "halo", default=DEFAULT_HALO))
    halo = field if tiling.halo is None else tiling.halo
    whole = bool(trait(model, "whole_frames", default=False))
    enlarger: Enlarger | None = None
    cut, cut_for = Cut(1, SMALLEST_CORE), (0, 0)
    per_pixel, done, room = inf, first, Room()
    with ExitStack() as stack:
        cast = stack.enter_context(borrowed(model, place))
        stack.enter_context(kept_pages())
        if compile_network:
            stack.enter_context(compiled(model, place))
        for chunk in frames:
            _check(chunk, done)
            height, width = chunk.shape[-2:]
            images = _as_images(chunk.float(), channels, alpha)
            if enlarger is None:
                runner, per_pixel = _start(model, cast, place, precision, images, scale)
                reach = int(trait(model, "native_reach", default=0)) if place.type == "cpu" else 0
                counts = Tally() if tally is None else tally
                steps = runner.steps if len(images) == len(chunk) else ()
                stack.callback(runner.forget)
                watcher = Watcher(reuse, max(halo, field), counts, reach, parts=runner.parts, steps=steps)
                enlarger = Enlarger(runner, scale, halo, watcher, finish, room)
            if cut_for != (height, width):
                layer = layer_bytes(model)
                cut = choose_cut(height, width, len(images), halo, place, tiling, per_pixel, layer=layer, whole=whole)
                cut_for = height, width
                log.info("%dx%d frames are enlarged in %s with a halo of %d", width, height, cut, halo)
            size = target.of(width, height, scale)
            result = room.empty(len(images), images.shape[1], size[1], size[0])
            cut = enlarger.fill(result, images, len(images) // len(chunk), done, cut)
            done += len(chunk)
            yield _as_frames(result, chunk, channels, alpha)
            del result  # Before the next one is made: two large chunks need twice the memory.


def _start(
    model: ImageModel,
    cast: Callable[[torch.dtype], None],
    device: torch.device,
    precision: Precision,
    images: Tensor,
    scale: int,
) -> tuple[Runner, float]:
    """The network ready to run, its format checked on the middle of the first frame, and its bytes per input pixel."""
    height, width = images.shape[-2:]
    top, left = max(0, height - SAMPLE) // 2, max(0, width - SAMPLE) // 2
    sample = images[:1, :, top : top + SAMPLE, left : left + SAMPLE]
    tries = formats(precision, device)
    if module_of(model) is None and precision is Precision.AUTO:
        tries = tries[-1:]  # Weights that cannot be cast stay in their format.
    if precision is Precision.AUTO and not trait(model, "supports_half", default=True):
        tries = tuple(dtype for dtype in tries if dtype is not torch.float16)
    try:
        runner = Runner(model, cast, device, tries)
        runner.settle(sample)
        if device.type != "cuda":
            return runner, guessed_bytes(model, scale)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        runner(sample)
        used = torch.cuda.max_memory_allocated(device) - before
        measured = max(1.0, used / (sample.shape[-2] * sample.shape[-1]))
        # A network that enlarges in pieces takes less for each pixel of a large frame than it does for the sample.
        told = told_bytes(model)
        return runner, measured if told is None else min(measured, 1.5 * told * runner.dtype.itemsize / 4)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ClipError(
            f"memory ran out on {device} while the network was loaded and tried on "
            f"{sample.shape[-1]}x{sample.shape[-2]} pixels; close other programs, or take a smaller network "
            "or another device"
        ) from error


def trait(model: object, *names: str, default: int) -> int:
    """What a model, or else the one that it wraps, says of itself."""
    while model is not None:
        for name in names:
            if hasattr(model, name):
                return getattr(model, name)
        model = getattr(model, "model", None)
    return default


def _channels_of(model: object) -> int:
    channels = trait(model, "in_channels", "input_channels", default=3)
    if channels not in (1, 3, 4):
        raise ClipError(f"the network takes {channels} channels; only those for grey (1), RGB (3) and RGBA (4) enlarge")
    return channels


def _as_images(chunk: Frames, channels: int, alpha: Alpha) -> Tensor:
    """Frames (B, 3 or 4, h, w) -> pictures for the network, (B * k, channels, h, w): all k of a frame in a row.

    One for RGB, or RGBA where the network takes it; grey networks see each channel as a picture, and alpha that goes
    through a network for RGB is a grey picture of its own.
    """
    if channels == 4:
        return chunk if chunk.shape[1] == 4 else torch.cat([chunk, torch.ones_like(chunk[:, :1])], dim=1)
    planes = chunk[:, :3]
    if chunk.shape[1] == 4:
        planes = without_holes(chunk)
        if alpha is Alpha.NETWORK:
            planes = torch.cat([planes, chunk[:, 3:].expand(-1, 1 if channels == 1 else 3, -1, -1)], dim=1)
    return planes.reshape(-1, channels, *chunk.shape[-2:])


def _as_frames(result: Tensor, chunk: Frames, channels: int, alpha: Alpha) -> Frames:
    """The way back: (B, 3 or 4, H, W), as many channels as `chunk` has."""
    planes = result.reshape(len(chunk), -1, *result.shape[-2:])
    if chunk.shape[1] == 3:
        return planes[:, :3]
    if channels == 4:
        return planes
    if alpha is Alpha.NETWORK:
        return torch.cat([planes[:, :3], planes[:, 3:].mean(dim=1, keepdim=True)], dim=1)
    return torch.cat([planes, resize(chunk[:, 3:].float(), planes.shape[-1], planes.shape[-2])], dim=1)


def _check(chunk: Frames, done: int) -> None:
    if chunk.ndim != 4 or chunk.shape[1] not in (3, 4) or 0 in chunk.shape or not chunk.is_floating_point():
        raise ClipError(
            f"frames to enlarge must be floats of shape (B, 3 or 4, H, W) with at least one pixel; "
            f"from frame {done} on they are {chunk.dtype} {tuple(chunk.shape)}"
        )
    if (bad := not_finite(chunk)) is not None:
        raise ClipError(
            f"frame {done + bad} (counted from 0) has values that are not finite; they would come out black"
        )
