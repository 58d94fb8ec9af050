"""Settings of stabilization, and the operation that they make of a clip.

    settings = StabilizeSettings(seconds=2.0, border=Border.MIRROR)
    pipeline = Pipeline(clip).then(plan_stabilization(clip, settings))

`plan_stabilization` reads the clip once to measure its motion, and then works with a few numbers per frame: readout
time, smoothing, crop. Its parts can be called one by one: `measure_motion` (pixels to motion), `correct_motion` (motion
to correction).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from .bars import BarDetection, Bars
from .clip import Clip, ClipError, ClipInfo
from .hold import Hold, Region, RegionMask
from .lens import Lens, LensDetection, parse_lens
from .motion.bar_detection import find_bars
from .motion.estimate import WORKING_SIDE, estimate_motion
from .motion.flow import FlowMethod, FlowModel, flow_model
from .motion.gray_frame import MASK_MARGIN_PIXELS, Masks
from .motion.held_motion import hold_motion
from .motion.lens_estimate import estimate_lens
from .motion.lens_view import LensView, ViewClip, to_rotations, view_masks
from .motion.readout_time import RollingShutter, estimate_readout, with_rolling_shutter
from .motion.telemetry import Gyro, Telemetry, fuse_gyro, gyro_of
from .path.border import Border
from .path.keyframes import Keyframe, check_keyframes, has_value, largest_zoom
from .path.mesh_smooth import MeshWarp, with_mesh
from .path.motion import Motion
from .path.ray_path import exact_rotations
from .path.smooth import Smoother, Smoothing
from .path.stabilize import plan_correction
from .path.strength import Strength
from .path.trajectory import Correction, Trajectory
from .path.zoom import attenuate_to_zoom
from .pipeline.warp_op import WarpOp
from .shake_guard import without_added_shake

if TYPE_CHECKING:
    import torch

    from .jobs.folder import Job
    from .jobs.motion_cache import MeasuredShare

SmootherLoader: TypeAlias = Callable[[float, float, "float | None"], Smoother]
"""(width, height, max_zoom; None without a crop) -> the smoother of `Smoothing.LEARNED` for frames of that size."""


@dataclass(frozen=True)
class StabilizeSettings:
    """How a clip is stabilized; the defaults are those of the CLI and the nodes.

    smoothing: how the camera's path is smoothed: a `Smoothing`, its value ("kalman"), or a function, see `Smoother`.
    seconds: camera movements with a shorter period are removed; above 0.
    border: what fills the area that a moved frame leaves empty. The crops zoom in until it is out of view.
    max_zoom: the largest magnification of a crop, 1 or more (1.3 is 30 %); where the shake needs more, less of it is
    removed.
    flow: how motion between frames is measured.
    strength: the share of the shake that is removed, per axis, each 0 to 1.
    horizon: how much of the slow roll is removed as well, 0 to 1.
    rolling_shutter: AUTO detects the readout time, OFF ignores it, and a number is the share of the frame time between
    the exposure of the first and of the last row, -1 to 1.
    reference: `Smoothing.LOCKED` only: number of the frame whose view is held, from 0; None holds a median view.
    pad: pixels added to each side of the frame; 0 for the crops.
    bars: black bars around the image, which stay in place: AUTO detects them, see `find_bars`; NONE takes them for a
    part of the image, and so does a pad; or `Bars`.
    smoother: `Smoothing.LEARNED` only: the file of its network, from `train_path_net`; None takes the bundled one.
    keyframes: strength, max_zoom and center of the crop over time, see `Keyframe`; `read_keyframes` reads a file.
    A zoom over time needs CROP_ADAPTIVE, a center any crop.
    mesh: AUTO bends frames with a mesh where it leaves less shake than a homography, in scenes with depth and where
    textures swim; OFF never does. Live, with a lens, and where something else than AUTO is held, there is no mesh.
    lens: of a wide camera, whose frames are then turned along rays, so that their edges do not wobble. AUTO detects a
    fisheye, unless something else than AUTO is held; OFF takes the frames as they are; or a `Lens`, one of `LENSES` by
    name, or a horizontal field of view in degrees, 1 to 300.
    telemetry: AUTO uses the gyroscope in a file of an action camera, where it correlates with the motion of the frames.
    hold: what is held: AUTO the motion of most of the frame, BACKGROUND or FOREGROUND one layer, REGION a subject, see
    `hold_motion`. All but AUTO read the clip once more, and need OpenCV.
    region: the subject to hold, a `Region` or `RegionMask`; REGION only. hold_strength: REGION only, how much of the
    subject's own motion is followed, 0 (that of the background alone) to 1.
    Raises ClipError for a value outside its range, ValueError for a name that is no member of its enum.
    """

    smoothing: Smoothing | Smoother = Smoothing.KALMAN
    seconds: float = 4.0
    border: Border = Border.CROP
    max_zoom: float = 1.3
    flow: FlowMethod = FlowMethod.FARNEBACK
    strength: Strength = field(default_factory=Strength)
    horizon: float = 0.0
    rolling_shutter: RollingShutter | float = RollingShutter.AUTO
    reference: int | None = None
    pad: int = 0
    bars: BarDetection | Bars = BarDetection.AUTO
    smoother: str | Path | None = None
    keyframes: tuple[Keyframe, ...] = ()
    mesh: MeshWarp = MeshWarp.OFF
    lens: LensDetection | Lens | float | str = LensDetection.AUTO
    telemetry: Telemetry = Telemetry.OFF
    hold: Hold = Hold.AUTO
    region: Region | RegionMask | None = None
    hold_strength: float = 1.0

    def __post_init__(self) -> None:
        values: dict[str, object] = {"border": Border(self.border), "flow": FlowMethod(self.flow)}
        values |= {"mesh": MeshWarp(self.mesh), "hold": Hold(self.hold)}
        if not callable(self.smoothing):
            values["smoothing"] = Smoothing(self.smoothing)
        if isinstance(self.rolling_shutter, str):
            values["rolling_shutter"] = RollingShutter(self.rolling_shutter)
        if isinstance(self.bars, str):
            values["bars"] = BarDetection(self.bars)
        values |= {"keyframes": check_keyframes(self.keyframes)}
        values |= {"lens": parse_lens(self.lens), "telemetry": Telemetry(self.telemetry)}
        for name, value in values.items():
            object.__setattr__(self, name, value)  # frozen: strings become members of their enum here and nowhere else
        if self.smoother is not None and self.smoothing is not Smoothing.LEARNED:
            name = getattr(self.smoothing, "value", "a function")
            raise ClipError(f"smoother is {self.smoother}, and smoothing is {name}; such a file is for 'learned'")
        if not self.seconds > 0:
            raise ClipError(f"seconds is {self.seconds}; smoothing needs a period above 0")
        if not self.max_zoom >= 1:
            raise ClipError(f"max_zoom is {self.max_zoom}; it is a magnification of 1 or more (1.2 is 20 %)")
        if not 0 <= self.horizon <= 1:
            raise ClipError(f"horizon is {self.horizon}; it goes from 0 (as smoothed) to 1 (level)")
        if self.readout_time is not None and not -1 <= self.readout_time <= 1:
            raise ClipError(f"rolling_shutter is {self.rolling_shutter}; a readout time goes from -1 to 1")
        if self.reference is not None and self.reference < 0:
            raise ClipError(f"reference is {self.reference}; frames are counted from 0, and None chooses one")
        if self.pad < 0:
            raise ClipError(f"pad is {self.pad}; it is a number of pixels, 0 or more")
        if self.pad and self.is_cropped:
            raise ClipError("a padded frame cannot be cropped: choose another border, or a pad of 0")
        if self.pad and isinstance(self.bars, Bars):
            raise ClipError("frames with bars cannot be padded: leave out bars, or choose a pad of 0")
        if has_value(self.keyframes, "max_zoom") and self.border is not Border.CROP_ADAPTIVE:
            raise ClipError(
                f"keyframes set max_zoom over time, and the border {self.border.value} has no zoom that changes: "
                "choose crop-adaptive, or leave max_zoom out of the keyframes"
            )
        if has_value(self.keyframes, "center") and not self.is_cropped:
            raise ClipError(
                f"keyframes set the center of the crop, and the border {self.border.value} does not crop: choose crop "
                "or crop-adaptive, or leave center out of the keyframes"
            )
        if self.hold is Hold.REGION and self.region is None:
            raise ClipError("hold is 'region': give the region, a box or a mask")
        if self.hold is not Hold.REGION and self.region is not None:
            raise ClipError(f"a region is given and hold is '{self.hold.value}': hold 'region', or leave it out")
        if self.hold is not Hold.AUTO and isinstance(self.lens, Lens):
            raise ClipError(
                f"hold is '{self.hold.value}' and a lens is given; the two do not work together: leave one out"
            )
        if self.hold is not Hold.AUTO and self.telemetry is not Telemetry.OFF:
            raise ClipError(
                f"hold is '{self.hold.value}', and telemetry knows the camera alone: leave one of the two out"
            )
        if not 0 <= self.hold_strength <= 1:
            raise ClipError(f"hold_strength is {self.hold_strength}; it goes from 0 (background) to 1 (subject)")

    @property
    def is_cropped(self) -> bool:
        """Whether the border is one that zooms in, and `max_zoom` therefore counts."""
        return self.border in (Border.CROP, Border.CROP_ADAPTIVE)

    @property
    def readout_time(self) -> float | None:
        """The readout time as a share of the frame time; None where it is to be detected."""
        value = self.rolling_shutter
        return value.readout if isinstance(value, RollingShutter) else float(value)


def measure_motion(
    clip: Clip,
    settings: StabilizeSettings = StabilizeSettings(),
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
    Where a lens is detected, the clip is read once more, and the job does not keep that part.
    Raises ClipError as `estimate_motion` and `with_rolling_shutter` do.
    """
    flow = flow_model(settings.flow, device) if flow is None else flow
    motion = _measure(clip, settings, flow, side, mask, job, segment_seconds)
    if settings.telemetry is Telemetry.OFF:
        return motion
    return fuse_gyro(motion, gyro_of(clip) if gyro is None else gyro)


def _measure(
    clip: Clip,
    settings: StabilizeSettings,
    flow: FlowModel,
    side: int,
    mask: Masks | None,
    job: Job | None,
    segment_seconds: float | None,
) -> Motion:
    """As `measure_motion`, without telemetry."""
    bars = with_known_bars(settings, clip).bars
    mask = mask if isinstance(bars, BarDetection) else _with_bars(mask, bars, clip.info)
    given_bars = None if isinstance(bars, BarDetection) else bars
    if isinstance(settings.lens, Lens):
        view = LensView(clip.info, settings.lens, given_bars)
        return _measure_view(clip, view, settings, flow, side, mask, job, segment_seconds)
    with_residuals = settings.mesh is not MeshWarp.OFF
    motion = _estimate(clip, flow, side, mask, job, segment_seconds, with_residuals=with_residuals)
    is_sought = settings.lens is LensDetection.AUTO and settings.hold is Hold.AUTO
    lens = estimate_lens(motion, given_bars) if is_sought else None
    if lens is not None:
        of_rays = _measure_view(clip, LensView(clip.info, lens, given_bars), settings, flow, side, mask)
        if of_rays.confidence.mean() > motion.confidence.mean():
            return of_rays
    motion = replace(motion, bows=None)
    held = motion
    if settings.hold is not Hold.AUTO:
        held = hold_motion(
            clip, motion, settings.hold, region=settings.region, strength=settings.hold_strength, side=side, mask=mask
        )
        held = replace(held, residuals=None)  # which are those of the camera's steps
    if given_bars is not None:
        motion, held = motion.inside(given_bars), held.inside(given_bars)
    # The readout shows in how the camera moves; what is held may move on its own.
    return replace(held, readout=with_rolling_shutter(motion, settings.readout_time).readout)


def _measure_view(
    clip: Clip,
    view: LensView,
    settings: StabilizeSettings,
    flow: FlowModel,
    side: int,
    mask: Masks | None,
    job: Job | None = None,
    segment_seconds: float | None = None,
) -> Motion:
    """As `measure_motion`, through the view of a lens."""
    motion = _estimate(ViewClip(clip, view), flow, side, view_masks(mask, view), job, segment_seconds, lens=view.lens)
    readout = settings.readout_time
    if readout is None:  # that of the rows in the view, which are a share of all
        readout = float(np.clip(estimate_readout(motion) / view.height_share, -1, 1))
    return with_rolling_shutter(replace(to_rotations(motion, view), bows=None), readout)


def _estimate(
    clip: Clip,
    flow: FlowModel,
    side: int,
    mask: Masks | None,
    job: Job | None,
    segment_seconds: float | None,
    *,
    with_residuals: bool = False,
    lens: Lens | None = None,
) -> Motion:
    if job is None:
        return estimate_motion(clip, flow, side=side, mask=mask, with_residuals=with_residuals)
    from .jobs.motion_cache import cached_motion
    from .jobs.segments import SEGMENT_SECONDS

    if callable(mask):
        raise ClipError("a job cannot compare masks that a function computes; give them as a tensor (N, H, W)")
    seconds = SEGMENT_SECONDS if segment_seconds is None else segment_seconds
    return cached_motion(
        job, clip, flow, side=side, mask=mask, segment_seconds=seconds, with_residuals=with_residuals, lens=lens
    )


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
    from .jobs.motion_cache import measure_share

    bars = with_known_bars(settings, clip).bars
    mask = mask if isinstance(bars, BarDetection) else _with_bars(mask, bars, clip.info)
    flow, lens = flow_model(settings.flow), settings.lens if isinstance(settings.lens, Lens) else None
    if lens is not None:
        view = LensView(clip.info, lens, None if isinstance(bars, BarDetection) else bars)
        clip, mask = ViewClip(clip, view), view_masks(mask, view)
    with_residuals = settings.mesh is not MeshWarp.OFF and lens is None
    return measure_share(
        job, clip, flow, index, count,
        mask=mask, segment_seconds=segment_seconds, with_residuals=with_residuals, lens=lens,
    )  # fmt: skip


def with_known_bars(settings: StabilizeSettings, clip: Clip) -> StabilizeSettings:
    """The same settings with the bars of a clip, or NONE, instead of AUTO."""
    if settings.bars is not BarDetection.AUTO:
        return settings
    found = None if settings.pad else find_bars(clip)
    return replace(settings, bars=BarDetection.NONE if found is None else found)


def _with_bars(mask: Masks | None, bars: Bars, info: ClipInfo) -> Masks:
    """Add the bars to the mask of what is not to be followed."""
    small = info.fit_within(WORKING_SIDE)
    small_bars = bars.scaled(small.width / info.width, small.height / info.height)
    covered = np.ones((1, small.height, small.width), bool)
    covered[(..., *small_bars.with_margin(MASK_MARGIN_PIXELS).area(small.height, small.width))] = False
    if mask is None:
        return covered  # no array of torch, whose import takes longer than the bars do
    import torch
    import torch.nn.functional as F

    from .runtime.typed_torch import from_numpy

    def add(masks: torch.Tensor) -> torch.Tensor:
        stretched = F.interpolate(from_numpy(covered)[None].float(), masks.shape[-2:], mode="nearest")[0]
        return torch.maximum(masks.float().cpu(), stretched)

    if callable(mask):
        return lambda number: add(mask(number)[None])[0]
    return mask | covered if isinstance(mask, np.ndarray) else add(mask)


def correct_motion(
    motion: Motion,
    settings: StabilizeSettings = StabilizeSettings(),
    *,
    load_smoother: SmootherLoader | None = None,
) -> Correction:
    """Smooth the path of a measured motion: what moves each frame onto it.

    No pixels are read. A shot that would shake more than it does is corrected less, down to not at all.

    motion: as `measure_motion` returns it. load_smoother: loads the network of `Smoothing.LEARNED`,
    usually `lambda *size: models.load_path_smoother(settings.smoother).make_smoother(*size)`.
    Raises ClipError as `smooth` does, for instance for a reference beyond the clip or LEARNED without `load_smoother`.
    """
    measured = Trajectory.of(motion)
    smoother = _resolve_smoother(settings, measured.info, load_smoother)
    planned = plan_correction(
        measured,
        smoother,
        settings.seconds,
        border=settings.border,
        max_zoom=settings.max_zoom,
        reference=settings.reference,
        strength=settings.strength,
        horizon=settings.horizon,
        keyframes=settings.keyframes,
        dissolves=motion.dissolves,
    )
    # These follow a given path, however the camera moves.
    is_exact = settings.horizon > 0 or settings.smoothing in (Smoothing.LOCKED, Smoothing.L1)
    is_exact |= has_value(settings.keyframes, "center")
    guarded = planned if is_exact else without_added_shake(planned)
    if settings.mesh is MeshWarp.AUTO and planned.lens is None:
        max_zoom = settings.max_zoom if settings.is_cropped else None
        trusted = [shot for shot in planned.shots if np.array_equal(guarded.matrices[shot], planned.matrices[shot])]
        guarded = with_mesh(guarded, motion, smoother, settings.seconds, max_zoom=max_zoom, shots=trusted)
    guarded = replace(guarded, bars=motion.bars)
    if guarded.lens is None:
        return guarded
    exact = exact_rotations(guarded, seconds=settings.seconds)
    return attenuate_to_zoom(exact, settings.max_zoom) if settings.is_cropped else exact


def plan_stabilization(
    clip: Clip,
    settings: StabilizeSettings = StabilizeSettings(),
    *,
    device: torch.device | str = "cpu",
    side: int = WORKING_SIDE,
    mask: Masks | None = None,
    job: Job | None = None,
    segment_seconds: float | None = None,
    motion: Motion | None = None,
    load_smoother: SmootherLoader | None = None,
) -> WarpOp:
    """Plan the operation that stabilizes a clip: measure, smooth, limit the zoom.

    The operation suits the clip at any size. motion: in place of measuring `clip`, as `measure_motion` returns it. The
    other arguments are those of `measure_motion` and `correct_motion`. Frames are warped where they are.
    Raises ClipError as these do.
    """
    if motion is None:
        motion = measure_motion(
            clip, settings, device=device, side=side, mask=mask, job=job, segment_seconds=segment_seconds
        )
    fix = correct_motion(motion, settings, load_smoother=load_smoother)
    return WarpOp(fix, settings.border, settings.pad)


def _resolve_smoother(
    settings: StabilizeSettings, info: ClipInfo, load_smoother: SmootherLoader | None
) -> Smoothing | Smoother:
    if settings.smoothing is not Smoothing.LEARNED or load_smoother is None:
        return settings.smoothing
    max_zoom = largest_zoom(settings.keyframes, settings.max_zoom)
    return load_smoother(info.width, info.height, max_zoom if settings.is_cropped else None)
