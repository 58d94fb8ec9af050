"""From the pixels of a clip to its motion, its lens and its readout time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..bars import Bars, FirstBars
from ..clip import Clip, ClipInfo
from ..hold import Hold
from ..lens import Lens, LensDetection
from ..motion.bar_changes import bars_of_new_shots, find_shot_bars, have_bars_changed
from ..motion.camera.lens_estimate import estimate_lens
from ..motion.camera.readout_time import estimate_readout, with_rolling_shutter
from ..motion.camera.telemetry import Gyro, Telemetry, fuse_gyro, gyro_of
from ..motion.estimate import WORKING_SIDE, second_pass
from ..motion.held.held_motion import hold_motion
from ..motion.lens_view import LensView, to_rotations
from ..motion.optical_flow.flow import FlowModel, flow_model
from ..motion.optical_flow.gray_frame import Masks
from ..path.motion import Motion
from ..smoothing.mesh_smooth import MeshWarp
from .known_bars import known_bars, mask_bars, mask_shot_bars, with_known_bars
from .motion_estimator import MotionEstimator
from .settings import DEFAULT_SETTINGS, StabilizeSettings

if TYPE_CHECKING:
    import torch

    from ..jobs.motion_cache import MeasuredShare
    from ..jobs.state.folder import Job


def measure_motion(
    clip: Clip,
    settings: StabilizeSettings = DEFAULT_SETTINGS,
    *,
    device: torch.device | str = "cpu",
    side: int = WORKING_SIDE,
    mask: Masks | None = None,
    flow: FlowModel | None = None,
    job: Job | None = None,
    segment_seconds: float | None = None,
    gyro: Gyro | str | None = None,
) -> Motion:
    """Measure the motion of a clip, its lens and the readout time of its shutter.

    side: longer side, in pixels, of the reduced frames that are measured. mask: what is not to be followed, see
    `estimate_motion`. flow: in place of the estimator that `settings.flow` names.
    job: keeps the measured parts, so that the next run reads them; `clip` has to read its source, and `mask` has to be
    a tensor. The parts are those of the camera, whatever is held. segment_seconds: the length of a part; None takes the
    default of jobs.
    gyro: for telemetry; None reads it from `clip`, if that is a video file.
    Where a lens is detected, the clip is read once more, and so it is where something is held; for bars that change
    at a cut, it is read twice more. The job keeps all of that.
    Raises ClipError as `estimate_motion` and `with_rolling_shutter` do.
    """
    settings = with_known_bars(settings, clip)
    bars = known_bars(settings, clip)
    flow = flow_model(settings.flow, device) if flow is None else flow
    estimator = MotionEstimator(flow, side, mask_bars(mask, bars, clip.info), job, segment_seconds)
    motion, estimator = _measure_camera(clip, settings, estimator, bars, mask)
    if settings.telemetry is not Telemetry.OFF:
        motion = fuse_gyro(motion, gyro_of(clip) if gyro is None else gyro)
    return motion if settings.hold is Hold.AUTO else _hold(clip, motion, settings, estimator)


def measure_motion_share(
    clip: Clip,
    settings: StabilizeSettings,
    job: Job,
    index: int,
    count: int,
    *,
    mask: Masks | None = None,
    segment_seconds: float,
) -> MeasuredShare:
    """Measure a share of the parts that `measure_motion` then finds in the job.

    See `measure_share`.
    """
    bars = known_bars(settings, clip)
    masks = mask_bars(mask, bars, clip.info)
    estimator = MotionEstimator(flow_model(settings.flow), mask=masks, job=job, segment_seconds=segment_seconds)
    view = _given_view(clip.info, settings, bars)
    return estimator.measure_share(clip, view, index, count, with_residuals=_needs_residuals(settings))


def _measure_camera(
    clip: Clip, settings: StabilizeSettings, estimator: MotionEstimator, bars: Bars | None, mask: Masks | None
) -> tuple[Motion, MotionEstimator]:
    """Measure the motion of the camera in the frames.

    mask: that of the estimator, without bars. Returns also the estimator, with the masks of the bars that were found.
    """
    view = _given_view(clip.info, settings, bars)
    if view is not None:
        return _measure_view(clip, view, settings, estimator), estimator
    motion = estimator.estimate(clip, with_residuals=_needs_residuals(settings))
    shot_bars = None
    if isinstance(settings.bars, FirstBars) and have_bars_changed(motion, bars):
        found, shots = _find_shot_bars(clip, motion, estimator.job), motion.shots
        if len(set(found)) > 1:
            masks = mask_shot_bars(mask, shots, found, clip.info)
            estimator = replace(estimator, mask=masks, has_shot_bars=True)
            again = second_pass(clip, len(motion.steps))
            motion = estimator.estimate(again, with_residuals=_needs_residuals(settings), is_second_pass=True)
            motion, shot_bars = bars_of_new_shots(motion, shots, found)
    is_sought = settings.lens is LensDetection.AUTO and shot_bars is None
    lens = estimate_lens(motion, bars) if is_sought else None
    if lens is not None:
        again = second_pass(clip, len(motion.steps))
        of_rays = _measure_view(again, LensView(clip.info, lens, bars), settings, estimator, is_second_pass=True)
        if of_rays.confidence.mean() > motion.confidence.mean():
            return of_rays, estimator
    motion = replace(motion, bows=None, dark_sides=None)
    if shot_bars is not None:
        motion = motion.inside_each(shot_bars)
    elif bars is not None:
        motion = motion.inside(bars)
    return replace(motion, readout=with_rolling_shutter(motion, settings.readout_time).readout), estimator


def _find_shot_bars(clip: Clip, motion: Motion, job: Job | None) -> tuple[Bars, ...]:
    if job is None:
        return find_shot_bars(clip, motion)
    from ..jobs.motion_cache import cached_shot_bars

    return cached_shot_bars(job, motion, lambda: find_shot_bars(clip, motion))


def _hold(clip: Clip, motion: Motion, settings: StabilizeSettings, estimator: MotionEstimator) -> Motion:
    """The motion of what is held, in place of the camera's.

    Its readout stays: it shows in how the camera moves, and what is held may move on its own.
    """
    camera = motion if motion.lens is not None else motion.with_bars_inside()

    def measure() -> Motion:
        return hold_motion(
            clip, camera, settings.hold,
            region=settings.region, strength=settings.hold_strength, side=estimator.side, mask=estimator.mask,
        )  # fmt: skip

    if estimator.job is None:
        held = measure()
    else:
        from ..jobs.motion_cache import cached_held_motion

        chosen = [settings.hold, settings.region, settings.hold_strength, estimator.side, estimator.mask]
        held = cached_held_motion(estimator.job, camera, chosen, measure)
    held = replace(held, residuals=None, readout=motion.readout)  # residuals are those of the camera's steps
    if motion.lens is not None:
        return held
    if motion.shot_bars is not None:
        return held.inside_each(motion.shot_bars)
    return held if motion.bars is None else held.inside(motion.bars)


def _measure_view(
    clip: Clip,
    view: LensView,
    settings: StabilizeSettings,
    estimator: MotionEstimator,
    *,
    is_second_pass: bool = False,
) -> Motion:
    """Measure the motion of a camera with a lens, through its view."""
    motion = estimator.estimate(clip, view, is_second_pass=is_second_pass)
    readout = settings.readout_time
    if readout is None:  # that of the rows in the view, which are a share of all
        readout = float(np.clip(estimate_readout(motion) / view.height_share, -1, 1))
    return with_rolling_shutter(replace(to_rotations(motion, view), bows=None, dark_sides=None), readout)


def _given_view(info: ClipInfo, settings: StabilizeSettings, bars: Bars | None) -> LensView | None:
    """The view of the lens that the settings give; None without one."""
    return LensView(info, settings.lens, bars) if isinstance(settings.lens, Lens) else None


def _needs_residuals(settings: StabilizeSettings) -> bool:
    """Whether a mesh may be fitted; with a given lens, there is none."""
    return settings.mesh is not MeshWarp.OFF and not isinstance(settings.lens, Lens)
