"""Where each frame has got to, where it should be, and what carries it there.

Three types with the same numbers and different promises: `Motion` is measured between neighbours (motion/estimate.py),
`Trajectory` is accumulated over a shot, `Correction` is to be applied to the pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .. import geometry
from ..clip import ClipError, ClipInfo
from .motion import Motion
from .rolling_shutter import RowHomographies, rectify_steps

MIN_CONFIDENCE = (
    0.2  # trust below which a step is guessed from its neighbours: little of the picture agrees on where it went
)


@dataclass(frozen=True)
class Trajectory:
    """The camera's way through the scene.

    poses: (N, 3, 3); poses[i] carries points of frame i to where they are on the first frame of the same shot. Its
    translation is therefore the place of the frame's centre, its angle the camera's roll.
    shots: the runs of frames that belong together; each starts at the identity when measured.
    rows: of a rolling shutter, what makes each frame straight (rolling.py); poses are then those of the middle rows.
    """

    poses: geometry.Matrices
    shots: list[slice]
    info: ClipInfo
    rows: RowHomographies | None = None

    @staticmethod
    def of(motion: Motion) -> Trajectory:
        """Accumulate steps into poses, shot by shot. Weak steps are interpolated from those around them."""
        steps, rows = geometry.matrices_from_tangents(interpolate_low_confidence(motion)), None
        if motion.readout:
            steps, rows = rectify_steps(steps, motion.shots, motion.info, motion.readout)
        poses = np.empty_like(steps)
        for shot in motion.shots:
            poses[shot.start] = np.eye(3)
            for i in range(shot.start + 1, shot.stop):
                poses[i] = geometry.normalize(poses[i - 1] @ np.linalg.inv(steps[i]))
        return Trajectory(poses, motion.shots, motion.info, rows)

    @property
    def path(self) -> geometry.Parameters:
        """(N, 4), for people: the centre's x, y in pixels, angle in radians (continuous within a shot), log zoom."""
        parameters = geometry.to_parameters(self.poses)
        for shot in self.shots:
            parameters[shot, 2] = np.unwrap(parameters[shot, 2])
        return parameters

    def corrected(self, correction: Correction) -> Trajectory:
        """The way that the camera seems to have taken once the correction is applied."""
        return replace(self, poses=geometry.normalize(self.poses @ np.linalg.inv(correction.matrices)), rows=None)


@dataclass(frozen=True)
class Correction:
    """What to do to each frame.

    matrices: (N, 3, 3); matrices[i] carries points of source frame i to where they belong in the stabilised frame i.
    poses: (N, 3, 3) or None; the `Trajectory` of the source frames, where it is known. Only who looks for a place of
    one frame in another needs it: filling from neighbours does.
    rows: (N, ROWS, 3, 3) or None; of frames that a rolling shutter bent, what makes them straight (rolling.py) before
    the matrices are applied.
    bends: whether it is the other way round: the matrices first, and then what `rows` makes straight is bent. So does
    the inverse of a correction.
    """

    matrices: geometry.Matrices
    shots: list[slice]
    info: ClipInfo
    poses: geometry.Matrices | None = None
    rows: RowHomographies | None = None
    distorts_rows: bool = False

    def scaled(self, factor: float) -> Correction:
        """The same correction for frames enlarged by `factor`: measure on the small ones, warp the large ones."""
        info = self.info.scaled(factor)
        return self.resized(info.width, info.height)

    def resized(self, width: int, height: int) -> Correction:
        """The same correction for the clip at another size. Rounding may stretch the sides differently.

        Raises ClipError for a size of another shape: those are other frames, or a crop of these.
        """
        stretch = (width / self.info.width, height / self.info.height)
        if abs(width * self.info.height - height * self.info.width) > width + height:  # more than a pixel's rounding
            raise ClipError(
                f"the correction was measured on frames of {self.info.width}x{self.info.height}, and "
                f"{width}x{height} is another shape: warp before cropping, or measure the cropped frames"
            )
        return replace(
            self,
            matrices=geometry.rescale(self.matrices, *stretch),
            poses=None if self.poses is None else geometry.rescale(self.poses, *stretch),
            rows=None if self.rows is None else geometry.rescale(self.rows, *stretch),
            info=self.info.resized(width, height),
        )


def correction(measured: Trajectory, wanted: Trajectory) -> Correction:
    """What moves each frame from where the camera was to where it should have been."""
    matrices = geometry.normalize(np.linalg.inv(wanted.poses) @ measured.poses)
    return Correction(matrices, measured.shots, measured.info, measured.poses, measured.rows)


def inverse(correction: Correction) -> Correction:
    """What undoes a correction: applied to the stabilised frames it puts the shake back.

    Undo what was done: a warp that crops also zooms, and `warp.framed` says by how much.
    """
    matrices = geometry.normalize(np.asarray(np.linalg.inv(correction.matrices), np.float64))
    poses = None if correction.poses is None else geometry.normalize(correction.poses @ matrices)
    return replace(
        correction,
        matrices=matrices,
        poses=poses,
        distorts_rows=correction.rows is not None and not correction.distorts_rows,
    )


def interpolate_low_confidence(motion: Motion) -> geometry.Tangents:
    """Tangents of the steps (N, 8), weak ones replaced by a line between the nearest good ones of the same shot."""
    steps = geometry.to_tangents(motion.steps)
    for shot in motion.shots:
        index = np.arange(shot.start + 1, shot.stop)
        good = index[motion.confidence[index] >= MIN_CONFIDENCE]
        weak = index[motion.confidence[index] < MIN_CONFIDENCE]
        if len(weak):
            known = steps[good] if len(good) else np.zeros((1, 8))
            where = good if len(good) else index[:1]
            steps[weak] = np.stack([np.interp(weak, where, column) for column in known.T], axis=-1)
    return steps
