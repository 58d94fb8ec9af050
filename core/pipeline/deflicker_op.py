"""The operation that removes flicker from a clip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, log

from ..clip import ClipInfo, Frames
from ..filters.deflicker import MAX_BLEND_WEIGHT, deflicker
from ..motion.optical_flow.flow import FlowMethod, FlowModel, flow_model
from ..runtime.optional_cv2 import optional_opencv
from ..upscaling.postprocess import add_film_grain_rgba
from ..upscaling.settings import DEFAULT_DEFLICKER_STRENGTH
from .operation import Operation
from .warp_op import WarpOp


@dataclass(frozen=True, eq=False)
class DeflickerOp(Operation):
    """An operation that deflickers frames, then adds film grain.

    Deflickering is `filters.deflicker`; grain before it would count as flicker.

    flow: None selects DIS, which also measures slow motion of smooth surfaces, or Farneback without OpenCV.
    """

    strength: float = DEFAULT_DEFLICKER_STRENGTH
    grain: float = 0.0
    flow: FlowModel | None = None

    def run(self, frames: Iterator[Frames], input_info: ClipInfo, frame_offset: int = 0) -> Iterator[Frames]:
        flow = self.flow or flow_model(FlowMethod.DIS if optional_opencv() else FlowMethod.FARNEBACK)
        done = frame_offset
        for chunk in deflicker(frames, flow, self.strength):
            yield add_film_grain_rgba(chunk, self.grain, done) if self.grain else chunk
            done += len(chunk)

    def run_on_device(self, frames: Iterator[Frames], input_info: ClipInfo, frame_offset: int = 0) -> Iterator[Frames]:
        return self.run(frames, input_info, frame_offset)

    @property
    def temporal_context(self) -> tuple[int, int]:
        # Frames until the weight of the first one is below one step of 8 bits.
        weight = MAX_BLEND_WEIGHT * self.strength
        return ceil(log(1 / 256) / log(weight)) if weight else 0, 0

    def motion_proxy(self, input_info: ClipInfo, proxy_info: ClipInfo) -> None:
        return None

    def swap_with_warp(self, warp_op: WarpOp, input_info: ClipInfo) -> tuple[DeflickerOp, WarpOp]:
        return self, warp_op
