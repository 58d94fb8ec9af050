"""A network of this package with its weights transformed, ready to run natively on pictures of any size."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from ..arch.rrdb import RRDBNet, pad_to_multiple
from ..arch.srvgg import SRVGGNetCompact
from .bindings import NativeLibrary
from .compile_rrdb import make_rrdb_compiler
from .compile_srvgg import SRVGGCompiler
from .plan import CPU_FLOAT32, ExecutionPlan, PixelRect, PlanCompiler

# What the middle of a compact network may take, so that frames of which a part changes cost less: 64 channels of 720p.
MAX_CACHE_BYTES = 256 << 20

# Rows and columns of the input of which alone the enlargement is wanted.
Roi: TypeAlias = "tuple[slice, slice]"


class NativeNetwork:
    """(B, in_channels, h, w) float32 on the CPU -> what the network makes of it, float32, clamped to [0, 1] on request.

    wanted: only this part of the result is returned, with the same bits; each layer of a compact network then makes no
    more than the next one reads. Raises ValueError for what is no part of the picture. out: where the result of a
    compact network is put, if it can be, which saves a copy; float32 on the CPU.
    Weights are transformed once. The memory for one size of picture is kept for the next call, and serves its parts
    too. Results do not depend on the number of threads, which is torch's. Safe to call from several threads, one after
    the other.
    """

    def __init__(self, network: RRDBNet | SRVGGNetCompact, library: NativeLibrary) -> None:
        self._network = network
        self._unshuffle = 1
        if isinstance(network, RRDBNet):
            self._unshuffle = network.config.unshuffle
            self._compiler: PlanCompiler = make_rrdb_compiler(library, network)
        else:
            self._compiler = SRVGGCompiler(library, network)
        self._scale = network.scale * self._unshuffle
        self._plan: tuple[tuple[int, int, PixelRect | None], ExecutionPlan] | None = None
        self._cache_key: tuple[object, int, int] | None = (
            None  # whose picture's middle is kept, and its height and width
        )
        # A collector may end somebody's stream, and with it call `forget`, in the midst of what is done here.
        self._lock = threading.RLock()

    @torch.no_grad()
    def __call__(
        self, images: Tensor, *, roi: Roi | None = None, out: Tensor | None = None, clamp: bool = False
    ) -> Tensor:
        height, width = images.shape[-2:]
        if isinstance(self._network, SRVGGNetCompact):
            return self._run(images.contiguous(), _rect_or_none(roi, height, width), out, clamp)
        folded = images
        if self._unshuffle > 1:
            folded = nn.functional.pixel_unshuffle(pad_to_multiple(images, self._network.multiple), self._unshuffle)
        whole = slice(0, height), slice(0, width)
        return crop_to_roi(self._run(folded.contiguous(), None, None, clamp), roi or whole, self._network.scale)

    def _run(self, images: Tensor, rect: PixelRect | None, out: Tensor | None, clamp: bool) -> Tensor:
        """(B, C, h, w) as the program reads them -> the area of them, or all, enlarged; in `out` if that fits."""
        height, width = images.shape[-2:]
        made = rect or PixelRect(0, height, 0, width)
        sides = (made.bottom - made.top) * self._scale, (made.right - made.left) * self._scale
        shape = len(images), self._network.out_channels, *sides
        result = out if out is not None and _is_valid_out(out, shape) else torch.empty(shape, **CPU_FLOAT32)
        key = height, width, rect
        with self._lock:
            held = self._plan
            if held is None or held[0] != key:
                held = self._plan = None  # The next one works in its memory.
                held = self._plan = key, self._compiler(*key)
            for source, target in zip(images, result, strict=True):
                self._run_plan(held[1], source, target, clamp)
        return result

    def update_regions(self, image: Tensor, stage_rois: Sequence[Sequence[Roi]], out: Tensor, owner: object) -> bool:
        """Bring `out`, the clamped result of another picture, up to date for one (1, C, h, w) that differs in places.

        steps: the parts that may differ in the middle of a compact network, and those that may in the result, in pixels
        of the input. The middle is kept of the whole picture, for one owner at a time; it must be told to renew all of
        it where nothing is kept for this one. False where it is not, where `out` cannot be written to, where too much
        memory would be kept, or where there is not enough: parts of the result may then be new already.
        """
        compile, k, (height, width) = self._compiler, self._scale, image.shape[-2:]
        shape = 1, self._network.out_channels, height * k, width * k
        if not isinstance(compile, SRVGGCompiler) or not compile.midpoint:
            return False
        if len(image) != 1 or not _is_valid_out(out, shape):
            return False
        if compile.cache_bytes(height, width) > MAX_CACHE_BYTES:
            return False
        changed, wanted = ([_to_rect(part, height, width) for part in parts] for parts in stage_rois)
        kept = owner, height, width
        with self._lock:
            if self._cache_key != kept and changed != [PixelRect(0, height, 0, width)]:
                return False
            self._cache_key = self._plan = None  # The memory is that of all programs, and these are for once.
            try:
                source = image[0].contiguous()
                for area in changed:
                    self._run_plan(compile.compile_to_midpoint(height, width, area), source, out[0], clamp=True)
                for area in wanted:
                    place = out[0, :, area.top * k : area.bottom * k, area.left * k : area.right * k]
                    self._run_plan(compile.compile_from_midpoint(height, width, area), source, place, clamp=True)
            except MemoryError:
                compile.release_cache()
                return False
            self._cache_key = kept
        return True

    def release_cache(self, owner: object) -> None:
        """What is kept for this owner is not needed any more."""
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
    """Of a picture that is `scale` times larger what is wanted."""
    if roi is None:
        return result
    rows, cols = (slice(side.start * scale, side.stop * scale) for side in roi)
    return result[..., rows, cols]


def _is_valid_out(out: Tensor, shape: tuple[int, ...]) -> bool:
    return tuple(out.shape) == shape and out.dtype is torch.float32 and out.device.type == "cpu" and out.stride(-1) == 1


def _rect_or_none(roi: Roi | None, height: int, width: int) -> PixelRect | None:
    """The same as an area; None for all of it."""
    whole = PixelRect(0, height, 0, width)
    area = whole if roi is None else _to_rect(roi, height, width)
    return None if area == whole else area


def _to_rect(roi: Roi, height: int, width: int) -> PixelRect:
    area = PixelRect(roi[0].start, roi[0].stop, roi[1].start, roi[1].stop)
    # The engine would write where no memory is.
    if not (0 <= area.top < area.bottom <= height and 0 <= area.left < area.right <= width):
        raise ValueError(f"{area} is no part of a picture of {height} rows and {width} columns")
    return area
