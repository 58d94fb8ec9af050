"""The operation that takes flicker out of a clip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, log

from ..clip import ClipInfo, Frames
from ..filters.deflicker import MAX_BLEND_WEIGHT, deflicker
from ..motion.flow import FlowMethod, FlowModel, flow_model
from ..runtime.optional_cv2 import optional_opencv
from ..upscaling.postprocess import add_film_grain_rgba
from ..upscaling.settings import DEFAULT_DEFLICKER_STRENGTH
from .operation import Operation
from .warp_op import WarpOp


@dataclass(frozen=True, eq=False)
class DeflickerOp(Operation):
    """Frames without flicker, see `temporal.temporal`, and then with grain, which must not be taken for flicker.

    flow: None takes DIS, which also sees slow moves of smooth surfaces, or what there is without OpenCV.
    """

    strength: float = DEFAULT_DEFLICKER_STRENGTH
    grain: float = 0.0
    flow: FlowModel | None = None

    def run(self, frames: Iterator[Frames], input_info: ClipInfo, frame_offset: int = 0) -> Iterator[Frames]:
        flow = self.flow or flow_model(FlowMethod.DIS if optional_opencv() else FlowMethod.FARNEBACK)
        done = frame_offset
        for calm in deflicker(frames, flow, self.strength):
            yield add_film_grain_rgba(calm, self.grain, done) if self.grain else calm
            done += len(calm)

    @property
    def temporal_context(self) -> tuple[int, int]:
        share = (
            MAX_BLEND_WEIGHT * self.strength
        )  # of the last result in the next: until nothing of a fresh start is seen
        return ceil(log(1 / 256) / log(share)) if share else 0, 0

    def motion_proxy(self, input_info: ClipInfo, proxy_info: ClipInfo) -> None:
        return None

    def swap_with_warp(self, warp_op: WarpOp, input_info: ClipInfo) -> tuple[DeflickerOp, WarpOp]:
        return self, warp_op
