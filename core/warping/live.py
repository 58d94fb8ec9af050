"""Steady while it films: each frame is corrected by what came before it and at most a few frames after it.

`measure` sees frames and says how the camera moved; `live` corrects. Both hold a bounded number of frames, however long
the camera runs, and the frame that comes out is `look_ahead` frames behind the one that went in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from .. import geometry
from ..clip import ClipError, ClipInfo, Frames, TensorClip
from ..motion.estimate import FIRST_STEP, WORKING_SIDE, estimate_step, luma_frames
from ..motion.flow import FlowModel
from ..motion.gray_frame import GrayFrame
from ..path import rolling_shutter
from ..path.border import Border
from ..path.kalman import kalman_lagged
from ..path.rolling_shutter import RowHomographies
from ..path.strength import Strength, apply_strength
from ..path.trajectory import MIN_CONFIDENCE, Correction
from ..path.zoom import apply_zoom, attenuate_correction, max_strength_for_zoom
from ..runtime.optional_cv2 import optional_opencv
from . import remap
from .remap import Warped
from .sampling_map import SamplingMap, pixel_maps

CameraController: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Steers a virtual camera through one shot, frame by frame: seen (1 + k, 8) -> move (8,). It is told where this frame
and the k known after it stand, and answers how the virtual camera moves on to show this frame; both as tangents in
pixels and radians (geometry.py), seen from where the virtual camera was last."""

LiveSmoother: TypeAlias = Callable[[float, float, float, float], CameraController]
"""(width, height, max_zoom, period in frames) -> a driver for the next shot, which begins where its first frame is."""


class FrameMotion(NamedTuple):
    """A frame (1, C, H, W), and how the camera came to it: step (3, 3) and trust as in `Motion`."""

    frame: Frames
    step: geometry.Matrices
    confidence: float


def stream_motion(frames: Iterator[Frames], flow: FlowModel, *, side: int = WORKING_SIDE) -> Iterator[FrameMotion]:
    """Each frame with its step from the one before, as it comes. flow and side: as for `estimate_motion`."""
    previous: GrayFrame | None = None
    step = FIRST_STEP
    for frame in (batch[i : i + 1] for batch in frames for i in range(len(batch))):
        current = GrayFrame.of(next(luma_frames(TensorClip(frame), side)))
        if previous is not None:
            step = estimate_step(previous, current, flow, step.inlier_map)
        (height, width), size = frame.shape[-2:], current.plane.shape
        yield FrameMotion(frame, geometry.rescale(step.matrix, width / size[1], height / size[0]), step.confidence)
        previous = current


def stabilize_live(
    frame_motions: Iterator[FrameMotion],
    fps: Fraction,
    *,
    seconds: float = 3.0,
    look_ahead: int = 0,
    max_zoom: float = 1.2,
    border: Border = Border.CROP,
    device: torch.device | str = "cpu",
    smoother: LiveSmoother | None = None,
    strength: Strength | None = None,
    horizon: float = 0.0,
    readout: float = 0.0,
) -> Iterator[Warped]:
    """Stabilise frames as they come, one out for each one in, once `look_ahead` more are known; the rest at the end.

    seconds: swings of the camera with a shorter period than this are removed (Kalman, with a fixed lag).
    look_ahead: frames of the future that may be looked at. 0 knows none, and therefore lags behind every pan.
    max_zoom: what is moved farther than this magnification hides is held back; CROP zooms in by it, once and for all,
    because it cannot know what comes.
    smoother: in place of Kalman: what steers a virtual camera, such as `models.load_path_smoother().driver`.
    strength: how much of the correction is applied, axis by axis; None all of it.
    horizon: 0 to 1, how much of the slow roll is removed too. Level is how the shot has been held so far: the mean of
    its smooth roll, for nobody knows yet how it will mostly be held.
    readout: of a camera that exposes row by row, its share of the frame time, see `Motion`; each frame is then made
    straight too. Nobody can find it live, for it takes a whole clip to tell it (motion/readout.py): measure one that
    this camera has filmed. A look-ahead of up to rolling.REACH frames makes it better known how each frame was moved.
    Raises ClipError for settings that make no sense live, and for a size that changes.
    """
    border = Border(border)
    if border in (Border.FILL, Border.CROP_ADAPTIVE):
        raise ClipError(f"the border '{border.value}' needs to know the future: live, use crop, mirror, edge or black")
    if not seconds > 0 or look_ahead < 0 or not max_zoom >= 1:
        raise ClipError(
            "live stabilisation needs a period above 0 seconds, 0 or more frames to look ahead and a zoom of 1 or "
            f"more, got {seconds}, {look_ahead} and {max_zoom}"
        )
    if not 0 <= horizon <= 1:
        raise ClipError(f"the horizon is a share from 0 (as the smoother leaves it) to 1 (level), got {horizon}")
    if not -1 <= readout <= 1:
        raise ClipError(f"the readout of a rolling shutter is a share of the frame time from -1 to 1, got {readout}")
    device = torch.device(device)
    look = remap.make_remapper(optional_opencv() if device.type == "cpu" else None)
    period = seconds * float(fps)
    buffers, share = torch.empty(3, 0, 0), 1.0
    wanted = smoother and (lambda width, height: smoother(width, height, max_zoom, period))
    fixes = _compute_corrections(frame_motions, fps, period, look_ahead, wanted, readout)
    for frame, fix, first in _level_horizon(fixes, horizon) if horizon else fixes:
        height, width = frame.shape[-2:]
        if buffers.numel() == 0:
            buffers = torch.empty(3, height, width, device=device)
        elif buffers.shape[1:] != frame.shape[2:]:
            raise ClipError(f"the frames change from {buffers.shape[2]}x{buffers.shape[1]} to {width}x{height}")
        fix = apply_strength(fix, strength) if strength else fix
        # Held back at once where it must be, let go again slowly, and afresh after a cut.
        share = min(float(max_strength_for_zoom(fix, max_zoom)[0]), 1.0 if first else share + 1 / period)
        fix = attenuate_correction(fix, np.array([share])) if share < 1 else fix
        fix = apply_zoom(fix, max_zoom) if border is Border.CROP else fix
        back = pixel_maps(fix.matrices, width, height)[0]
        way = SamplingMap(back, (width, height), (width, height), source_rows=fix.rows)
        x, y = way.source_coords(buffers)
        invented = way.fill_mask(x, y)
        yield Warped(look(frame[0].to(device), x, y, border)[None].cpu(), invented[None].cpu())


def _compute_corrections(
    frame_motions: Iterator[FrameMotion],
    fps: Fraction,
    period: float,
    look_ahead: int,
    make_controller: Callable[[float, float], CameraController] | None = None,
    readout: float = 0.0,
) -> Iterator[tuple[Frames, Correction, bool]]:
    """Each frame with its correction, and whether a shot begins with it, as soon as it has its future."""
    reach = int(np.ceil(2 * period))  # no weight reaches farther back, to four digits
    weights: dict[tuple[int, int], NDArray[np.float64]] = {}
    kept = max(reach, 2 * rolling_shutter.RADIUS_FRAMES) + look_ahead + 1
    waiting: deque[tuple[Frames, bool]] = deque()
    poses, shots = np.empty((0, 3, 3)), np.empty(0, dtype=int)  # of `kept` frames: shown already, and those waiting
    steps, rows = (
        np.empty((0, 3, 3)),
        np.empty((0, rolling_shutter.ROW_SAMPLES, 3, 3)),
    )  # as measured, and what makes each straight
    good = np.eye(3)
    driver: CameraController | None = None
    virtual = np.eye(3)  # the pose of the camera that a driver steers

    def pop_correction() -> tuple[Frames, Correction, bool]:
        nonlocal driver, virtual
        frame, first = waiting.popleft()
        at = len(poses) - 1 - len(waiting)
        info = ClipInfo(frame.shape[3], frame.shape[2], fps)
        bent = rows[at][None] if readout else None
        if make_controller:
            if first or driver is None:
                driver, virtual = make_controller(info.width, info.height), poses[at]
            known = poses[at:][shots[at:] == shots[at]]
            move = driver(geometry.to_tangents(np.linalg.inv(virtual) @ known))
            virtual = geometry.normalize(virtual @ geometry.matrices_from_tangents(move))
            fix = geometry.normalize(np.asarray(np.linalg.inv(virtual) @ poses[at], np.float64))
            return frame, Correction(fix[None], [slice(0, 1)], info, poses[at][None], bent), first
        window = np.arange(max(0, at - reach), len(poses))
        window = window[shots[window] == shots[at]]
        at -= int(window[0])
        key = len(window), at
        if key not in weights:
            weights[key] = kalman_lagged(np.eye(len(window)), period)[at]
        fix = _correction_to_mean(poses[window], at, weights[key])
        return frame, Correction(fix[None], [slice(0, 1)], info, poses[at][None], bent), first

    for frame, step, trust in frame_motions:
        first = trust == 0 or len(poses) == 0
        good = (
            np.eye(3) if first else step if trust >= MIN_CONFIDENCE else good
        )  # what is not to be trusted goes on as before
        pose = np.eye(3) if first else poses[-1] @ np.linalg.inv(good)
        poses = geometry.normalize(np.concatenate([poses, pose[None]])[-kept:])
        shots = np.append(shots, shots[-1] + first if len(shots) else 0)[-kept:]
        waiting.append((frame, first))
        if readout:
            steps = np.concatenate([steps, good[None]])[-kept:]
            rows = np.concatenate([rows, np.tile(np.eye(3), (1, rolling_shutter.ROW_SAMPLES, 1, 1))])[-kept:]
            shot = shots[-(look_ahead + 2 * rolling_shutter.RADIUS_FRAMES + 1) :] == shots[-1]
            _rectify_poses(poses, steps, rows, int(shot.sum()), ClipInfo(frame.shape[3], frame.shape[2], fps), readout)
        if len(waiting) > look_ahead:
            yield pop_correction()
    while waiting:
        yield pop_correction()


def _rectify_poses(
    poses: geometry.Matrices,
    steps: geometry.Matrices,
    rows: RowHomographies,
    count: int,
    info: ClipInfo,
    readout: float,
) -> None:
    """Tell the last `count` poses and rows, of one shot, anew: those of the middle rows, as far as is known by now.

    steps: as measured. The first of them are known best from when more was known of what was before them.
    """
    if count < 3:
        return
    straight, found = rolling_shutter.rectify_steps(steps[-count:], [slice(0, count)], info, readout)
    first = 0 if count < 2 * rolling_shutter.RADIUS_FRAMES + 1 else rolling_shutter.RADIUS_FRAMES
    rows[len(rows) - count + first :] = found[first:]
    for i in range(max(first, 1) - count, 0):
        poses[i] = geometry.normalize(poses[i - 1] @ np.linalg.inv(straight[i]))


def _level_horizon(
    fixes: Iterator[tuple[Frames, Correction, bool]], fraction: float
) -> Iterator[tuple[Frames, Correction, bool]]:
    """The same corrections, with that share of the slow roll removed that departs from its mean so far in the shot."""
    level = roll = 0.0
    count = 0
    for frame, fix, first in fixes:
        assert fix.poses is not None
        wanted = geometry.normalize(fix.poses @ np.linalg.inv(fix.matrices))
        seen = geometry.to_parameters(wanted)[0, 2]
        roll, count = (seen, 1) if first else (roll + np.angle(np.exp(1j * (seen - roll))), count + 1)
        level = roll if first else level + (roll - level) / count
        turn = geometry.matrices_from_parameters(np.array([0, 0, fraction * (roll - level), 0]))
        yield frame, replace(fix, matrices=geometry.normalize(turn @ fix.matrices)), first


def _correction_to_mean(poses: geometry.Matrices, index: int, weights: NDArray[np.float64]) -> geometry.Matrices:
    """The correction (3, 3) that carries a pose to the weighted mean of its neighbours (n, 3, 3), as `smooth` does.

    All is seen from the frame itself, so that a pose which has wandered far off in hours costs no digits.
    """
    seen = np.linalg.inv(poses[index]) @ poses
    wanted = np.eye(3)
    for _ in range(2):
        mean = weights @ geometry.to_tangents(np.linalg.inv(wanted) @ seen)
        wanted = geometry.normalize(wanted @ geometry.matrices_from_tangents(mean))
    return geometry.normalize(np.asarray(np.linalg.inv(wanted), np.float64))
