"""A network with prepacked weights that runs on the native engine."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from ..arch.realplksr import RealPLKSR
from ..arch.rrdb import RRDBNet, pad_to_multiple
from ..arch.span import SPAN
from ..arch.srvgg import SRVGGNetCompact
from .bindings import NativeLibrary
from .compile_realplksr import make_realplksr_compiler
from .compile_rrdb import make_rrdb_compiler
from .compile_span import make_span_compiler
from .compile_srvgg import SRVGGCompiler
from .plan import ExecutionPlan, PixelRect, PlanCompiler
from .prepack import CPU_FLOAT32

MAX_CACHE_BYTES = 256 << 20  # limit of the cached activations: 64 channels of 720p

SupportedNetwork: TypeAlias = "RRDBNet | SRVGGNetCompact | SPAN | RealPLKSR"
Roi: TypeAlias = "tuple[slice, slice]"  # rows and columns of the input whose upscaled result is wanted


class NativeNetwork:
    """A network on the native engine, for frames of any size.

    (B, in_channels, h, w) float32 on the CPU -> the network's result in float32, clamped to [0, 1] on request.
    roi: return this part of the result only, bit-identical to the full result; the layers of an SRVGGNetCompact and a
    SPAN then compute no more than the next one reads. Raises ValueError if it is empty or reaches outside of the image.
    out: where the result of these two is written, if it is float32 on the CPU, of the right shape and with
    contiguous rows; this saves a copy.

    Weights are prepacked once. The memory for one frame size is kept for the next call, and also serves regions of it.
    Results do not depend on the number of threads, which is torch's. Thread-safe; calls are serialized.
    """

    def __init__(self, network: SupportedNetwork, library: NativeLibrary) -> None:
        self._network = network
        self._unshuffle = 1
        if isinstance(network, RRDBNet):
            self._unshuffle = network.config.unshuffle
            self._compiler: PlanCompiler = make_rrdb_compiler(library, network)
        elif isinstance(network, RealPLKSR):
            self._compiler = make_realplksr_compiler(library, network)
        elif isinstance(network, SPAN):
            self._compiler = make_span_compiler(library, network)
        else:
            self._compiler = SRVGGCompiler(library, network)
        self._scale = network.scale * self._unshuffle
        self._plan: tuple[tuple[int, int, PixelRect | None], ExecutionPlan] | None = None
        self._cache_key: tuple[object, int, int] | None = None  # owner, height, width of the cached activations
        # Reentrant: the garbage collector may close a stream, which calls release_cache, while this thread holds it.
        self._lock = threading.RLock()

    @torch.no_grad()
    def __call__(
        self, images: Tensor, *, roi: Roi | None = None, out: Tensor | None = None, clamp: bool = False
    ) -> Tensor:
        height, width = images.shape[-2:]
        if isinstance(self._network, SPAN):
            images = self._network.normalize(images)
        if isinstance(self._network, (SRVGGNetCompact, SPAN)):
            return self._run(images.contiguous(), _rect_or_none(roi, height, width), out, clamp)
        if self._unshuffle > 1:
            images = nn.functional.pixel_unshuffle(pad_to_multiple(images, self._network.multiple), self._unshuffle)
        full_frame = slice(0, height), slice(0, width)
        return crop_to_roi(self._run(images.contiguous(), None, None, clamp), roi or full_frame, self._network.scale)

    def _run(self, images: Tensor, rect: PixelRect | None, out: Tensor | None, clamp: bool) -> Tensor:
        """(B, C, h, w) as the plan reads them -> the upscaled rectangle, or all."""
        height, width = images.shape[-2:]
        target = rect or PixelRect(0, height, 0, width)
        sides = (target.bottom - target.top) * self._scale, (target.right - target.left) * self._scale
        shape = len(images), self._network.out_channels, *sides
        result = out if out is not None and _is_valid_out(out, shape) else torch.empty(shape, **CPU_FLOAT32)
        key = height, width, rect
        with self._lock:
            entry = self._plan
            if entry is None or entry[0] != key:
                entry = self._plan = None  # the next plan uses its memory
                entry = self._plan = key, self._compiler(*key)
            for source, image_result in zip(images, result, strict=True):
                self._run_plan(entry[1], source, image_result, clamp)
        return result

    def update_regions(self, image: Tensor, stage_rois: Sequence[Sequence[Roi]], out: Tensor, owner: object) -> bool:
        """Update the result of another image where this one differs from it.

        image: (1, C, h, w). out: the clamped result of the other image, which is changed in place.
        stage_rois: the regions that may differ at the midpoint of an SRVGGNetCompact, and those that may differ in the
        result, in pixels of the input. The midpoint's activations are cached for the full frame, for one owner at a
        time; while nothing is cached for this owner, the first stage must cover the full frame.
        Returns False if it does not, if the network has no midpoint, if `out` cannot be written to, if the cache would
        be too large, or if memory runs out; some regions of the result may then be updated already.
        """
        compiler, k, (height, width) = self._compiler, self._scale, image.shape[-2:]
        shape = 1, self._network.out_channels, height * k, width * k
        if not isinstance(compiler, SRVGGCompiler) or not compiler.midpoint:
            return False
        if len(image) != 1 or not _is_valid_out(out, shape):
            return False
        if compiler.cache_bytes(height, width) > MAX_CACHE_BYTES:
            return False
        midpoint_rects, result_rects = ([_to_rect(roi, height, width) for roi in rois] for rois in stage_rois)
        cache_key = owner, height, width
        with self._lock:
            if self._cache_key != cache_key and midpoint_rects != [PixelRect(0, height, 0, width)]:
                return False
            self._cache_key = self._plan = None  # these plans run once, and use the memory of all plans
            try:
                source = image[0].contiguous()
                for rect in midpoint_rects:
                    self._run_plan(compiler.compile_to_midpoint(height, width, rect), source, out[0], clamp=True)
                for rect in result_rects:
                    target = out[0, :, rect.top * k : rect.bottom * k, rect.left * k : rect.right * k]
                    self._run_plan(compiler.compile_from_midpoint(height, width, rect), source, target, clamp=True)
            except MemoryError:
                compiler.release_cache()
                return False
            self._cache_key = cache_key
        return True

    def release_cache(self, owner: object) -> None:
        """Free the cached activations if they belong to this owner."""
        with self._lock:
            if (
                self._cache_key is not None
                and self._cache_key[0] is owner
                and isinstance(self._compiler, SRVGGCompiler)
            ):
                self._cache_key = self._plan = None
                self._compiler.release_cache()

    def _run_plan(self, plan: ExecutionPlan, source: Tensor, target: Tensor, clamp: bool) -> None:
        channels = self._network.out_channels
        skip = source if len(source) >= channels else source.expand(channels, -1, -1).contiguous()
        plan.run(source, skip, target, torch.get_num_threads(), clamp=clamp)


def crop_to_roi(result: Tensor, roi: Roi | None, scale: int) -> Tensor:
    """Crop a result of `scale` times the input's size to a region of the input."""
    if roi is None:
        return result
    rows, cols = (slice(side.start * scale, side.stop * scale) for side in roi)
    return result[..., rows, cols]


def _is_valid_out(out: Tensor, shape: tuple[int, ...]) -> bool:
    return tuple(out.shape) == shape and out.dtype is torch.float32 and out.device.type == "cpu" and out.stride(-1) == 1


def _rect_or_none(roi: Roi | None, height: int, width: int) -> PixelRect | None:
    """The region as a rectangle; None for the full frame."""
    full_frame = PixelRect(0, height, 0, width)
    rect = full_frame if roi is None else _to_rect(roi, height, width)
    return None if rect == full_frame else rect


def _to_rect(roi: Roi, height: int, width: int) -> PixelRect:
    rect = PixelRect(roi[0].start, roi[0].stop, roi[1].start, roi[1].stop)
    # The engine does not check bounds.
    if not (0 <= rect.top < rect.bottom <= height and 0 <= rect.left < rect.right <= width):
        raise ValueError(
            f"{rect} is empty or not inside the image of {height} rows and {width} columns; pass slices within it"
        )
    return rect
