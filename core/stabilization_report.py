"""What a stabilization did: zoom, cuts, readout, doubtful steps and shake.

From the measured motion and its correction, without another look at the pixels.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from .bars import NO_BARS, Bars
from .crop.border import Border, border_zooms
from .crop.zoom import zooms_to_fill
from .geometry import Matrices
from .hold import Hold
from .metrics import jitter
from .path.motion import Motion
from .path.trajectory import Correction, Trajectory, is_reliable

JITTER_SECONDS = 0.5  # of `metrics.jitter`: oscillations above about 0.75 Hz count
JITTER_FRAMES = 500  # at most so many frames of a clip are evaluated, evenly spaced


@dataclass(frozen=True)
class StabilizationReport:
    """What a stabilization did to a clip.

    zoom_mean, zoom_max: magnification by the border of the warp; 1 for borders that do not crop. zoom_frame: the frame
    that needs most magnification, which determines the zoom of a crop; None if no frame needs any.
    cuts: the first frame of each shot but the first. readout: readout time of the rolling shutter as a fraction of the
    frame time; 0 where it was not corrected. doubtful_steps: share, 0 to 1, of the steps between frames that could not
    be measured reliably and were interpolated. jitter_before, jitter_after: root mean square distance of the frames
    from a smooth motion, in pixels, by the measured motion: errors of the measurement are not included. None where all
    shots are too short to evaluate. keyframes: how many were followed. mesh: share of the frames, 0 to 1, that a mesh
    bends. field_of_view: of the lens, horizontally, in degrees; None for frames that were not turned along rays.
    telemetry: how a gyroscope was used, or why not, in words; None without a search for one. shot_bars: the bars of
    each shot, where they differ.
    hold: the choice of what was held. held: share of the frames, 0 to 1, in which that was followed; in the others the
    camera's motion was. lost: the ranges of these others, as pairs of first and last frame. For AUTO, held is 1 and
    lost is empty.
    """

    zoom_mean: float
    zoom_max: float
    zoom_frame: int | None
    cuts: list[int]
    readout: float
    doubtful_steps: float
    jitter_before: float | None
    jitter_after: float | None
    bars: Bars | None = None
    keyframes: int = 0
    mesh: float = 0.0
    field_of_view: float | None = None
    telemetry: str | None = None
    hold: str = Hold.AUTO.value
    held: float = 1.0
    lost: list[list[int]] = field(default_factory=list[list[int]])
    shot_bars: list[Bars] | None = None

    def as_dict(self) -> dict[str, object]:
        """The report as JSON values."""
        return {
            "zoom_mean": round(self.zoom_mean, 4),
            "zoom_max": round(self.zoom_max, 4),
            "zoom_frame": self.zoom_frame,
            "cuts": self.cuts,
            "readout": round(self.readout, 4),
            "doubtful_steps": round(self.doubtful_steps, 4),
            "jitter_before": None if self.jitter_before is None else round(self.jitter_before, 3),
            "jitter_after": None if self.jitter_after is None else round(self.jitter_after, 3),
            "bars": None if self.bars is None else asdict(self.bars),
            "keyframes": self.keyframes,
            "mesh": round(self.mesh, 4),
            "field_of_view": self.field_of_view,
            "telemetry": self.telemetry,
            "hold": self.hold,
            "held": round(self.held, 4),
            "lost": self.lost,
            "shot_bars": None if self.shot_bars is None else [asdict(bars) for bars in self.shot_bars],
        }

    def __str__(self) -> str:
        """One line.

        Such as "zoom 1.07 (frame 31 needs most), 2 cuts, shake 5.31 -> 0.12 px".
        """
        zoom = f"zoom {self.zoom_max:.2f}"
        if self.zoom_mean < self.zoom_max - 0.005:
            zoom = f"zoom {self.zoom_mean:.2f}, at most {self.zoom_max:.2f}"
        frame = "" if self.zoom_frame is None else f" (frame {self.zoom_frame} needs most)"
        parts = [zoom + frame, f"{len(self.cuts)} cut{'' if len(self.cuts) == 1 else 's'}"]
        if self.bars:
            parts.append(f"bars of {self.bars} px")
        if self.shot_bars:
            different = dict.fromkeys(f"{bars} px" if bars != NO_BARS else "none" for bars in self.shot_bars)
            parts.append(f"bars by shot ({'; '.join(different)})")
        if self.keyframes:
            parts.append(f"{self.keyframes} keyframe{'' if self.keyframes == 1 else 's'}")
        if self.field_of_view is not None:
            parts.append(f"field of view {self.field_of_view:.0f} degrees")
        if self.telemetry is not None:
            parts.append(f"telemetry {self.telemetry}")
        if self.hold != Hold.AUTO.value:
            missing = f", not seen in {1 - self.held:.1%} of the frames" if self.lost else ""
            parts.append(f"holds the {self.hold}{missing}")
        if self.readout:
            parts.append(f"readout {self.readout:.2f} of a frame")
        if self.mesh:
            parts.append(f"a mesh bends {self.mesh:.0%} of the frames")
        if self.doubtful_steps:
            parts.append(f"{self.doubtful_steps:.1%} of the steps doubtful")
        if self.jitter_before is not None and self.jitter_after is not None:
            parts.append(f"shake {self.jitter_before:.2f} -> {self.jitter_after:.2f} px")
        return ", ".join(parts)


def report_stabilization(
    motion: Motion, correction: Correction, border: Border, keyframes: int = 0
) -> StabilizationReport:
    """Describe what the correction of a measured motion does with a border.

    keyframes: how many the correction follows.
    Raises ClipError where the border cannot be cropped, as `with_border_zoom` does.
    """
    measured = Trajectory.of(motion)
    required, zooms = zooms_to_fill(correction), border_zooms(correction, Border(border))
    steps = np.ones(len(motion.confidence), bool)
    steps[[shot.start for shot in motion.shots]] = False
    reliable = is_reliable(motion.confidence, motion.steps)
    return StabilizationReport(
        zoom_mean=float(zooms.mean()) if len(zooms) else 1.0,
        zoom_max=float(zooms.max(initial=1.0)),
        zoom_frame=int(required.argmax()) if zooms.max(initial=1.0) > 1 else None,
        cuts=[shot.start for shot in motion.shots[1:]],
        readout=motion.readout,
        doubtful_steps=float((steps & ~reliable).sum() / max(1, steps.sum())),
        jitter_before=_jitter(measured, measured.poses),
        jitter_after=_jitter(measured, measured.corrected(correction).poses),
        bars=correction.bars,
        keyframes=keyframes,
        mesh=0.0 if correction.mesh is None else float(correction.mesh.any(axis=(1, 2, 3)).mean()),
        field_of_view=None if correction.lens is None else correction.lens.fov,
        telemetry=motion.telemetry,
        hold=motion.hold.value,
        held=1.0 if motion.held is None else float(motion.held.mean()),
        shot_bars=None if correction.shot_bars is None else list(correction.shot_bars),
        lost=[] if motion.held is None else _ranges(motion.held == 0),
    )


def _ranges(selected: NDArray[np.bool_]) -> list[list[int]]:
    """Return the first and the last index of each run of selected frames (n,)."""
    edges = np.flatnonzero(np.diff(selected, prepend=False, append=False)).reshape(-1, 2)
    return [[int(start), int(stop) - 1] for start, stop in edges]


def _jitter(trajectory: Trajectory, poses: Matrices) -> float | None:
    """Return the jitter of all shots that are long enough, or None."""
    margin = 2 * round(1.5 * JITTER_SECONDS * float(trajectory.info.fps))
    lengths = [shot.stop - shot.start - margin for shot in trajectory.shots]
    total = sum(max(0, length) for length in lengths)
    if not total:
        return None
    stride = max(1, total // JITTER_FRAMES)
    squares = sum(
        length * jitter(poses[shot], trajectory.info, JITTER_SECONDS, stride=stride) ** 2
        for shot, length in zip(trajectory.shots, lengths, strict=True)
        if length > 0
    )
    return float(np.sqrt(squares / total))
