"""From the arguments of an API function to the pipeline that it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..clip import ClipError, is_same_aspect
from ..motion.camera.telemetry import Telemetry, gyro_of
from ..motion.optical_flow.gray_frame import Masks
from ..path.trajectory import Correction
from ..pipeline.estimate import check_memory
from ..pipeline.operation import Operation
from ..pipeline.pipeline import Pipeline
from ..pipeline.warp_op import WarpOp
from ..smoothing.smooth import Smoother
from ..stabilization_report import StabilizationReport, report_stabilization
from ..stabilize import SmootherLoader, StabilizeSettings, measure_motion, plan_stabilization, with_known_bars
from ..upscaling.settings import UpscaleSettings, UpscaleStats
from ..video.images.image_clip import ImageClip

if TYPE_CHECKING:
    from ..upscaling.upscale import ImageModel
    from .run import VideoRun

UPSCALE, STABILIZE, ENHANCE = COMMANDS = "upscale", "stabilize", "enhance"


@dataclass(frozen=True)
class Processing:
    """What to do to a clip: the arguments of `enhance_video` that are about frames.

    command: "upscale" or "enhance", which upscale, or "stabilize"; "enhance" stabilizes too. deflicker: None takes the
    strength of `choose_deflicker`.
    """

    command: str
    model: str | Path | ImageModel | None = None
    upscaling: UpscaleSettings = field(default_factory=UpscaleSettings)
    deflicker: float | None = None
    stabilization: StabilizeSettings = field(default_factory=StabilizeSettings)
    mask: Masks | str | Path | None = None

    def __post_init__(self) -> None:
        if self.command not in COMMANDS:
            raise ClipError(f"{self.command!r} is no command; use one of {', '.join(COMMANDS)}")


class BuiltPipeline(NamedTuple):
    """A pipeline, and the values that the report of its run needs.

    stage: name for progress reports. stats: counters of the network; None without upscaling. stabilization: report of
    the planned stabilization; None without one.
    """

    pipeline: Pipeline
    stage: str
    stats: UpscaleStats | None
    stabilization: StabilizationReport | None


def build_pipeline(run: VideoRun, processing: Processing) -> BuiltPipeline:
    """Load the network and measure the motion that it needs.

    Raises ClipError for a size of another aspect ratio where motion is measured, and as the functions of the API do.
    """
    pipeline, stats, report = run.pipeline, None, None
    if processing.command != STABILIZE:
        stats = UpscaleStats()
        pipeline = pipeline.then(*upscale_with(pipeline, processing, run.device, stats))
    if processing.command != UPSCALE:
        _check_aspect(run.pipeline, pipeline)
        _check_stabilized_memory(pipeline, processing.stabilization)
        warp, report = _plan_stabilization(run, processing.stabilization, processing.mask)
        pipeline = pipeline.then(warp)
    return BuiltPipeline(pipeline, "stabilizing" if stats is None else "upscaling", stats, report)


def upscale_with(pipeline: Pipeline, processing: Processing, device: str, stats: UpscaleStats) -> tuple[Operation, ...]:
    """Return the operations that upscale the clip; load the network if needed.

    torch is imported here and no earlier, so that mistakes in names are reported at once.
    """
    from ..pipeline.upscale_operations import upscale_operations

    model = processing.model
    if model is None or isinstance(model, (str, Path)):
        from ...models import load_upscaler

        model = load_upscaler(find_model(pipeline, processing))
    deflicker = choose_deflicker(pipeline, processing)
    return upscale_operations(model, processing.upscaling, deflicker=deflicker, device=device, stats=stats)


def choose_deflicker(pipeline: Pipeline, processing: Processing) -> float:
    """Return the strength of the deflicker filter, 0 to 1.

    Without a strength, that is the one of the bundled network, found by its name; and 0 for other networks, a single
    frame, and image files, of which nothing says that one follows the other.
    """
    if processing.deflicker is not None:
        return processing.deflicker
    is_still = pipeline.info.length == 1 or isinstance(pipeline.source, ImageClip)
    if processing.command == STABILIZE or is_still:
        return 0.0
    from ...models.zoo import zoo

    model = processing.model
    is_file = model is None or isinstance(model, (str, Path))
    bundled = zoo.find_bundled(find_model(pipeline, processing).stem if is_file else getattr(model, "name", ""))
    return 0.0 if bundled is None else bundled.deflicker


def find_model(pipeline: Pipeline, processing: Processing) -> Path:
    """Return the weight file of a model given by name or path.

    Without a model, that is the bundled network for the scale factor.
    """
    from ...models.zoo import zoo

    model = processing.model
    if model is None:
        info = pipeline.info
        model = zoo.select_bundled(processing.upscaling.size.factor_for(info.width, info.height)).name
    assert isinstance(model, (str, Path))
    return zoo.find_weights(model)


def _check_aspect(small: Pipeline, large: Pipeline) -> None:
    if not is_same_aspect(small.info.size, large.info.size):
        raise ClipError(
            f"{large.info.width}x{large.info.height} has another shape than {small.info.width}x{small.info.height}"
            ", which would bend the measured motion; choose a size of the same shape, or --scale"
        )


def _check_stabilized_memory(pipeline: Pipeline, settings: StabilizeSettings) -> None:
    """Raise ClipError where the result, with its pad, will not fit into memory.

    Called before the motion is measured, with a correction that moves nothing.
    """
    still = Correction(np.eye(3)[None], [slice(0, 1)], pipeline.info)
    check_memory(pipeline.then(WarpOp(still, settings.border, settings.pad)))


def _plan_stabilization(
    run: VideoRun, settings: StabilizeSettings, mask: Masks | str | Path | None
) -> tuple[WarpOp, StabilizationReport]:
    """Measure the source, or read what an earlier run of the job measured."""
    if isinstance(mask, (str, Path)):
        from ..motion.held.masks import read_masks

        mask = read_masks(mask)
    settings = with_known_bars(settings, run.pipeline)
    clip = run.tracker.track_clip(run.pipeline, "measuring")
    gyro = None if settings.telemetry is Telemetry.OFF else gyro_of(run.pipeline.source)
    motion = measure_motion(
        clip, settings, mask=mask, job=run.job, segment_seconds=run.options.segment_seconds, gyro=gyro
    )
    warp = plan_stabilization(clip, settings, motion=motion, load_smoother=_smoother_loader(settings))
    return warp, report_stabilization(motion, warp.correction, settings.border, len(settings.keyframes))


def _smoother_loader(settings: StabilizeSettings) -> SmootherLoader:
    def load(width: float, height: float, max_zoom: float | None) -> Smoother:
        from ...models import load_path_smoother

        return load_path_smoother(settings.smoother).make_smoother(width, height, max_zoom)

    return load
