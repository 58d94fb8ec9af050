"""Live stabilization with a bounded look-ahead.

`stream_motion` measures the camera motion, `stabilize_live` corrects it. Both hold a bounded number of frames, however
long the camera runs; the output is `look_ahead` frames behind the input.
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
from ..path.rolling_shutter import RowHomographies
from ..path.smoothers.kalman import kalman_lagged
from ..path.strength import Strength, apply_strength
from ..path.trajectory import Correction, is_reliable
from ..path.zoom import apply_zoom, attenuate_correction, max_strength_for_zoom
from ..runtime.deprecation import renamed_arguments, renamed_fields
from ..runtime.optional_cv2 import optional_opencv
from . import remap
from .remap import Warped
from .sampling_map import SamplingMap, pixel_maps

CameraController: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Controls a virtual camera in one shot, frame by frame: poses (1 + k, 8) -> move (8,). The input is the pose of the
frame and of the k known ones after it, the output the virtual camera's motion to this frame; both are tangents in
pixels and radians (geometry.py), relative to the last pose of the virtual camera."""

LiveSmoother: TypeAlias = Callable[[float, float, float, float], CameraController]
"""(width, height, max_zoom, period in frames) -> a controller for the next shot, which starts at its first frame."""


@renamed_fields(trust="confidence")
class FrameMotion(NamedTuple):
    """A frame (1, C, H, W), and the camera motion to it.

    step (3, 3) and confidence: as in `Motion`.
    """

    frame: Frames
    step: geometry.Matrices
    confidence: float


def stream_motion(frames: Iterator[Frames], flow: FlowModel, *, side: int = WORKING_SIDE) -> Iterator[FrameMotion]:
    """Yield each frame with the motion from the previous one.

    flow, side: see `estimate_motion`.
    """
    previous: GrayFrame | None = None
    step = FIRST_STEP
    for frame in (batch[i : i + 1] for batch in frames for i in range(len(batch))):
        current = GrayFrame.of(next(luma_frames(TensorClip(frame), side)))
        if previous is not None:
            step = estimate_step(previous, current, flow, step.inlier_map)
        (height, width), size = frame.shape[-2:], current.plane.shape
        yield FrameMotion(frame, geometry.rescale(step.matrix, width / size[1], height / size[0]), step.confidence)
        previous = current


@renamed_arguments(measured="frame_motions")
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
    """Stabilize a stream with a fixed delay.

    Each frame is output when `look_ahead` more are known, the rest at the end.

    seconds: oscillations of the camera with a shorter period are removed (Kalman, with a fixed lag).
    look_ahead: number of future frames that are used. With 0 the output lags behind every pan.
    max_zoom: corrections that would need more magnification are reduced; CROP always zooms in by it, because the
    future is unknown.
    smoother: controls a virtual camera instead of Kalman, such as `models.load_path_smoother().driver`.
    strength: fraction of the correction per axis; None all of it.
    horizon: 0 to 1, fraction of the slow roll that is removed too. Level is the mean of the smooth roll of the shot so
    far.
    readout: readout of a rolling shutter as a fraction of the frame time, see `Motion`; frames are then rectified. It
    cannot be estimated live, as this needs a whole clip (motion/readout_time.py): measure a recorded clip of the same
    camera. A look-ahead of up to rolling_shutter.RADIUS_FRAMES frames improves the motion within each frame.
    Raises ClipError for settings that are not possible live, and if the frame size changes.
    """
    border = Border(border)
    if border in (Border.FILL, Border.CROP_ADAPTIVE):
        raise ClipError(f"the border '{border.value}' needs future frames: live, use crop, mirror, edge or black")
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
    remapper = remap.make_remapper(optional_opencv() if device.type == "cpu" else None)
    period = seconds * float(fps)
    buffers, attenuation = torch.empty(3, 0, 0), 1.0
    make_controller = smoother and (lambda width, height: smoother(width, height, max_zoom, period))
    corrections = _compute_corrections(frame_motions, fps, period, look_ahead, make_controller, readout)
    for frame, fix, first in _level_horizon(corrections, horizon) if horizon else corrections:
        height, width = frame.shape[-2:]
        if buffers.numel() == 0:
            buffers = torch.empty(3, height, width, device=device)
        elif buffers.shape[1:] != frame.shape[2:]:
            raise ClipError(f"the frames change from {buffers.shape[2]}x{buffers.shape[1]} to {width}x{height}")
        fix = apply_strength(fix, strength) if strength else fix
        # Attenuation is immediate, recovery slow; a cut resets it.
        attenuation = min(float(max_strength_for_zoom(fix, max_zoom)[0]), 1.0 if first else attenuation + 1 / period)
        fix = attenuate_correction(fix, np.array([attenuation])) if attenuation < 1 else fix
        fix = apply_zoom(fix, max_zoom) if border is Border.CROP else fix
        to_source = pixel_maps(fix.matrices, width, height)[0]
        sampling = SamplingMap(to_source, (width, height), (width, height), source_rows=fix.rows)
        x, y = sampling.source_coords(buffers)
        fill_mask = sampling.fill_mask(x, y)
        yield Warped(remapper(frame[0].to(device), x, y, border)[None].cpu(), fill_mask[None].cpu())


def _compute_corrections(
    frame_motions: Iterator[FrameMotion],
    fps: Fraction,
    period: float,
    look_ahead: int,
    make_controller: Callable[[float, float], CameraController] | None = None,
    readout: float = 0.0,
) -> Iterator[tuple[Frames, Correction, bool]]:
    """Yield (frame, correction, whether it starts a shot).

    Each is yielded as soon as `look_ahead` more frames are known.
    """
    history = int(np.ceil(2 * period))  # weights farther back are negligible
    weights: dict[tuple[int, int], NDArray[np.float64]] = {}
    capacity = max(history, 2 * rolling_shutter.RADIUS_FRAMES) + look_ahead + 1
    pending: deque[tuple[Frames, bool]] = deque()
    poses, shots = np.empty((0, 3, 3)), np.empty(0, dtype=int)  # of the last `capacity` frames, pending ones included
    steps = np.empty((0, 3, 3))  # as measured
    rows = np.empty((0, rolling_shutter.ROW_SAMPLES, 3, 3))
    last_step = np.eye(3)
    controller: CameraController | None = None
    virtual_pose = np.eye(3)

    def pop_correction() -> tuple[Frames, Correction, bool]:
        nonlocal controller, virtual_pose
        frame, first = pending.popleft()
        index = len(poses) - 1 - len(pending)
        info = ClipInfo(frame.shape[3], frame.shape[2], fps)
        frame_rows = rows[index][None] if readout else None
        if make_controller:
            if first or controller is None:
                controller, virtual_pose = make_controller(info.width, info.height), poses[index]
            known = poses[index:][shots[index:] == shots[index]]
            move = controller(geometry.to_tangents(geometry.inverse(virtual_pose) @ known))
            virtual_pose = geometry.normalize(virtual_pose @ geometry.matrices_from_tangents(move))
            matrix = geometry.normalize(geometry.inverse(virtual_pose) @ poses[index])
            return frame, Correction(matrix[None], [slice(0, 1)], info, poses[index][None], frame_rows), first
        window = np.arange(max(0, index - history), len(poses))
        window = window[shots[window] == shots[index]]
        index -= int(window[0])
        key = len(window), index
        if key not in weights:
            weights[key] = kalman_lagged(np.eye(len(window)), period)[index]
        matrix = _correction_to_mean(poses[window], index, weights[key])
        return frame, Correction(matrix[None], [slice(0, 1)], info, poses[index][None], frame_rows), first

    for frame, step, confidence in frame_motions:
        first = confidence == 0 or len(poses) == 0
        # If a step is not reliable, the last motion continues.
        last_step = np.eye(3) if first else step if is_reliable(confidence, step) else last_step
        pose = np.eye(3) if first else poses[-1] @ geometry.inverse(last_step)
        poses = geometry.normalize(np.concatenate([poses, pose[None]])[-capacity:])
        shots = np.append(shots, shots[-1] + first if len(shots) else 0)[-capacity:]
        pending.append((frame, first))
        if readout:
            steps = np.concatenate([steps, last_step[None]])[-capacity:]
            rows = np.concatenate([rows, np.tile(np.eye(3), (1, rolling_shutter.ROW_SAMPLES, 1, 1))])[-capacity:]
            shot = shots[-(look_ahead + 2 * rolling_shutter.RADIUS_FRAMES + 1) :] == shots[-1]
            _rectify_poses(poses, steps, rows, int(shot.sum()), ClipInfo(frame.shape[3], frame.shape[2], fps), readout)
        if len(pending) > look_ahead:
            yield pop_correction()
    while pending:
        yield pop_correction()


def _rectify_poses(
    poses: geometry.Matrices,
    steps: geometry.Matrices,
    rows: RowHomographies,
    count: int,
    info: ClipInfo,
    readout: float,
) -> None:
    """Update the last `count` poses and rows to those of the middle rows, in place.

    They belong to one shot. steps: as measured. The first `RADIUS_FRAMES` are not updated: earlier results used more of
    the frames before them.
    """
    if count < 3:
        return
    rectified, shot_rows = rolling_shutter.rectify_steps(steps[-count:], [slice(0, count)], info, readout)
    first = 0 if count < 2 * rolling_shutter.RADIUS_FRAMES + 1 else rolling_shutter.RADIUS_FRAMES
    rows[len(rows) - count + first :] = shot_rows[first:]
    for i in range(max(first, 1) - count, 0):
        poses[i] = geometry.normalize(poses[i - 1] @ geometry.inverse(rectified[i]))


def _level_horizon(
    corrections: Iterator[tuple[Frames, Correction, bool]], fraction: float
) -> Iterator[tuple[Frames, Correction, bool]]:
    """Remove a fraction of the slow roll from each correction.

    Slow roll is the difference between the smooth roll and its mean so far in the shot.
    """
    level = roll = 0.0
    count = 0
    for frame, fix, first in corrections:
        assert fix.poses is not None
        wanted = geometry.normalize(fix.poses @ geometry.inverse(fix.matrices))
        angle = geometry.to_parameters(wanted)[0, 2]
        roll, count = (angle, 1) if first else (roll + np.angle(np.exp(1j * (angle - roll))), count + 1)
        level = roll if first else level + (roll - level) / count
        rotation = geometry.matrices_from_parameters(np.array([0, 0, fraction * (roll - level), 0]))
        yield frame, replace(fix, matrices=geometry.normalize(rotation @ fix.matrices)), first


def _correction_to_mean(poses: geometry.Matrices, index: int, weights: NDArray[np.float64]) -> geometry.Matrices:
    """Return the correction (3, 3) from the pose `index` to the mean of all poses.

    The mean of the poses (n, 3, 3) is weighted, see `smooth`. All poses are relative to the frame, so that a large
    translation after hours does not cost precision.
    """
    relative = geometry.inverse(poses[index]) @ poses
    wanted = np.eye(3)
    for _ in range(2):
        mean = weights @ geometry.to_tangents(geometry.inverse(wanted) @ relative)
        wanted = geometry.normalize(wanted @ geometry.matrices_from_tangents(mean))
    return geometry.normalize(geometry.inverse(wanted))
