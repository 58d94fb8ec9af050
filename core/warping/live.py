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
from ..crop.border import Border
from ..crop.zoom import apply_zoom, attenuate_correction, max_strength_for_zoom
from ..motion.estimate import FIRST_STEP, WORKING_SIDE, estimate_step, luma_frames
from ..motion.optical_flow.flow import FlowModel
from ..motion.optical_flow.gray_frame import GrayFrame
from ..path import rolling_shutter
from ..path.even_time import interpolate_poses, is_constant_rate
from ..path.rolling_shutter import RowHomographies
from ..path.trajectory import Correction, is_reliable
from ..runtime.deprecation import renamed_arguments, renamed_fields
from ..runtime.optional_cv2 import optional_opencv
from ..smoothing.smoothers.kalman import LaggedWeights
from ..smoothing.strength import Strength, apply_strength
from . import remap
from .remap import Warped
from .sampling_map import SamplingMap, pixel_maps

CameraController: TypeAlias = Callable[..., NDArray[np.float64]]
"""Controls a virtual camera in one shot, frame by frame: poses (1 + k, 8) -> move (8,). The input is the pose of the
frame and of the k known ones after it, the output the virtual camera's motion to this frame; both are tangents in
pixels and radians (geometry.py), relative to the last pose of the virtual camera. Where the timestamps are uneven, the
second argument are those of the poses (1 + k,), from the previous frame on, in frame times."""

LiveSmoother: TypeAlias = Callable[[float, float, float, float], CameraController]
"""(width, height, max_zoom, period in frame times) -> a controller for the next shot, which starts at its first
frame."""


@renamed_fields(trust="confidence")
class FrameMotion(NamedTuple):
    """A frame (1, C, H, W), and the camera motion to it.

    step (3, 3) and confidence: as in `Motion`. elapsed: time since the previous frame, in frame times (1 / fps).
    """

    frame: Frames
    step: geometry.Matrices
    confidence: float
    elapsed: float = 1.0


def stream_motion(
    frames: Iterator[Frames], flow: FlowModel, *, side: int = WORKING_SIDE, clock: Callable[[], float] | None = None
) -> Iterator[FrameMotion]:
    """Yield each frame with the motion from the previous one.

    flow, side: see `estimate_motion`. clock: called after each frame of a stream of single frames, returns the time
    since the previous one in frame times, see `FrameClock`; None for a constant rate.
    """
    previous: GrayFrame | None = None
    step = FIRST_STEP
    for frame in (batch[i : i + 1] for batch in frames for i in range(len(batch))):
        elapsed = clock() if clock else 1.0
        current = GrayFrame.of(next(luma_frames(TensorClip(frame), side)))
        if previous is not None:
            step = estimate_step(previous, current, flow, step.inlier_map)
        (height, width), size = frame.shape[-2:], current.plane.shape
        matrix = geometry.rescale(step.matrix, width / size[1], height / size[0])
        yield FrameMotion(frame, matrix, step.confidence, elapsed)
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
    smoother: controls a virtual camera instead of Kalman, such as `models.load_path_smoother().make_controller`.
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
    make_controller: Callable[[float, float], CameraController] | None = (
        (lambda width, height: smoother(width, height, max_zoom, period)) if smoother else None
    )
    corrections = _compute_corrections(frame_motions, fps, period, look_ahead, make_controller, readout)
    for frame, fix, first, elapsed in _level_horizon(corrections, horizon) if horizon else corrections:
        height, width = frame.shape[-2:]
        if buffers.numel() == 0:
            buffers = torch.empty(3, height, width, device=device)
        elif buffers.shape[1:] != frame.shape[2:]:
            raise ClipError(f"the frames change from {buffers.shape[2]}x{buffers.shape[1]} to {width}x{height}")
        fix = apply_strength(fix, strength) if strength else fix
        # Attenuation is immediate, recovery slow; a cut resets it.
        attenuation = min(
            float(max_strength_for_zoom(fix, max_zoom)[0]), 1.0 if first else attenuation + elapsed / period
        )
        fix = attenuate_correction(fix, np.array([attenuation])) if attenuation < 1 else fix
        fix = apply_zoom(fix, max_zoom) if border is Border.CROP else fix
        to_source = pixel_maps(fix.matrices, width, height)[0]
        sampling = SamplingMap(to_source, (width, height), (width, height), source_rows=fix.rows)
        x, y = sampling.source_coords(buffers)
        fill_mask = sampling.fill_mask(x, y)
        yield Warped(remapper(frame[0].to(device), x, y, border)[None].cpu(), fill_mask[None].cpu())


class _Corrected(NamedTuple):
    """A frame, its correction, whether it starts a shot, and `FrameMotion.elapsed`."""

    frame: Frames
    correction: Correction
    first: bool
    elapsed: float


def _compute_corrections(
    frame_motions: Iterator[FrameMotion],
    fps: Fraction,
    period: float,
    look_ahead: int,
    make_controller: Callable[[float, float], CameraController] | None = None,
    readout: float = 0.0,
) -> Iterator[_Corrected]:
    """Yield each frame as soon as `look_ahead` more are known."""
    history = int(np.ceil(2 * period))  # weights farther back are negligible
    weights = LaggedWeights(period)
    capacity = max(history, 2 * rolling_shutter.RADIUS_FRAMES) + look_ahead + 1
    pending: deque[tuple[Frames, bool, float]] = deque()
    poses, shots = np.empty((0, 3, 3)), np.empty(0, dtype=int)  # of the last `capacity` frames, pending ones included
    times = np.empty(0)  # of these frames, in frame times
    steps = np.empty((0, 3, 3))  # as measured
    rows = np.empty((0, rolling_shutter.ROW_SAMPLES, 3, 3))
    last_step, last_elapsed = np.eye(3), 1.0
    controller: CameraController | None = None
    virtual_pose = np.eye(3)

    def pop_correction() -> _Corrected:
        nonlocal controller, virtual_pose
        frame, first, elapsed = pending.popleft()
        index = len(poses) - 1 - len(pending)
        info = ClipInfo(frame.shape[3], frame.shape[2], fps)
        frame_rows = rows[index][None] if readout else None
        if make_controller:
            if first or controller is None:
                controller, virtual_pose = make_controller(info.width, info.height), poses[index]
            known = index + np.flatnonzero(shots[index:] == shots[index])
            offsets = geometry.to_tangents(geometry.inverse(virtual_pose) @ poses[known])
            offsets[:, 2] = np.unwrap(offsets[:, 2])
            known_times = times[known] - times[index] + elapsed
            arguments = () if elapsed == 1 and is_constant_rate(known_times) else (known_times,)
            move = controller(offsets, *arguments)
            virtual_pose = geometry.normalize(virtual_pose @ geometry.matrices_from_tangents(move))
            matrix = geometry.normalize(geometry.inverse(virtual_pose) @ poses[index])
            fix = Correction(matrix[None], [slice(0, 1)], info, poses[index][None], frame_rows)
            return _Corrected(frame, fix, first, elapsed)
        window = np.flatnonzero((times >= times[index] - history) & (shots == shots[index]))
        even_poses, middle = _even_window(poses[window], times[window], index - int(window[0]))
        matrix = _correction_to_mean(even_poses, middle, weights.row(len(even_poses), middle))
        fix = Correction(matrix[None], [slice(0, 1)], info, poses[index][None], frame_rows)
        return _Corrected(frame, fix, first, elapsed)

    for frame, step, confidence, elapsed in frame_motions:
        # After a gap longer than the period, nothing of the motion before it matters.
        first = confidence == 0 or len(poses) == 0 or elapsed > max(period, 1.0)
        # If a step is not reliable, the last motion continues.
        if first or is_reliable(confidence, step):
            last_step, last_elapsed = np.eye(3) if first else step, elapsed
        elif elapsed != last_elapsed:
            scaled = geometry.to_tangents(last_step) * (elapsed / last_elapsed)
            last_step, last_elapsed = geometry.matrices_from_tangents(scaled), elapsed
        pose = np.eye(3) if first else poses[-1] @ geometry.inverse(last_step)
        poses = geometry.normalize(np.concatenate([poses, pose[None]])[-capacity:])
        shots = np.append(shots, shots[-1] + first if len(shots) else 0)[-capacity:]
        times = np.append(times, times[-1] + elapsed if len(times) else 0.0)[-capacity:]
        pending.append((frame, first, elapsed))
        if readout:
            steps = np.concatenate([steps, last_step[None]])[-capacity:]
            rows = np.concatenate([rows, np.tile(np.eye(3), (1, rolling_shutter.ROW_SAMPLES, 1, 1))])[-capacity:]
            shot = shots[-(look_ahead + 2 * rolling_shutter.RADIUS_FRAMES + 1) :] == shots[-1]
            info = ClipInfo(frame.shape[3], frame.shape[2], fps)
            _rectify_poses(poses, steps, rows, times[len(times) - int(shot.sum()) :], info, readout)
        if len(pending) > look_ahead:
            yield pop_correction()
    while pending:
        yield pop_correction()


def _even_window(poses: geometry.Matrices, times: NDArray[np.float64], index: int) -> tuple[geometry.Matrices, int]:
    """Interpolate poses (n, 3, 3) of a shot one frame time apart, around a frame.

    Returns the poses, and the number of the frame among them.
    """
    if is_constant_rate(times):
        return poses, index
    before, after = (int(abs(end - times[index]) + 1e-6) for end in (times[0], times[-1]))
    return interpolate_poses(poses, times, times[index] + np.arange(-before, after + 1), 2), before


def _rectify_poses(
    poses: geometry.Matrices,
    steps: geometry.Matrices,
    rows: RowHomographies,
    times: NDArray[np.float64],
    info: ClipInfo,
    readout: float,
) -> None:
    """Update the last poses and rows to those of the middle rows, in place.

    times: (count,), of these frames, in frame times. They belong to one shot. steps: as measured. The first
    `RADIUS_FRAMES` are not updated: earlier results used more of
    the frames before them.
    """
    count = len(times)
    if count < 3:
        return
    rectified, shot_rows = rolling_shutter.rectify_steps(steps[-count:], [slice(0, count)], info, readout, times)
    first = 0 if count < 2 * rolling_shutter.RADIUS_FRAMES + 1 else rolling_shutter.RADIUS_FRAMES
    rows[len(rows) - count + first :] = shot_rows[first:]
    for i in range(max(first, 1) - count, 0):
        poses[i] = geometry.normalize(poses[i - 1] @ geometry.inverse(rectified[i]))


def _level_horizon(corrections: Iterator[_Corrected], fraction: float) -> Iterator[_Corrected]:
    """Remove a fraction of the slow roll from each correction.

    Slow roll is the difference between the smooth roll and its mean so far in the shot.
    """
    level = roll = 0.0
    count = 0
    for frame, fix, first, elapsed in corrections:
        assert fix.poses is not None
        wanted = geometry.normalize(fix.poses @ geometry.inverse(fix.matrices))
        angle = geometry.to_parameters(wanted)[0, 2]
        roll, count = (angle, 1) if first else (roll + np.angle(np.exp(1j * (angle - roll))), count + 1)
        level = roll if first else level + (roll - level) / count
        rotation = geometry.matrices_from_parameters(np.array([0, 0, fraction * (roll - level), 0]))
        leveled = replace(fix, matrices=geometry.normalize(rotation @ fix.matrices))
        yield _Corrected(frame, leveled, first, elapsed)


def _correction_to_mean(poses: geometry.Matrices, index: int, weights: NDArray[np.float64]) -> geometry.Matrices:
    """Return the correction (3, 3) from the pose `index` to the mean of all poses.

    The mean of the poses (n, 3, 3) is weighted, see `smooth`. All poses are relative to the frame, so that a large
    translation after hours does not cost precision.
    """
    relative = geometry.inverse(poses[index]) @ poses
    rolls = geometry.accumulate_roll(poses)
    rolls, wanted_roll, wanted = rolls - rolls[index], 0.0, np.eye(3)
    for _ in range(2):
        tangents = geometry.to_tangents(geometry.inverse(wanted) @ relative)
        tangents[:, 2] = geometry.unwrap_near(tangents[:, 2], rolls - wanted_roll)
        mean = weights @ tangents
        wanted_roll += mean[2]
        wanted = geometry.normalize(wanted @ geometry.matrices_from_tangents(mean))
    return geometry.normalize(geometry.inverse(wanted))
