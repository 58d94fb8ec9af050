"""Upscale a stream of frames with a network, tile by tile, to any size.

A stream is processed chunk by chunk; only the last frame, its output and the tiling that fits into memory are kept. The
network runs at most once per frame, at its own scale, and a bicubic resize leads to the output size. A factor above the
network's scale is thus partly bicubic: a network that runs on its own output doubles its artifacts, not the detail.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import TypeAlias

import torch

from ..clip import ClipError, Frames, first_non_finite
from ..runtime.device.accelerator import accelerator_for
from ..runtime.device.device_names import split_devices
from ..runtime.device.out_of_memory import is_out_of_memory
from ..runtime.device.transfer import DelayedNumber, Uploader, download_frames
from ..runtime.malloc import retain_freed_memory
from ..runtime.threads.distribute import distribute
from .chunk_upscaler import ChunkUpscaler
from .deprecated_keywords import accept_deprecated_keywords
from .frame_group import group_frames
from .frame_windows import frame_windows
from .model.model_traits import ImageModel, find_module, model_device, read_traits
from .settings import UpscaleSettings, UpscaleStats

log = logging.getLogger(__name__)

_Numbered: TypeAlias = tuple[int, Frames]  # (number of the first frame, chunk)


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
    or dtype a replica runs, which lives as long as the stream. Several devices, such as "cuda:0,cuda:1", share the
    chunks: each takes the next one when it is ready, and reuses results among its own chunks only. Results are on the
    CPU then. Errors of `model` are raised within one tile. When memory runs out, tiles shrink; no frame is lost or
    computed twice.

    Networks that read several frames (`ModelTraits.frames_context`) get those around each frame of the same shot,
    mirrored at its ends. Results are as many frames later as the network looks ahead, in chunks of at most the size
    that came.

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
    settings, stats = settings or UpscaleSettings(), UpscaleStats() if stats is None else stats
    places = [model_device(model)] if device is None else split_devices(device)
    if settings.compile and find_module(model) is None:
        log.warning("%s holds no torch module, so there is nothing to compile", type(model).__name__)
    numbered = _number_chunks(frames, first_frame)
    context = read_traits(model).frames_context
    if any(context):
        numbered = frame_windows(numbered, context)
    if len(places) == 1:
        yield from _upscale_numbered(numbered, model, settings, places[0], stats, on_device=on_device)
    else:
        yield from _upscale_on_devices(numbered, model, settings, places, stats)


def _upscale_on_devices(
    numbered: Iterator[_Numbered],
    model: ImageModel,
    settings: UpscaleSettings,
    places: Sequence[torch.device],
    stats: UpscaleStats,
) -> Iterator[Frames]:
    if find_module(model) is None:
        raise ClipError(
            f"{type(model).__name__} holds no torch module, so there can be no replica of it on each device; choose one"
        )
    parts = [UpscaleStats() for _ in places]

    def run(chunks: Iterator[_Numbered], place: torch.device, part: UpscaleStats) -> Iterator[Frames]:
        accelerator_for(place).make_current()
        return _upscale_numbered(chunks, model, settings, place, part, on_device=False)

    workers = [partial(run, place=place, part=part) for place, part in zip(places, parts, strict=True)]
    with closing(distribute(_on_cpu(numbered), workers, "upscale")) as results:
        try:
            for chunk in results:
                _copy_engine(parts, stats)
                yield chunk
                del chunk  # Frames are large.
        finally:
            results.close()  # The counters are complete when the threads have ended.
            for part in parts:
                stats.add(part)


def _copy_engine(parts: Sequence[UpscaleStats], stats: UpscaleStats) -> None:
    """Copy engine and precision of the first device that has run.

    Jobs compare them with those of their plan.
    """
    for part in parts:
        if part.engine:
            stats.engine, stats.mode = part.engine, part.mode
            return


def _on_cpu(numbered: Iterator[_Numbered]) -> Iterator[_Numbered]:
    for first_frame, chunk in numbered:
        box = [(first_frame, chunk.cpu())]
        del chunk
        yield box.pop()


def _upscale_numbered(
    numbered: Iterator[_Numbered],
    model: ImageModel,
    settings: UpscaleSettings,
    place: torch.device,
    stats: UpscaleStats,
    *,
    on_device: bool,
) -> Iterator[Frames]:
    """Upscale chunks on a device; each comes with the number of its first frame."""
    with ExitStack() as stack:
        stack.enter_context(retain_freed_memory())
        upscaler = ChunkUpscaler(model, settings, place, stats)
        stack.callback(upscaler.close)
        if upscaler.accelerator.is_cpu:
            yield from _upscale_at_once(numbered, upscaler)
            return
        results = _upscale_ahead(numbered, upscaler)
        yield from results if on_device else download_frames(results)


def _number_chunks(frames: Iterator[Frames], first_frame: int) -> Iterator[_Numbered]:
    """Yield each chunk after the number of its first frame.

    Raises ClipError for frames that cannot be upscaled.
    """
    for chunk in frames:
        _check_frames(chunk, first_frame)
        box = [(first_frame, chunk)]
        first_frame += len(chunk)
        del chunk  # Frames are large.
        yield box.pop()


def _upscale_at_once(numbered: Iterator[_Numbered], upscaler: ChunkUpscaler) -> Iterator[Frames]:
    for first_frame, chunk in numbered:
        yield upscaler.compute(chunk.cpu(), first_frame)


@dataclass
class _Launched:
    """Frames whose result may not be computed yet.

    sizes: of the chunks that they came in. checksum: shows whether the result is finite; None if no network ran.
    """

    chunk: Frames
    first_frame: int
    sizes: list[int]
    result: Frames | None
    checksum: DelayedNumber | None

    def take_results(self) -> Iterator[Frames]:
        """Yield the result of each chunk; nothing here refers to them afterwards."""
        assert self.result is not None, "results are taken once"
        parts = [self.result] if len(self.sizes) == 1 else list(torch.split(self.result, self.sizes))
        self.result = None
        parts.reverse()
        while parts:
            yield parts.pop()


def _upscale_ahead(numbered: Iterator[_Numbered], upscaler: ChunkUpscaler) -> Iterator[Frames]:
    """Upscale on a device without waiting for it.

    A result is checked when the next one has been launched.
    """
    last = None
    for group in group_frames(numbered, upscaler, Uploader(upscaler.accelerator)):
        launched = _launch(upscaler, group.frames, group.first_frame, group.sizes, group.compared)
        del group
        if last is not None:
            if not _is_finite(last):
                _recompute(upscaler, last)
                _recompute(upscaler, launched)
            yield from last.take_results()
        last = launched
        del launched
    if last is not None:
        if not _is_finite(last):
            _recompute(upscaler, last)
        yield from last.take_results()


def _launch(
    upscaler: ChunkUpscaler,
    chunk: Frames,
    first_frame: int,
    sizes: list[int],
    compared: Sequence[Frames] = (),
    *,
    again: bool = False,
) -> _Launched:
    """Launch frames, for the first time or again.

    compared: see `FrameGroup`.
    """
    try:
        if again:
            result = upscaler.compute_again(chunk, first_frame)
        else:
            result = upscaler.compute(chunk, first_frame, compared)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        log.warning("memory ran out beside the network; frame %d is assembled in main memory", first_frame)
        result = None
    if result is None:  # The error, and with it the tensors of its frames, is released.
        upscaler.accelerator.release_cache()
        result = upscaler.compute_again(chunk.cpu(), first_frame)
    checksum = upscaler.take_checksum()
    flag = None if checksum is None else DelayedNumber(upscaler.accelerator, checksum)
    return _Launched(chunk, first_frame, sizes, result, flag)


def _is_finite(launched: _Launched) -> bool:
    return launched.checksum is None or isfinite(launched.checksum.read())


def _recompute(upscaler: ChunkUpscaler, launched: _Launched) -> None:
    """Compute a chunk again, in the next mode if it is not finite in this one.

    Raises ClipError for frames that are not finite themselves, and if there is no other mode.
    """
    _check_finite(launched.chunk, launched.first_frame)
    while True:
        again = _launch(upscaler, launched.chunk, launched.first_frame, launched.sizes, again=True)
        launched.result, launched.checksum = again.result, None
        if _is_finite(again):
            return
        upscaler.drop_mode("the result is not finite")


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
