"""Chunks of a stream through its network: what must be run, at the size and with the finish that were asked for."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from ..runtime.buffer_pool import BufferPool, empty_like
from .change_detection import ChangeDetector
from .postprocess import postprocess
from .precision import ModelRunner
from .settings import PostProcess
from .tile_size import free_memory
from .tiles import ALIGN, EXACT_ALIGN, Rect, TilePlan, is_out_of_memory, run_tiles

log = logging.getLogger(__name__)


class UpscaleStream:
    """One stream's network, and what it made of the last frame. It ends with the stream.

    scale, halo: of the network, see `run_tiles`. watcher: says what must be run. room: where results lie.
    """

    def __init__(
        self, runner: ModelRunner, scale: int, halo: int, detector: ChangeDetector, post: PostProcess, pool: BufferPool
    ) -> None:
        self._runner, self._scale, self._halo, self._detector, self._post = runner, scale, halo, detector, post
        self._pool = pool
        self._last_output: Tensor | None = None  # (k, C, h * scale, w * scale), the network's result alone
        self._pinned: Tensor | None = None  # memory of the machine that a card can write to by itself

    def upscale_into(
        self, result: Tensor, images: Tensor, per_frame: int, frame_offset: int, plan: TilePlan
    ) -> TilePlan:
        """Fill result (B * k, C, H, W) on the CPU from images (B * k, C, h, w), k = `each` of them for a frame.

        first: number of the first frame in its stream. Returns the cut that worked.
        """
        count = len(images) // per_frame
        most = count if self._can_write_directly(result, images) else max(1, plan.batch_size // per_frame)
        start = 0  # Frames from here on wait to be run together.
        for n in range(count):
            steps = self._detector.plan(images[n * per_frame : (n + 1) * per_frame])
            if steps is not None:
                plan = self._process_full(result, images, per_frame, frame_offset, start, n, plan)
                plan = self._process_regions(result, images, per_frame, frame_offset, n, steps, plan)
            elif n + 1 - start == most:
                plan = self._process_full(result, images, per_frame, frame_offset, start, n + 1, plan)
            else:
                continue
            start = n + 1
        return self._process_full(result, images, per_frame, frame_offset, start, count, plan)

    def _can_write_directly(self, result: Tensor, images: Tensor) -> bool:
        """Whether the network writes into the result; not where a card keeps what it made, to use it again uncopied."""
        if self._detector.enabled and self._runner.device.type == "cuda":
            return False
        height, width = images.shape[-2:]
        return self._post.is_identity and result.shape[-2:] == (height * self._scale, width * self._scale)

    def _process_full(
        self, result: Tensor, images: Tensor, per_frame: int, frame_offset: int, start: int, end: int, plan: TilePlan
    ) -> TilePlan:
        """Frames start ... end - 1 whole."""
        if start == end:
            return plan
        part = slice(start * per_frame, end * per_frame)
        if self._can_write_directly(result, images):
            plan = self._run_full(images[part], result[part], plan)
            self._store_output(result[part][-per_frame:])
            return plan
        self._last_output = None  # It is of no use any more, and the memory is.
        canvas = self._alloc_canvas(images[part])
        plan = self._run_full(images[part], canvas, plan)
        if self._detector.keep_output:
            self._last_output = (
                canvas if end - start == 1 else empty_like(canvas[-per_frame:]).copy_(canvas[-per_frame:])
            )
        self._copy_to_host(
            self._postprocess(canvas, result[part], images[part], per_frame, frame_offset + start), result[part]
        )
        return plan

    def _process_regions(
        self,
        result: Tensor,
        images: Tensor,
        per_frame: int,
        frame_offset: int,
        index: int,
        stage_rects: list[list[Rect]],
        plan: TilePlan,
    ) -> TilePlan:
        """Frame n, of which only boxes are run, in one step or in several."""
        assert self._last_output is not None, "nothing can be reused before a frame was run whole"
        if stage_rects and not (len(stage_rects) > 1 and self._update_regions(self._last_output, stage_rects, plan)):
            plan = self._run(self._detector.reference, self._last_output, plan, stage_rects[-1])
        part = slice(index * per_frame, (index + 1) * per_frame)
        if self._can_write_directly(result, images):
            result[part] = self._last_output
        else:
            self._copy_to_host(
                self._postprocess(self._last_output, result[part], images[part], per_frame, frame_offset + index),
                result[part],
            )
        return plan

    def _run_full(self, images: Tensor, out: Tensor, plan: TilePlan) -> TilePlan:
        """The network's result of whole frames."""
        if not self._detector.keep_output:
            self._runner.release_cache()
        return self._run(images, out, plan)

    def _update_regions(self, output: Tensor, stage_rects: list[list[Rect]], plan: TilePlan) -> bool:
        """Whether the network has brought the last result up to date by what it kept of the frame before."""
        watcher = self._detector
        uncut = plan.core_size >= max(watcher.reference.shape[-2:])
        watcher.midpoint_cached = uncut and self._runner.update_regions(
            watcher.reference, stage_rects, output, self._scale
        )
        if not watcher.midpoint_cached:
            watcher.disable_midpoint()
        return watcher.midpoint_cached

    def _run(self, images: Tensor, out: Tensor, plan: TilePlan, rects: list[Rect] | None = None) -> TilePlan:
        # Boxes stand beside what was made of the whole frame, and are to be equal to it.
        halo, anchor = (self._halo, ALIGN) if rects is None else (self._detector.halo, EXACT_ALIGN)
        return run_tiles(
            self._runner,
            images,
            out,
            scale=self._scale,
            halo=halo,
            plan=plan,
            rects=rects or (),
            clamp=True,
            align=anchor,
            supports_roi=self._runner.supports_roi,
        )

    def _store_output(self, output: Tensor) -> None:
        """A copy, for whoever gets the frame may change it; in the same memory, for fresh pages cost as much again."""
        if not self._detector.keep_output:
            self._last_output = None
            return
        if self._last_output is None or self._last_output.shape != output.shape:
            self._last_output = self._pool.empty(*output.shape)
        self._last_output.copy_(output)

    def _alloc_canvas(self, images: Tensor) -> Tensor:
        """Room for the network's result; on a card if that and the finish take a small part of it, else on the CPU.

        On a card it has the network's own format: what is made in half precision travels in half the bytes.
        """
        shape = (*images.shape[:2], images.shape[2] * self._scale, images.shape[3] * self._scale)
        device = self._runner.device
        if device.type == "cuda" and 4 * torch.Size(shape).numel() * 4 < free_memory(device):
            place, dtype = device, self._runner.dtype
        else:
            place, dtype = "cpu", torch.float32
        with torch.inference_mode(False):  # see `empty_like`
            return torch.empty(shape, device=place, dtype=dtype)

    def _postprocess(self, canvas: Tensor, result: Tensor, images: Tensor, per_frame: int, frame_offset: int) -> Tensor:
        """The canvas at the size of `result` and finished, as images again."""
        if self._post.is_identity and canvas.shape == result.shape:
            return canvas
        large, source = (x.reshape(len(x) // per_frame, -1, *x.shape[-2:]).float() for x in (canvas, images))
        size = result.shape[-1], result.shape[-2]
        try:
            done = postprocess(large, source, size, self._post, frame_offset)
        except RuntimeError as error:
            if not (canvas.is_cuda and is_out_of_memory(error)):
                raise
            done = postprocess(large.cpu(), source, size, self._post, frame_offset)
        return done.reshape(result.shape)

    def _copy_to_host(self, source: Tensor, result: Tensor) -> None:
        """Copy into result, float32 on the CPU."""
        quay = self._pinned_buffer(source) if source.is_cuda else None
        result.copy_(source if quay is None else quay.copy_(source))

    def _pinned_buffer(self, like: Tensor) -> Tensor | None:
        """Memory like `made` that a card writes to several times as fast as to what the system may move; None where the
        system gives no such memory."""
        if self._pinned is None or self._pinned.shape != like.shape or self._pinned.dtype != like.dtype:
            self._pinned = None  # Before the next one is made.
            try:
                with torch.inference_mode(False):
                    self._pinned = torch.empty(like.shape, dtype=like.dtype, pin_memory=True)
            except RuntimeError as error:
                log.debug("no pinned memory: %s", error)
        return self._pinned
