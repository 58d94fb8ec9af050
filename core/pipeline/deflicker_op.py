"""The operation that takes flicker out of a clip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, log

from ..clip import ClipInfo, Frames
from ..filters.deflicker import MOST, temporal
from ..motion.flow import FlowMethod, FlowModel, flow_model
from ..runtime.optional_cv2 import optional_opencv
from ..upscaling.postprocess import with_grain
from ..upscaling.settings import TEMPORAL
from .operation import Operation
from .warp_op import Steady


@dataclass(frozen=True, eq=False)
class Calm(Operation):
    """Frames without flicker, see `temporal.temporal`, and then with grain, which must not be taken for flicker.

    flow: None takes DIS, which also sees slow moves of smooth surfaces, or what there is without OpenCV.
    """

    strength: float = TEMPORAL
    grain: float = 0.0
    flow: FlowModel | None = None

    def run(self, frames: Iterator[Frames], before: ClipInfo, first: int = 0) -> Iterator[Frames]:
        flow = self.flow or flow_model(FlowMethod.DIS if optional_opencv() else FlowMethod.FARNEBACK)
        done = first
        for calm in temporal(frames, flow, self.strength):
            yield with_grain(calm, self.grain, done) if self.grain else calm
            done += len(calm)

    @property
    def context(self) -> tuple[int, int]:
        share = MOST * self.strength  # of the last result in the next: until nothing of a fresh start is seen
        return ceil(log(1 / 256) / log(share)) if share else 0, 0

    def for_motion(self, before: ClipInfo, small: ClipInfo) -> None:
        return None

    def ahead_of(self, steady: Steady, before: ClipInfo) -> tuple[Calm, Steady]:
        return self, steady
