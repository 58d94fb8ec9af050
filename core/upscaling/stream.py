"""The upscaling of one stream, chunk by chunk.

It includes batching, reuse of unchanged regions, post-processing and transfer.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from .dirty_rects import RegionPlan
from .postprocess import postprocess
from .precision import ModelRunner
from .reuse import RegionReuse
from .settings import PostProcess
from .tile_size import free_memory
from .tiles import ALIGN, EXACT_ALIGN, Rect, TilePlan, is_out_of_memory, run_tiles

log = logging.getLogger(__name__)


class UpscaleStream:
    """The upscaling of one stream of frames.

    scale, halo: of the network, see `run_tiles`. reuse: decides what must be computed.
    """

    def __init__(self, runner: ModelRunner, scale: int, halo: int, reuse: RegionReuse, post: PostProcess) -> None:
        self._runner, self._scale, self._halo, self._reuse, self._post = runner, scale, halo, reuse, post
        self._pinned: Tensor | None = None

    @property
    def engine_name(self) -> str:
        """The engine that ran the network last, for people."""
        return self._runner.engine_name

    def upscale_into(
        self, result: Tensor, images: Tensor, per_frame: int, first_frame: int, plan: TilePlan
    ) -> TilePlan:
        """Upscale images into the result.

        images: (B * k, C, h, w); result: (B * k, C, H, W) on the CPU; with k = `per_frame` images per frame.

        first_frame: number of the first frame in its clip. Returns the tiling that worked.
        """
        count = len(images) // per_frame
        batch = count if self._can_write_directly(result, images) else max(1, plan.batch_size // per_frame)
        start = 0  # Frames from here on wait to be computed together.
        for n in range(count):
            regions = self._reuse.plan(images[n * per_frame : (n + 1) * per_frame])
            if regions is not None:
                plan = self._process_full(result, images, per_frame, first_frame, start, n, plan)
                plan = self._process_regions(result, images, per_frame, first_frame, n, regions, plan)
            elif n + 1 - start == batch:
                plan = self._process_full(result, images, per_frame, first_frame, start, n + 1, plan)
            else:
                continue
            start = n + 1
        return self._process_full(result, images, per_frame, first_frame, start, count, plan)

    def _can_write_directly(self, result: Tensor, images: Tensor) -> bool:
        """Return whether tiles are written into the result.

        They are not where outputs stay on a GPU, to be reused without a copy.
        """
        if self._reuse.enabled and self._runner.device.type == "cuda":
            return False
        height, width = images.shape[-2:]
        return self._post.is_identity and result.shape[-2:] == (height * self._scale, width * self._scale)

    def _process_full(
        self, result: Tensor, images: Tensor, per_frame: int, first_frame: int, start: int, end: int, plan: TilePlan
    ) -> TilePlan:
        """Compute the frames start ... end - 1 in full."""
        if start == end:
            return plan
        part = slice(start * per_frame, end * per_frame)
        if self._can_write_directly(result, images):
            self._reuse.start_full(in_place=True)
            plan = self._run(images[part], result[part], plan)
            self._reuse.copy_output(result[part][-per_frame:])
            return plan
        self._reuse.start_full(in_place=False)
        canvas = self._alloc_canvas(images[part])
        plan = self._run(images[part], canvas, plan)
        self._reuse.take_output(canvas, per_frame)
        done = self._postprocess(canvas, result[part], images[part], per_frame, first_frame + start)
        self._copy_to_host(done, result[part])
        return plan

    def _process_regions(
        self,
        result: Tensor,
        images: Tensor,
        per_frame: int,
        first_frame: int,
        index: int,
        regions: RegionPlan,
        plan: TilePlan,
    ) -> TilePlan:
        """Compute the changed regions of a frame."""
        plan = self._reuse.update(regions, plan, self._run_regions)
        output, part = self._reuse.output, slice(index * per_frame, (index + 1) * per_frame)
        if self._can_write_directly(result, images):
            result[part] = output
        else:
            done = self._postprocess(output, result[part], images[part], per_frame, first_frame + index)
            self._copy_to_host(done, result[part])
        return plan

    def _run_regions(self, images: Tensor, out: Tensor, rects: list[Rect], plan: TilePlan) -> TilePlan:
        # They lie beside the result of the full frame, and must be equal to it.
        return self._run(images, out, plan, rects, self._reuse.halo, EXACT_ALIGN)

    def _run(
        self,
        images: Tensor,
        out: Tensor,
        plan: TilePlan,
        rects: list[Rect] | None = None,
        halo: int | None = None,
        align: int = ALIGN,
    ) -> TilePlan:
        return run_tiles(
            self._runner,
            images,
            out,
            scale=self._scale,
            halo=self._halo if halo is None else halo,
            plan=plan,
            rects=rects or (),
            clamp=True,
            align=align,
            supports_roi=self._runner.supports_roi,
        )

    def _alloc_canvas(self, images: Tensor) -> Tensor:
        """Allocate memory for the network's result.

        It is on the GPU if the result and its post-processing fit there easily, else on the CPU.

        On a GPU it has the network's dtype: half precision takes half the time to copy to the CPU.
        """
        shape = (*images.shape[:2], images.shape[2] * self._scale, images.shape[3] * self._scale)
        device = self._runner.device
        if device.type == "cuda" and 4 * torch.Size(shape).numel() * 4 < free_memory(device):
            place, dtype = device, self._runner.dtype
        else:
            place, dtype = "cpu", torch.float32
        with torch.inference_mode(False):  # see `empty_like`
            return torch.empty(shape, device=place, dtype=dtype)

    def _postprocess(self, canvas: Tensor, result: Tensor, images: Tensor, per_frame: int, first_frame: int) -> Tensor:
        """The canvas, post-processed and at the size of `result`, as images again."""
        if self._post.is_identity and canvas.shape == result.shape:
            return canvas
        upscaled, source = (x.reshape(len(x) // per_frame, -1, *x.shape[-2:]).float() for x in (canvas, images))
        size = result.shape[-1], result.shape[-2]
        try:
            done = postprocess(upscaled, source, size, self._post, first_frame)
        except RuntimeError as error:
            if not (canvas.is_cuda and is_out_of_memory(error)):
                raise
            done = postprocess(upscaled.cpu(), source, size, self._post, first_frame)
        return done.reshape(result.shape)

    def _copy_to_host(self, source: Tensor, result: Tensor) -> None:
        """Copy into result, float32 on the CPU."""
        pinned = self._pinned_buffer(source) if source.is_cuda else None
        result.copy_(source if pinned is None else pinned.copy_(source))

    def _pinned_buffer(self, like: Tensor) -> Tensor | None:
        """Return pinned memory of this shape; None where there is none.

        A GPU copies to it several times as fast.
        """
        if self._pinned is None or self._pinned.shape != like.shape or self._pinned.dtype != like.dtype:
            self._pinned = None  # Before the next one is allocated.
            try:
                with torch.inference_mode(False):
                    self._pinned = torch.empty(like.shape, dtype=like.dtype, pin_memory=True)
            except RuntimeError as error:
                log.debug("no pinned memory: %s", error)
        return self._pinned
