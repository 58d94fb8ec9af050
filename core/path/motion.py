"""`Motion`: the measured camera motion of a clip, the result of pass 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from ..bars import NO_BARS, Bars, bar_sections
from ..clip import ClipInfo
from ..hold import Hold
from ..lens import Lens
from ..runtime.deprecation import renamed_fields
from .even_time import to_frame_times
from .mesh import MeshOffsets, resample_mesh

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
    agreement, links, thumbnails: only while a clip is measured, for motion/pose_graph.py and motion/transitions.py;
    then None. agreement: (N,), correlation of the two frames of each step, at most 1; 0 after a cut. links: (K, 12),
    steps over more than one frame: the first frame, the last one, the agreement, and the matrix row by row. thumbnails:
    (N, 144) uint8, each frame reduced.
    residuals: (N, *MESH_SHAPE, 2) float32, or None where they were not measured: how content near each vertex of a mesh
    moves beyond the step, in pixels of frame i. See motion/mesh_residuals.py.
    bars: of the frames, in pixels, or None. Then `info` and the steps are of the area inside the bars.
    shot_bars: of each shot, or None if all have the same. Then `bars` is None, `info` is that of the frames, and the
    steps of a shot are about the center of the area inside its bars.
    dissolves: slices of frames that are mixtures of two scenes; a shot starts within each.
    lens: of the camera, or None. With a lens, the steps are similarities that stand for rotations, see ray_camera.py.
    telemetry: what was made of a gyroscope in the file, see motion/telemetry.py; None if there was no search for one.
    level: (N,), the roll of each frame from level, in radians, as gravity shows it; None where it does not.
    bows, dark_sides: only while a clip is measured. bows: (N, 6), what a lens leaves in each step, see
    motion/lens_estimate.py. dark_sides: (N, 4), whether the left, top, right and bottom of a frame are black, see
    motion/bar_changes.py.
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
    thumbnails: NDArray[np.uint8] | None = None
    dissolves: list[slice] = field(default_factory=list[slice])
    residuals: MeshOffsets | None = None
    lens: Lens | None = None
    telemetry: str | None = None
    bows: NDArray[np.float64] | None = None
    hold: Hold = Hold.AUTO
    held: NDArray[np.float64] | None = None
    dark_sides: NDArray[np.bool_] | None = None
    shot_bars: tuple[Bars, ...] | None = None
    level: NDArray[np.float64] | None = None

    @property
    def frame_times(self) -> NDArray[np.float64]:
        """When each frame is presented, (N,), in units of 1 / fps."""
        return to_frame_times(self.times, self.info.fps, len(self.confidence))

    @property
    def frame_info(self) -> ClipInfo:
        """The properties of the frames, with their bars."""
        return self.info if self.bars is None else self.bars.full_info(self.info)

    def inside(self, bars: Bars) -> Motion:
        """Convert the motion of frames with bars to that of the area inside them."""
        center = np.eye(3)
        center[:2, 2] = (bars.left - bars.right) / 2, (bars.top - bars.bottom) / 2
        steps = geometry.normalize(geometry.inverse(center) @ self.steps @ center)
        info, residuals = bars.active_info(self.info), self.residuals
        if residuals is not None:
            residuals = resample_mesh(residuals, self.info.size, info.size, (float(center[0, 2]), float(center[1, 2])))
        return replace(self, steps=steps, info=info, bars=bars, residuals=residuals)

    def with_bars_inside(self) -> Motion:
        """The motion of the whole frames: the inverse of `inside` and of `inside_each`.

        Without residuals where there are bars. Not of a motion with a lens, whose center is that of the area inside the
        bars.
        """
        if self.bars is None and self.shot_bars is None:
            return self
        steps, shots = self.steps.copy(), self.shots
        shot_bars = self.shot_bars or [self.bars or NO_BARS] * len(shots)
        for shot, bars in zip(shots, shot_bars, strict=True):
            center = np.eye(3)
            center[:2, 2] = (bars.left - bars.right) / 2, (bars.top - bars.bottom) / 2
            steps[shot] = geometry.normalize(center @ self.steps[shot] @ geometry.inverse(center))
        return replace(self, steps=steps, info=self.frame_info, bars=None, shot_bars=None, residuals=None)

    def inside_each(self, shot_bars: Sequence[Bars]) -> Motion:
        """As `inside`, for shots with different bars."""
        steps, residuals = self.steps.copy(), None if self.residuals is None else self.residuals.copy()
        for frames, bars in bar_sections(self.shots, shot_bars):
            inner = self._section(frames, NO_BARS).inside(bars)
            steps[frames] = inner.steps
            if residuals is not None and inner.residuals is not None:
                residuals[frames] = inner.residuals
        return replace(self, steps=steps, residuals=residuals, shot_bars=tuple(shot_bars))

    def split_by_bars(self) -> list[Motion]:
        """The motions of runs of shots with the same bars, their `bars`."""
        if self.shot_bars is None:
            return [self]
        return [self._section(frames, bars) for frames, bars in bar_sections(self.shots, self.shot_bars)]

    def _section(self, frames: slice, bars: Bars) -> Motion:
        """A range of whole shots, whose steps are those of the area inside the bars."""
        info = bars.active_info(self.info)
        inner = (mixed for mixed in self.dissolves if mixed.start >= frames.start and mixed.stop <= frames.stop)
        return replace(
            self,
            steps=self.steps[frames],
            confidence=self.confidence[frames],
            info=replace(info, length=frames.stop - frames.start),
            readout=self.readout * info.height / self.info.height,
            times=None if self.times is None else self.times[frames],
            bars=None if bars == NO_BARS else bars,
            dissolves=[slice(mixed.start - frames.start, mixed.stop - frames.start) for mixed in inner],
            residuals=None if self.residuals is None else self.residuals[frames],
            held=None if self.held is None else self.held[frames],
            level=None if self.level is None else self.level[frames],
            shot_bars=None,
        )

    @property
    def shots(self) -> list[slice]:
        """Slices of frames between cuts."""
        starts = np.flatnonzero(self.confidence == 0).tolist()
        return [slice(a, b) for a, b in zip(starts, [*starts[1:], len(self.confidence)], strict=True)]
