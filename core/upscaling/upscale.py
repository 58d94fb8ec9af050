"""Upscale a stream of frames with a network, tile by tile, to any size.

A stream is processed chunk by chunk; only the last frame, its output and the tiling that fits into memory are kept. The
network runs at most once per frame, at its own scale, and a bicubic resize leads to the output size. A factor above the
network's scale is thus partly bicubic: a network that runs on its own output doubles its artifacts, not the detail.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from math import isfinite

import torch

from ..clip import ClipError, Frames, first_non_finite
from ..runtime.accelerator import accelerator_for, is_out_of_memory
from ..runtime.malloc import retain_freed_memory
from ..runtime.transfer import DelayedFlag, Uploader, download_frames
from .chunk_upscaler import ChunkUpscaler
from .deprecated_keywords import accept_deprecated_keywords
from .model_traits import ImageModel, find_module, model_device
from .settings import UpscaleSettings, UpscaleStats

log = logging.getLogger(__name__)


@accept_deprecated_keywords
def upscale(
    frames: Iterator[Frames],
    model: ImageModel,
    settings: UpscaleSettings | None = None,
    *,
    device: torch.device | str | None = None,
    stats: UpscaleStats | None = None,
    first_frame: int = 0,
    on_device: bool = False,
) -> Iterator[Frames]:
    """Upscale a stream of frames.

    Chunks (B, 3 or 4, h, w) -> chunks (B, 3 or 4, H, W), float32 on the CPU, in [0, 1], in order.

    on_device: leave results on the device, in the dtype of the network, where they fit there easily. On a device other
    than the CPU a chunk is computed while the last one is transferred: results are one or two chunks behind.
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
    accelerator = accelerator_for(place)
    if settings.compile and find_module(model) is None:
        log.warning("%s holds no torch module, so there is nothing to compile", type(model).__name__)
    with ExitStack() as stack:
        stack.enter_context(retain_freed_memory())
        upscaler = ChunkUpscaler(model, settings, place, UpscaleStats() if stats is None else stats)
        stack.callback(upscaler.close)
        if accelerator.is_cpu:
            yield from _upscale_at_once(frames, upscaler, first_frame)
            return
        results = _upscale_ahead(frames, upscaler, first_frame)
        yield from results if on_device else download_frames(results)


def _upscale_at_once(frames: Iterator[Frames], upscaler: ChunkUpscaler, first_frame: int) -> Iterator[Frames]:
    done = first_frame
    for chunk in frames:
        _check_frames(chunk, done)
        chunk_start, done = done, done + len(chunk)
        yield upscaler.compute(chunk.cpu(), chunk_start)


@dataclass
class _Launched:
    """A chunk whose result may not be computed yet.

    checksum: shows whether the result is finite; None if no network ran.
    """

    chunk: Frames
    first_frame: int
    result: Frames
    checksum: DelayedFlag | None


def _upscale_ahead(frames: Iterator[Frames], upscaler: ChunkUpscaler, first_frame: int) -> Iterator[Frames]:
    """Upscale on a device without waiting for it.

    A result is checked when the next one has been launched.
    """
    uploader = Uploader(upscaler.accelerator)
    done, last = first_frame, None
    for chunk in frames:
        _check_frames(chunk, done)
        host = chunk.float() if chunk.device.type == "cpu" else None
        if host is not None:
            chunk = _upload(uploader, host)
        launched = _launch(upscaler, chunk, done, host)
        done += len(chunk)
        del chunk, host
        if last is not None:
            if not _is_finite(last):
                _recompute(upscaler, last)
                _recompute(upscaler, launched)
            yield last.result
        last = launched
        del launched
    if last is not None:
        if not _is_finite(last):
            _recompute(upscaler, last)
        yield last.result


def _upload(uploader: Uploader, chunk: Frames) -> Frames:
    """The chunk on the device, or itself if it does not fit there.

    Then its tiles are transferred one by one.
    """
    try:
        return uploader.upload([chunk])[0]
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return chunk


def _launch(upscaler: ChunkUpscaler, chunk: Frames, first_frame: int, host: Frames | None = None) -> _Launched:
    try:
        result = upscaler.compute(chunk, first_frame, host)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        log.warning("memory ran out beside the network; frame %d is assembled in main memory", first_frame)
        result = None
    if result is None:  # The error, and with it the tensors of its frames, is released.
        upscaler.accelerator.release_cache()
        result = upscaler.compute_again(chunk.cpu(), first_frame)
    checksum = upscaler.take_checksum()
    flag = None if checksum is None else DelayedFlag(upscaler.accelerator, checksum)
    return _Launched(chunk, first_frame, result, flag)


def _is_finite(launched: _Launched) -> bool:
    return launched.checksum is None or isfinite(launched.checksum.read())


def _recompute(upscaler: ChunkUpscaler, launched: _Launched) -> None:
    """Compute a chunk again, in the next mode if it is not finite in this one.

    Raises ClipError for frames that are not finite themselves, and if there is no other mode.
    """
    _check_finite(launched.chunk, launched.first_frame)
    upscaler.reset()  # The last output may be the one that is not finite.
    while True:
        again = _launch(upscaler, launched.chunk, launched.first_frame)
        launched.result, launched.checksum = again.result, None
        if _is_finite(again):
            return
        upscaler.drop_mode("the result is not finite")
        upscaler.reset()


def _check_frames(chunk: Frames, first_frame: int) -> None:
    if chunk.ndim != 4 or chunk.shape[1] not in (3, 4) or 0 in chunk.shape or not chunk.is_floating_point():
        raise ClipError(
            f"frames to upscale must be floats of shape (B, 3 or 4, H, W) with at least one pixel; "
            f"from frame {first_frame} on they are {chunk.dtype} {tuple(chunk.shape)}"
        )
    if chunk.device.type == "cpu":  # On another device that would wait for it; see `_recompute`.
        _check_finite(chunk, first_frame)


def _check_finite(chunk: Frames, first_frame: int) -> None:
    if (bad := first_non_finite(chunk)) is not None:
        raise ClipError(
            f"frame {first_frame + bad} (counted from 0) has values that are not finite; they would come out black"
        )
