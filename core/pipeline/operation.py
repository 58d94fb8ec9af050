"""The interface of operations on a clip.

The defaults are those of an operation that looks at single frames.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..clip import ClipError, ClipInfo, Frames

if TYPE_CHECKING:
    import torch

    from ..video.format.stream_format import NativeFrames, StreamFormat
    from .warp_op import WarpOp


class Operation(ABC):
    """One operation on the frames of a clip.

    Subclasses are frozen dataclasses: their fields are their settings.
    """

    def output_info(self, input_info: ClipInfo) -> ClipInfo:
        """The clip's info after the operation; by default unchanged.

        Raises ClipError where the operation does not suit such a clip.
        """
        return input_info

    @abstractmethod
    def run(self, frames: Iterator[Frames], input_info: ClipInfo, frame_offset: int = 0) -> Iterator[Frames]:
        """Yield one processed frame per input frame, of the size of `output_info`.

        frame_offset: number of the first frame in its clip.
        """

    @property
    def compute_device(self) -> torch.device | None:
        """The device that the frames should be on; None if any will do."""
        return None

    def run_on_device(self, frames: Iterator[Frames], input_info: ClipInfo, frame_offset: int = 0) -> Iterator[Frames]:
        """As `run`, for frames on any device, which the results may stay on.

        By default frames are copied to the CPU for `run`.
        """
        from ..runtime.device.transfer import download_frames  # imports torch, which frames as decoded do not need

        return self.run(download_frames(frames), input_info, frame_offset)

    def process_yuv(
        self, native_frames: Iterator[NativeFrames], input_info: ClipInfo, stream_format: StreamFormat
    ) -> Iterator[NativeFrames] | None:
        """Process frames in the file's own pixel format; None where RGB is needed.

        The results are upright and have the same pixel format.
        """
        return None

    @property
    def temporal_context(self) -> tuple[int, int]:
        """The number of frames before and after a frame that its result depends on.

        Segments of a job overlap by as many.
        """
        raise ClipError(
            f"{type(self).__name__} does not say how many frames around its own it looks at, "
            "so it cannot be done in segments; do it without a job"
        )

    def estimate_memory(self, input_info: ClipInfo) -> float:
        """The memory for one frame, in bytes, roughly."""
        return 2 * (input_info.frame_bytes + self.output_info(input_info).frame_bytes)

    def frame_memory(self, input_info: ClipInfo) -> float:
        """The part of `estimate_memory` that is whole frames in main memory.

        No tiling makes it smaller.
        """
        return self.estimate_memory(input_info)

    def motion_proxy(self, input_info: ClipInfo, proxy_info: ClipInfo) -> Operation | None:
        """Return the operation for the small frames on which motion is measured.

        None where it does not change the motion.
        """
        return self

    def swap_with_warp(self, warp_op: WarpOp, input_info: ClipInfo) -> tuple[Operation, WarpOp] | None:
        """Return this operation, and the warp before it, for the opposite order.

        None where the result would differ.
        """
        return None
