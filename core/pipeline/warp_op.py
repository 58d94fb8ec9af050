"""The operation that moves frames to where a correction wants them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..clip import ClipError, ClipInfo, Frames
from ..path.border import REACH, Border
from ..path.trajectory import Correction
from ..runtime.optional_cv2 import optional_opencv
from ..warping.warp_yuv import can_warp, warp_planes
from .operation import Operation

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..video.decode.stream_format import Pictures, Stored

MASK_SIDE = 480  # longer side at which `invented_ever` looks: twice as fine takes four times as long


@dataclass(frozen=True, eq=False)
class Steady(Operation):
    """Frames moved by a correction: the settings of `warping.warp`, by the same names.

    correction: measured at any size of the clip; it is scaled to the frames that come. pad: pixels of those frames.
    """

    correction: Correction
    border: Border = Border.CROP
    pad: int = 0
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        if self.pad and Border(self.border) in (Border.CROP, Border.CROP_ADAPTIVE):
            raise ClipError("a padded frame cannot be cropped: choose another border, or a pad of 0")

    def info(self, before: ClipInfo) -> ClipInfo:
        """What becomes of a clip. Raises ClipError where the correction is for frames of another shape."""
        self.correction.resized(before.width, before.height)
        return before.resized(before.width + 2 * self.pad, before.height + 2 * self.pad)

    def run(self, frames: Iterator[Frames], before: ClipInfo, first: int = 0) -> Iterator[Frames]:
        """The correction's first is that of the first frame."""
        from ..warping.warp import warp

        fix = self.correction.resized(before.width, before.height)
        for warped in warp(frames, fix, self.border, pad=self.pad, device=self.device):
            yield warped.frames

    def on_planes(self, pictures: Iterator[Pictures], before: ClipInfo, stored: Stored) -> Iterator[Pictures] | None:
        """On the CPU, with OpenCV, for planes that `can_warp` is true of."""
        border, cv2 = Border(self.border), optional_opencv()
        if cv2 is None or self.pad or str(self.device) != "cpu":
            return None
        if not can_warp(stored, before.width, before.height, border):
            return None
        return warp_planes(cv2, pictures, self.correction.resized(before.width, before.height), border, stored)

    @property
    def context(self) -> tuple[int, int]:
        return (REACH, REACH) if self.border is Border.FILL else (0, 0)

    def memory(self, before: ClipInfo) -> float:
        return (1 + sum(self.context)) * before.frame_bytes + 2 * self.info(before).frame_bytes

    def for_motion(self, before: ClipInfo, small: ClipInfo) -> Steady:
        return replace(self, pad=round(self.pad * small.width / before.width))


def invented_ever(steady: Steady, info: ClipInfo) -> Tensor:
    """Where at least one frame of the warped clip shows what its source frame does not: (1, H, W), 0 or 1.

    info: of the clip that is warped. Nothing is decoded. Looked at in a reduced size and rounded up, so that the area
    is too large by a few pixels rather than too small. Raises ClipError where the border's zoom cannot be found.
    """
    import torch
    import torch.nn.functional as F

    from ..path.border import framed
    from ..warping.ways import ways

    size = steady.info(info)
    small = info.within(MASK_SIDE)
    pad = round(steady.pad * small.width / info.width)
    fix = framed(steady.correction.resized(small.width, small.height), Border(steady.border))
    buffers = torch.empty(3, small.height + 2 * pad, small.width + 2 * pad)
    ever = torch.zeros(buffers.shape[1:])
    for way in ways(fix, pad):
        torch.maximum(ever, way.invented(*way.places(buffers)), out=ever)
    wider = F.max_pool2d(ever[None], 3, stride=1, padding=1)
    return F.interpolate(wider[None], (size.height, size.width), mode="nearest")[0]
