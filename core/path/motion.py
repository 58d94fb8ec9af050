"""`Motion`: the measured camera motion of a clip, the result of pass 1."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from ..bars import Bars
from ..clip import ClipInfo
from ..hold import Hold
from ..runtime.deprecation import renamed_fields
from .even_time import to_frame_times

MAX_STEP_SCALE = 4.0  # no camera zooms by more from one frame to the next


@renamed_fields(trust="confidence")
@dataclass(frozen=True)
class Motion:
    """The measured camera motion between neighboring frames.

    steps: (N, 3, 3); steps[i] maps points of frame i - 1 to frame i, in full-size pixels (see geometry.py). steps[0] is
    the identity.
    confidence: (N,) in [0, 1]; the fraction of the frame that follows the step. 0 marks frame i as the first of a shot.
    readout: rolling shutter: the time between the exposure of the first and the last row as a fraction of the frame
    time 1 / fps, from -1 (the last row is first) to 1; 0 for a global shutter. See motion/readout_time.py.
    times: (N,), when each frame is presented, in seconds, strictly increasing; None for a constant frame rate.
    agreement, links: only while a clip is measured, for motion/pose_graph.py; then None. agreement: (N,), correlation
    of the two frames of each step, at most 1; 0 after a cut. links: (K, 12), steps over more than one frame: the first
    frame, the last one, the agreement, and the matrix row by row.
    bars: of the frames, in pixels, or None. Then `info` and the steps are of the area inside the bars.
    hold, held: what the steps follow, see motion/held_motion.py. held: (N,), 1 where it is followed, 0 where the camera
    is because it was not seen, between where one passes over to the other; None for AUTO.
    """

    steps: geometry.Matrices
    confidence: NDArray[np.float64]
    info: ClipInfo
    readout: float = 0.0
    times: NDArray[np.float64] | None = None
    agreement: NDArray[np.float64] | None = None
    links: NDArray[np.float64] | None = None
    bars: Bars | None = None
    hold: Hold = Hold.AUTO
    held: NDArray[np.float64] | None = None

    @property
    def frame_times(self) -> NDArray[np.float64]:
        """When each frame is presented, (N,), in units of 1 / fps."""
        return to_frame_times(self.times, self.info.fps, len(self.confidence))

    def inside(self, bars: Bars) -> Motion:
        """Convert the motion of frames with bars to that of the area inside them."""
        center = np.eye(3)
        center[:2, 2] = (bars.left - bars.right) / 2, (bars.top - bars.bottom) / 2
        steps = geometry.normalize(geometry.inverse(center) @ self.steps @ center)
        return replace(self, steps=steps, info=bars.active_info(self.info), bars=bars)

    @property
    def shots(self) -> list[slice]:
        """Slices of frames between cuts."""
        starts = np.flatnonzero(self.confidence == 0).tolist()
        return [slice(a, b) for a, b in zip(starts, [*starts[1:], len(self.confidence)], strict=True)]
