"""The upscaling of one stream, chunk by chunk.

It includes batching, reuse of unchanged regions and post-processing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from ..runtime.device.accelerator import Accelerator
from ..runtime.device.frame_buffers import empty_frames
from ..runtime.device.transfer import with_cpu_fallback
from .model.model_runner import ModelRunner
from .postprocess import postprocess
from .regions.dirty_rects import RegionPlan
from .regions.reuse import RegionReuse
from .settings import PostProcess
from .tiles import ALIGN, EXACT_ALIGN, Rect, TilePlan, run_tiles

log = logging.getLogger(__name__)


class UpscaleStream:
    """The upscaling of one stream of frames.

    scale, halo, align, feather: for the network, see `run_tiles`. reuse: decides what must be computed. center:
    channels of the input that are the frame itself, where the network reads several frames.
    """

    def __init__(
        self,
        runner: ModelRunner,
        scale: int,
        halo: int,
        reuse: RegionReuse,
        post: PostProcess,
        *,
        align: int = ALIGN,
        feather: int = 0,
        center: slice = slice(None),
    ) -> None:
        self._align, self._feather, self._center = align, feather, center
        self._runner, self._scale, self._halo, self._reuse, self._post = runner, scale, halo, reuse, post

    def reset(self) -> None:
        """Forget the last frame, as at the start of a stream."""
        self._reuse.reset()

    def upscale_into(
        self,
        result: Tensor,
        images: Tensor,
        per_frame: int,
        first_frame: int,
        plan: TilePlan,
        compared: Sequence[Tensor],
    ) -> TilePlan:
        """Upscale images into the result.

        images: (B * k, C, h, w); result: (B * k, C, H, W), on any device; with k = `per_frame` images per frame.

        first_frame: number of the first frame in its clip. compared: the images (k, C, h, w) of each frame, on the CPU
        if possible, where changes are found without waiting for the device. Returns the tiling that worked.
        """
        count = len(images) // per_frame
        batch = count if self._can_write_directly(result, images) else max(1, plan.batch_size // per_frame)
        start = 0  # Frames from here on wait to be computed together.
        for n in range(count):
            regions = self._reuse.plan(compared[n])
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
        """Return whether tiles are written into the result."""
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
        canvas = self._alloc_canvas(images[part][:, self._center])
        plan = self._run(images[part], canvas, plan)
        self._reuse.take_output(canvas, per_frame)
        done = self._postprocess(canvas, result[part], images[part], per_frame, first_frame + start)
        result[part].copy_(done)
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
            result[part].copy_(done)
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
        align: int | None = None,
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
            align=self._align if align is None else align,
            feather=self._feather,
            supports_roi=self._runner.supports_roi,
            device=self._runner.device,
        )

    def _alloc_canvas(self, images: Tensor) -> Tensor:
        """Allocate memory for the network's result, see `empty_result`."""
        size = images.shape[3] * self._scale, images.shape[2] * self._scale
        return empty_result(images, *size, self._runner.accelerator, self._runner.dtype)

    def _postprocess(self, canvas: Tensor, result: Tensor, images: Tensor, per_frame: int, first_frame: int) -> Tensor:
        """The canvas, post-processed and at the size of `result`, as images again."""
        if self._post.is_identity and canvas.shape == result.shape:
            return canvas
        frames = images[:, self._center]
        upscaled, source = (x.reshape(len(x) // per_frame, -1, *x.shape[-2:]).float() for x in (canvas, frames))
        size = result.shape[-1], result.shape[-2]
        done = with_cpu_fallback(lambda frames: postprocess(frames, source, size, self._post, first_frame), upscaled)
        return done.reshape(result.shape)


def empty_result(images: Tensor, width: int, height: int, accelerator: Accelerator, dtype: torch.dtype) -> Tensor:
    """Allocate images of another size, for a result.

    On the device, in the network's dtype, if they and what is made of them fit there easily; else float32 on the CPU.
    """
    shape = (*images.shape[:2], height, width)
    if accelerator.is_cpu or 16 * prod(shape) > accelerator.free_memory():
        return empty_frames(*shape)
    with torch.inference_mode(False):
        return torch.empty(shape, device=accelerator.device, dtype=dtype)
