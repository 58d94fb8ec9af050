"""Measure, smooth and plot the motion of an IMAGE or VIDEO input."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import torch
from comfy_api.latest import Input
from numpy.typing import NDArray
from torch import Tensor

from ...core.clip import Clip, ClipError
from ...core.motion.camera.telemetry import Gyro, Telemetry, gyro_of
from ...core.motion.estimate import luma_range
from ...core.motion.frame_times import frame_times
from ...core.motion.optical_flow.flow import FlowModel, flow_model
from ...core.motion.optical_flow.gray_frame import Plane
from ...core.path.motion import Motion
from ...core.path.trajectory import Correction, Trajectory
from ...core.smoothing.keyframes import zoom_limits
from ...core.stabilization_report import report_stabilization
from ...core.stabilize import StabilizeSettings, correct_motion, measure_motion, with_known_bars
from ...core.video.decode.timestamps import Timestamps
from ...core.visualize.plots import plot_trajectory
from ...models import load_path_smoother
from .._comfy.adapter import to_clip, with_cancel_check, with_progress
from .._comfy.node_text import show_text
from .lazy_video import plan_for
from .render_plan import reserve_memory
from .resumable import measure_resumable


class MotionSource:
    """A clip that reports progress while it is measured, and records pairs of frames.

    first_frames: numbers of the first frames of the pairs. pairs: luma frames (1, 1, h, w); the last pair has a single
    frame if the clip ends with it. second_pass_frames: how many frames all readings of a second pass have together;
    None for the first one, which begins anew each time.
    """

    def __init__(self, clip: Clip, first_frames: Collection[int] = (), second_pass_frames: int | None = None) -> None:
        self.info, self.frames = clip.info, clip.frames
        self.pairs: list[list[Tensor]] = []
        self._clip, self._first_frames, self._second_pass_frames = clip, set(first_frames), second_pass_frames
        self._done = 0

    def second_pass(self, count: int) -> MotionSource:
        show_text("measuring again …")
        return MotionSource(self._clip, second_pass_frames=count)

    def luma_frames(self, side: int) -> Iterator[Plane]:
        return self.luma_range(side, 0, None, None)

    def luma_range(self, side: int, first: int, stop: int | None, times: Timestamps | None) -> Iterator[Plane]:
        is_first_pass = self._second_pass_frames is None
        self.pairs, self._done = [], first if is_first_pass else self._done
        for number, luma in enumerate(
            with_progress(
                map(torch.from_numpy, luma_range(self._clip, side, first, stop, times)),
                self.info.length if is_first_pass else self._second_pass_frames,
                preview_frames=lambda frame: frame.expand(-1, 3, -1, -1),
                done=self._done,
            ),
            first,
        ):
            self._done += 1
            if number > first and number - 1 in self._first_frames:
                self.pairs[-1].append(luma)
            if number in self._first_frames or number == 0:
                self.pairs.append([luma])
            yield luma.numpy()

    def frame_times(self, count: int) -> NDArray[np.float64] | None:
        return frame_times(self._clip, count)


def open_for_motion(frames: Tensor | Input.Video, fps: float) -> Clip:
    """The input as a clip whose motion can be measured, with device memory reserved.

    fps: frames per second of an IMAGE; a VIDEO has its own rate.
    """
    if isinstance(frames, Tensor):
        return to_clip(frames, fps)
    pipeline = plan_for(frames).pipeline
    reserve_memory(pipeline.motion_source())
    return pipeline


def load_flow_model(settings: StabilizeSettings) -> FlowModel:
    """The flow model of the settings on ComfyUI's device; it checks for cancel."""
    return with_cancel_check(flow_model(settings.flow))


def read_input_gyro(frames: Tensor | Input.Video, settings: StabilizeSettings) -> Gyro | None:
    """The gyroscope in the file of an input; None if telemetry is off.

    Raises ClipError where there is none, or no package that reads it.
    """
    if settings.telemetry is Telemetry.OFF:
        return None
    gyro = "an IMAGE holds no telemetry" if isinstance(frames, Tensor) else gyro_of(plan_for(frames).pipeline.source)
    if isinstance(gyro, str):
        raise ClipError(f"telemetry is auto, but {gyro}; connect a VIDEO of a camera's file, or set telemetry to off")
    return gyro


def measure_input_motion(
    frames: Tensor | Input.Video, fps: float, settings: StabilizeSettings, mask: Tensor | None, resumable: bool
) -> tuple[Motion, list[Path] | None]:
    """Measure the motion of an input; return it and the job folders for `apply_warp`.

    There are no folders for an IMAGE or a VIDEO in memory, and None if the result is not to be resumable.
    """
    gyro = read_input_gyro(frames, settings)
    clip = open_for_motion(frames, fps)
    settings = with_known_bars(settings, clip)
    source, model = MotionSource(clip), load_flow_model(settings)
    plan = None if isinstance(frames, Tensor) else plan_for(frames)
    if resumable and plan is not None and plan.source is not None:
        motion, folder = measure_resumable(
            source, plan.pipeline, plan.source, plan.time_range, settings, model, mask, gyro
        )
        return motion, [folder]
    return measure_motion(source, settings, mask=mask, flow=model, gyro=gyro), [] if resumable else None


def correct_and_plot(motion: Motion, settings: StabilizeSettings) -> tuple[Correction, Tensor, str]:
    """Compute the correction, a plot, and a line that says what it does.

    The plot is an IMAGE of the path before and after the correction.
    """
    correction = correct_motion(
        motion, settings, load_smoother=lambda *size: load_path_smoother(settings.smoother).make_smoother(*size)
    )
    measured = Trajectory.of(motion)
    max_zoom = zoom_limits(settings.keyframes, settings.max_zoom, correction) if settings.is_cropped else None
    info = str(report_stabilization(motion, correction, settings.border, len(settings.keyframes)))
    corrected = measured.corrected(correction)
    plot = plot_trajectory(measured, corrected, applied=correction, max_zoom=max_zoom, caption=info)
    return correction, plot.movedim(1, -1).contiguous(), info
