"""The accumulated camera path and the warp of each frame.

Three types contain similar matrices with different meaning: `Motion` (motion.py) is measured between neighbors,
`Trajectory` is accumulated over a shot, `Correction` is applied to the pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from ..bars import NO_BARS, Bars, bar_sections
from ..clip import ClipError, ClipInfo
from ..lens import Lens
from ..runtime.deprecation import renamed_fields
from .even_time import to_frame_times
from .mesh import MeshOffsets
from .motion import MAX_STEP_SCALE, Motion
from .rolling_shutter import RowHomographies, rectify_steps

AnyFloat = TypeVar("AnyFloat", np.float32, np.float64)

MIN_CONFIDENCE = 0.2  # steps with less are interpolated from their neighbors
FADE_SECONDS = 0.5  # in which the speed of the nearest reliable step falls to 1/e at the ends of a shot


@dataclass(frozen=True)
class Trajectory:
    """The path of the camera.

    poses: (N, 3, 3); poses[i] maps points of frame i to the first frame of the same shot. So its translation is the
    position of the frame's center, its angle the camera's roll.
    shots: slices of frames between cuts; each starts at the identity when measured.
    rows: row homographies of a rolling shutter (rolling_shutter.py), or None; poses are then those of the middle rows.
    times, lens, level: as in `Motion`.
    """

    poses: geometry.Matrices
    shots: list[slice]
    info: ClipInfo
    rows: RowHomographies | None = None
    times: NDArray[np.float64] | None = None
    lens: Lens | None = None
    level: NDArray[np.float64] | None = None

    @staticmethod
    def of(motion: Motion) -> Trajectory:
        """Accumulate steps into poses, shot by shot.

        Steps of low confidence are interpolated.
        """
        steps, rows = geometry.matrices_from_tangents(interpolate_low_confidence(motion)), None
        if motion.readout:
            similarity = motion.lens is not None
            steps, rows = rectify_steps(
                steps, motion.shots, motion.info, motion.readout, motion.frame_times, similarity=similarity
            )
        poses = np.empty_like(steps)
        for shot in motion.shots:
            poses[shot.start] = np.eye(3)
            for i in range(shot.start + 1, shot.stop):
                poses[i] = geometry.normalize(poses[i - 1] @ geometry.inverse(steps[i]))
        return Trajectory(poses, motion.shots, motion.info, rows, motion.times, motion.lens, motion.level)

    @property
    def frame_times(self) -> NDArray[np.float64]:
        """When each frame is presented, (N,), in units of 1 / fps."""
        return to_frame_times(self.times, self.info.fps, len(self.poses))

    @property
    def path(self) -> geometry.Parameters:
        """Path parameters (N, 4), for display.

        x, y of the center in pixels, angle in radians, unwrapped in each shot, and log zoom.
        """
        parameters = geometry.to_parameters(self.poses)
        for shot in self.shots:
            parameters[shot, 2] = np.unwrap(parameters[shot, 2])
        return parameters

    def corrected(self, correction: Correction) -> Trajectory:
        """The path of the camera after the correction is applied."""
        return replace(self, poses=geometry.normalize(self.poses @ geometry.inverse(correction.matrices)), rows=None)


@renamed_fields(bends="distorts_rows")
@dataclass(frozen=True)
class Correction:
    """The warp of each frame.

    matrices: (N, 3, 3); matrices[i] maps points of source frame i to the stabilized frame i.
    poses: (N, 3, 3) or None; the `Trajectory` of the source frames, if known. Needed to find points of one frame in
    another: Border.FILL does.
    rows: (N, ROW_SAMPLES, 3, 3) or None; row homographies that rectify rolling-shutter frames (rolling_shutter.py)
    before the matrices are applied.
    distorts_rows: if True, the matrices are applied first and then the inverses of `mesh` and `rows`, which adds their
    distortion. The inverse of a correction does; with a lens, it maps frames by the inverse rotations.
    times, bars: as in `Motion`. Bars stay where they are: `info` and the matrices are of the area inside them.
    shot_bars: as in `Motion`; then the matrices of a shot are of the area inside its bars.
    mesh: (N, *MESH_SHAPE, 2) float32 or None; offsets of source points in pixels, see mesh.py, applied between the
    matrices and the rows.
    lens: of the camera, or None. With a lens, the inverse of a matrix is a view as in ray_camera.py, from the
    stabilized frame to the source.
    """

    matrices: geometry.Matrices
    shots: list[slice]
    info: ClipInfo
    poses: geometry.Matrices | None = None
    rows: RowHomographies | None = None
    distorts_rows: bool = False
    times: NDArray[np.float64] | None = None
    bars: Bars | None = None
    mesh: MeshOffsets | None = None
    lens: Lens | None = None
    shot_bars: tuple[Bars, ...] | None = None

    @property
    def frame_info(self) -> ClipInfo:
        """The properties of the whole frames, including their bars."""
        return self.info if self.bars is None else self.bars.full_info(self.info)

    @property
    def frame_times(self) -> NDArray[np.float64]:
        """When each frame is presented, (N,), in units of 1 / fps."""
        return to_frame_times(self.times, self.info.fps, len(self.matrices))

    def scaled(self, factor: float) -> Correction:
        """Convert the correction to frames upscaled by `factor`.

        So motion can be measured on small frames and the large ones warped.
        """
        info = self.frame_info.scaled(factor)
        return self.resized(info.width, info.height)

    def resized(self, width: int, height: int) -> Correction:
        """Convert the correction to the clip at another size.

        Rounding may scale the sides differently.

        Raises ClipError for a size of another aspect ratio: those are other frames, or a crop of these.
        """
        if self.shot_bars is not None:
            return self.join_by_bars([part.resized(width, height) for part in self.split_by_bars()])
        full = self.frame_info
        # More than the rounding of a pixel in either size: the smaller one may be the result of rounding as well.
        if abs(width * full.height - height * full.width) > max(width + height, full.width + full.height):
            raise ClipError(
                f"the correction was measured on frames of {full.width}x{full.height}, and "
                f"{width}x{height} is another shape: warp before cropping, or measure the cropped frames"
            )
        bars = None if self.bars is None else self.bars.scaled(width / full.width, height / full.height)
        info = full.resized(width, height)
        info = info if bars is None else bars.active_info(info)
        factors = (info.width / self.info.width, info.height / self.info.height)
        return replace(
            self,
            matrices=geometry.rescale(self.matrices, *factors),
            poses=None if self.poses is None else geometry.rescale(self.poses, *factors),
            rows=None if self.rows is None else geometry.rescale(self.rows, *factors),
            mesh=None if self.mesh is None else self.mesh * np.array(factors, np.float32),
            info=info,
            bars=bars,
        )

    def split_by_bars(self) -> list[Correction]:
        """The corrections of runs of shots with the same bars, their `bars`."""
        if self.shot_bars is None:
            return [self]
        return [self._section(frames, bars) for frames, bars in bar_sections(self.shots, self.shot_bars)]

    def _section(self, frames: slice, bars: Bars) -> Correction:
        """A range of whole shots, numbered from 0."""
        count = frames.stop - frames.start
        inner = [shot for shot in self.shots if frames.start <= shot.start < frames.stop]
        return replace(
            self,
            matrices=self.matrices[frames],
            shots=[slice(shot.start - frames.start, shot.stop - frames.start) for shot in inner],
            info=replace(bars.active_info(self.info), length=count),
            poses=None if self.poses is None else self.poses[frames],
            rows=None if self.rows is None else self.rows[frames],
            times=None if self.times is None else self.times[frames],
            bars=None if bars == NO_BARS else bars,
            mesh=None if self.mesh is None else self.mesh[frames],
            shot_bars=None,
        )

    def join_by_bars(self, parts: Sequence[Correction]) -> Correction:
        """Join corrections in place of those of `split_by_bars`.

        Their frames may have another size.
        """
        assert self.shot_bars is not None, "the parts of one correction have the bars of its shots"
        counts = [len(part.matrices) for part in parts]
        shot_bars = [part.bars or NO_BARS for part in parts for _ in part.shots]
        return replace(
            self,
            matrices=np.concatenate([part.matrices for part in parts]),
            info=replace(parts[0].frame_info, length=self.info.length),
            poses=_joined([part.poses for part in parts], counts, np.eye(3)),
            rows=_joined([part.rows for part in parts], counts, np.eye(3)),
            mesh=_joined([part.mesh for part in parts], counts, np.zeros(2, np.float32)),
            distorts_rows=parts[0].distorts_rows,
            shot_bars=tuple(shot_bars),
        )


def _joined(
    tables: Sequence[NDArray[AnyFloat] | None], counts: Sequence[int], neutral: NDArray[AnyFloat]
) -> NDArray[AnyFloat] | None:
    """Concatenate tables of frames.

    One that is missing has neutral values. None if all are.
    """
    known = next((table for table in tables if table is not None), None)
    if known is None:
        return None
    filled = [
        np.broadcast_to(neutral, (count, *known.shape[1:])) if table is None else table
        for table, count in zip(tables, counts, strict=True)
    ]
    return np.concatenate(filled)


def correction(measured: Trajectory, wanted: Trajectory) -> Correction:
    """Return the correction that moves frames to the wanted camera path."""
    matrices = geometry.normalize(geometry.inverse(wanted.poses) @ measured.poses)
    return Correction(
        matrices, measured.shots, measured.info, measured.poses, measured.rows, times=measured.times, lens=measured.lens
    )


def inverse(correction: Correction) -> Correction:
    """Return the inverse of a correction.

    Applied to the stabilized frames it restores the shake.

    Invert the correction that was applied: a crop also zooms, see `with_border_zoom`.
    """
    matrices = geometry.normalize(geometry.inverse(correction.matrices))
    poses = None if correction.poses is None else geometry.normalize(correction.poses @ matrices)
    is_distorted = any(bend is not None for bend in (correction.rows, correction.mesh, correction.lens))
    distorts_rows = is_distorted and not correction.distorts_rows
    return replace(correction, matrices=matrices, poses=poses, distorts_rows=distorts_rows)


def is_reliable(confidence: NDArray[np.float64] | float, steps: geometry.Matrices) -> NDArray[np.bool_]:
    """Return whether each step (..., 3, 3) is reliable: (...,).

    Reliable steps have enough confidence (...,) and are not degenerate.
    """
    return (confidence >= MIN_CONFIDENCE) & geometry.is_regular(steps, MAX_STEP_SCALE)


def interpolate_low_confidence(motion: Motion) -> geometry.Tangents:
    """Return the tangents (N, 8) of the steps, with unreliable ones interpolated.

    The speed is interpolated, linearly in time, within each shot. Before the first and after the last reliable step of
    a shot it fades: a single step may be wrong, and repeated for seconds it would carry the path away.
    """
    reliable = is_reliable(motion.confidence, motion.steps)
    tangents = geometry.to_tangents(np.where(reliable[:, None, None], motion.steps, np.eye(3)))
    times = motion.frame_times
    steps = np.diff(times, prepend=times[:1] - 1)
    for shot in motion.shots:
        index = np.arange(shot.start + 1, shot.stop, dtype=np.intp)
        good, weak = index[reliable[index]], index[~reliable[index]]
        if len(weak):
            speeds = tangents[good] / steps[good, None] if len(good) else np.zeros((1, 8))
            middles = times - steps / 2
            positions = middles[good if len(good) else index[:1]]
            interpolated = np.stack([np.interp(middles[weak], positions, column) for column in speeds.T], axis=-1)
            beyond = np.abs(middles[weak] - np.clip(middles[weak], positions[0], positions[-1]))  # frames
            interpolated *= np.exp(-beyond / (FADE_SECONDS * float(motion.info.fps)))[:, None]
            tangents[weak] = interpolated * steps[weak, None]
    return tangents
