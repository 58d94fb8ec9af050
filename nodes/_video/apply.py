"""Apply operations to an IMAGE or VIDEO; the result has the type of the input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from comfy_api.latest import Input
from torch import Tensor

from ...core.crop.border import Border
from ...core.pipeline.estimate import check_memory, with_estimate
from ...core.pipeline.operation import Operation
from ...core.pipeline.pipeline import Pipeline
from ...core.pipeline.warp_op import WarpOp, union_fill_mask
from ...core.warping.warp import warp
from .._comfy.adapter import ImageBatch, to_clip, with_progress
from .._comfy.node_text import make_notifier
from .lazy_video import LazyVideo, plan_for
from .render_plan import reserve_memory


def apply_operations(
    frames: Tensor | Input.Video,
    operations: Sequence[Operation],
    node_name: str,
    job_folders: Sequence[Path] | None = None,
    output_image: Tensor | None = None,
) -> Tensor | LazyVideo:
    """Process an IMAGE now; add the operations to the plan of a VIDEO.

    node_name: display name of the node, for messages. job_folders: of a resumable VIDEO, the jobs that it builds on;
    None if it is not resumable. output_image: an IMAGE that the node displays, and displays again when a VIDEO has been
    rendered. Raises ClipError for operations that do not suit the frames, and for frames that do not fit into memory.
    """
    if not isinstance(frames, Tensor):
        plan = plan_for(frames).then(operations, node_name, output_image)
        check_memory(plan.pipeline)
        return LazyVideo(plan if job_folders is None else plan.as_resumable(*job_folders))
    clip = to_clip(frames)
    pipeline = Pipeline(clip).then(*operations)
    images = ImageBatch(pipeline.info, clip.channels)
    reserve_memory(pipeline)
    stream = with_estimate(pipeline.frames(), pipeline, make_notifier(node_name), in_memory=True)
    for batch in with_progress(stream, clip.info.length, len, preview_frames=lambda batch: batch):
        images.add(batch)
    return images.to_tensor()


def apply_warp(
    frames: Tensor | Input.Video,
    warp_op: WarpOp,
    node_name: str,
    job_folders: Sequence[Path] | None = None,
    output_image: Tensor | None = None,
) -> tuple[Tensor | LazyVideo, Tensor]:
    """Warp an IMAGE or VIDEO; return it and the MASK of filled pixels, (N, H, W).

    The mask of a VIDEO has one frame, the union of all. The other arguments are those of `apply_operations`.
    """
    if not isinstance(frames, Tensor):
        video = apply_operations(frames, [warp_op], node_name, job_folders, output_image)
        return video, union_fill_mask(warp_op, plan_for(frames).pipeline.info)
    clip = to_clip(frames)
    pipeline = Pipeline(clip).then(warp_op)
    images = ImageBatch(pipeline.info, clip.channels, mask_planes=1)
    masks = torch.empty(images.images.shape[:3])
    reserve_memory(pipeline)
    correction = warp_op.correction.resized(clip.info.width, clip.info.height)
    stream = with_estimate(
        warp(clip.frames(), correction, Border(warp_op.border), pad=warp_op.pad, device=warp_op.device),
        pipeline,
        make_notifier(node_name),
        in_memory=True,
        count_frames=lambda warped: len(warped.frames),
    )
    done = 0
    for warped in with_progress(
        stream, clip.info.length, lambda warped: len(warped.frames), preview_frames=lambda warped: warped.frames
    ):
        images.add(warped.frames)
        masks[done : done + len(warped.fill_mask)] = warped.fill_mask
        done += len(warped.fill_mask)
    return images.to_tensor(), masks
