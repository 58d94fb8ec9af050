"""The operation that warps frames by a correction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..clip import ClipError, ClipInfo, Frames
from ..crop.border import FILL_RADIUS_FRAMES, Border
from ..path.trajectory import Correction
from ..runtime.optional_cv2 import optional_opencv
from ..runtime.threads.prefetch import chain_first
from ..warping.warp_yuv import can_keep_bars, can_warp_yuv, warp_yuv
from .operation import Operation

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..video.format.stream_format import NativeFrames, StreamFormat

FILL_MASK_SIDE = 480  # longer side, in pixels, of the mask in `union_fill_mask`; twice as fine takes four times as long


@dataclass(frozen=True, eq=False)
class WarpOp(Operation):
    """Warp frames by a correction: the arguments of `warping.warp`.

    correction: measured at any size of the clip; it is scaled to the frames. pad: pixels of those frames. device: where
    frames on the CPU are warped: on the CPU unless there is a reason, because a transfer takes longer than the warp.
    """

    correction: Correction
    border: Border = Border.CROP
    pad: int = 0
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        if self.pad and Border(self.border) in (Border.CROP, Border.CROP_ADAPTIVE):
            raise ClipError("a padded frame cannot be cropped: choose another border, or a pad of 0")

    def output_info(self, input_info: ClipInfo) -> ClipInfo:
        """The clip's info after the operation.

        Raises ClipError where the correction is for frames of another shape.
        """
        self.correction.resized(input_info.width, input_info.height)
        return input_info.resized(input_info.width + 2 * self.pad, input_info.height + 2 * self.pad)

    def run(self, frames: Iterator[Frames], input_info: ClipInfo, frame_offset: int = 0) -> Iterator[Frames]:
        """Yield the warped frames; the correction starts at the first frame."""
        from ..warping.warp import warp

        fix = self.correction.resized(input_info.width, input_info.height)
        for warped in warp(frames, fix, self.border, pad=self.pad, device=self.device):
            yield warped.frames

    def run_on_device(self, frames: Iterator[Frames], input_info: ClipInfo, frame_offset: int = 0) -> Iterator[Frames]:
        """As `run`, but frames on another device than the CPU are warped there."""
        from ..warping.warp import warp

        first = next(frames, None)
        if first is None:
            return
        device = self.device if first.device.type == "cpu" else first.device
        stream, fix = chain_first([first], frames), self.correction.resized(input_info.width, input_info.height)
        del first  # Frames are large.
        for warped in warp(stream, fix, self.border, pad=self.pad, device=device, on_device=True):
            yield warped.frames

    def process_yuv(
        self, native_frames: Iterator[NativeFrames], input_info: ClipInfo, stream_format: StreamFormat
    ) -> Iterator[NativeFrames] | None:
        """Warp on the CPU, with OpenCV, where `can_warp_yuv` allows it."""
        border, cv2 = Border(self.border), optional_opencv()
        if cv2 is None or self.pad or str(self.device) != "cpu":
            return None
        fix = self.correction.resized(input_info.width, input_info.height)
        if not all(can_keep_bars(stream_format, part.bars) for part in fix.split_by_bars() if part.bars is not None):
            return None
        if not can_warp_yuv(stream_format, input_info.width, input_info.height, border):
            return None
        return warp_yuv(cv2, native_frames, fix, border, stream_format)

    @property
    def temporal_context(self) -> tuple[int, int]:
        return (FILL_RADIUS_FRAMES, FILL_RADIUS_FRAMES) if self.border is Border.FILL else (0, 0)

    def estimate_memory(self, input_info: ClipInfo) -> float:
        return (1 + sum(self.temporal_context)) * input_info.frame_bytes + 2 * self.output_info(input_info).frame_bytes

    def motion_proxy(self, input_info: ClipInfo, proxy_info: ClipInfo) -> WarpOp:
        return replace(self, pad=round(self.pad * proxy_info.width / input_info.width))


def union_fill_mask(warp_op: WarpOp, info: ClipInfo) -> Tensor:
    """The area that is filled in at least one frame: (1, H, W), 0 or 1.

    info: of the clip that is warped. Nothing is decoded. The mask is computed at a reduced size and rounded up, so that
    the area is too large by a few pixels rather than too small. Raises ClipError where no zoom suits the border.
    """
    import torch
    import torch.nn.functional as F

    from ..crop.border import with_border_zoom
    from ..warping.sampling_map import sampling_maps

    size = warp_op.output_info(info)
    small = info.fit_within(FILL_MASK_SIDE)
    pad = round(warp_op.pad * small.width / info.width)
    fix = with_border_zoom(warp_op.correction.resized(small.width, small.height), Border(warp_op.border))
    union = torch.zeros(small.height + 2 * pad, small.width + 2 * pad)
    for part in fix.split_by_bars():
        buffers = torch.empty(3, part.info.height + 2 * pad, part.info.width + 2 * pad)
        area = union if part.bars is None else union[part.bars.area(small.height, small.width)]
        for sampling_map in sampling_maps(part, pad):
            torch.maximum(area, sampling_map.fill_mask(*sampling_map.source_coords(buffers)), out=area)
    dilated = F.max_pool2d(union[None], 3, stride=1, padding=1)
    return F.interpolate(dilated[None], (size.height, size.width), mode="nearest")[0]
