"""What every operation on a clip says of itself; the answers here are those of one that looks at single frames."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..clip import ClipError, ClipInfo, Frames

if TYPE_CHECKING:
    from ..video.decode.stream_format import NativeFrames, StreamFormat
    from .warp_op import WarpOp


class Operation(ABC):
    """One thing to do to the frames of a clip. Subclasses are frozen dataclasses: their fields are its settings."""

    def output_info(self, input_info: ClipInfo) -> ClipInfo:
        """What becomes of a clip: here, the same. Raises ClipError where it cannot be done to such a clip."""
        return input_info

    @abstractmethod
    def run(self, frames: Iterator[Frames], input_info: ClipInfo, frame_offset: int = 0) -> Iterator[Frames]:
        """The frames of a clip, from that number on -> as many of `info(before)`."""

    def process_yuv(
        self, native_frames: Iterator[NativeFrames], input_info: ClipInfo, stream_format: StreamFormat
    ) -> Iterator[NativeFrames] | None:
        """The same for pictures as their file stores them -> upright ones of that format; None where it needs RGB."""
        return None

    @property
    def temporal_context(self) -> tuple[int, int]:
        """How many frames before and after its own it looks at; segments of a job begin and end with them."""
        raise ClipError(
            f"{type(self).__name__} does not say how many frames around its own it looks at, "
            "so it cannot be done in segments; do it without a job"
        )

    def estimate_memory(self, input_info: ClipInfo) -> float:
        """Bytes that it holds while it works on a frame, roughly."""
        return 2 * (input_info.frame_bytes + self.output_info(input_info).frame_bytes)

    def motion_proxy(self, input_info: ClipInfo, proxy_info: ClipInfo) -> Operation | None:
        """What of it is done to smaller frames, on which only motion is measured; None: nothing."""
        return self

    def swap_with_warp(self, warp_op: WarpOp, input_info: ClipInfo) -> tuple[Operation, WarpOp] | None:
        """What does the same in the other order where the clip is warped before; None where that is another picture."""
        return None
