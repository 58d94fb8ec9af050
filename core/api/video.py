"""Upscale, stabilize or enhance a video, from a source to a finished file."""

from __future__ import annotations

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from ..clip import Clip
from ..jobs.segments import SEGMENT_SECONDS
from ..motion.optical_flow.gray_frame import Masks
from ..stabilize import StabilizeSettings
from ..upscaling.settings import UpscaleSettings
from ..video.decode.corruption_report import OnDamage
from ..video.decode.packets.demux import MAX_PIXELS
from ..video.encode.codecs import Encoding
from .processing import Processing, build_pipeline
from .report import ProgressCallback, VideoReport
from .run import RunOptions, open_run

if TYPE_CHECKING:
    from ..upscaling.upscale import ImageModel


def upscale_video(
    source: str | Path | Clip,
    target: str | Path,
    *,
    model: str | Path | ImageModel | None = None,
    settings: UpscaleSettings | None = None,
    deflicker: float | None = None,
    encoding: Encoding | None = None,
    bits: int | None = None,
    fps: Fraction | float = 24,
    max_pixels: int = MAX_PIXELS,
    on_damage: OnDamage = OnDamage.FAIL,
    hwaccel: str = "none",
    device: str = "auto",
    resumable: bool = False,
    job: str | Path | None = None,
    segment_seconds: float = SEGMENT_SECONDS,
    progress: ProgressCallback | None = None,
) -> VideoReport:
    """Upscale a video with a network, frame by frame, and write the result to a file.

        report = steadyscale.upscale_video("small.mp4", "large.mp4", settings=UpscaleSettings(OutputSize(factor=2)))
        print(report)  # large.mp4: 240 frames, 1280x720 at 24 fps, in 61.3 s on cuda

    Args:
        source: a video file, a folder or pattern of images (`frame_%04d.png`), an image, or a `Clip`. Audio,
            subtitles, timestamps and color description of a video file are kept, also for a `VideoClip` or a
            `Pipeline` on one. A video may also be a URL, such as s3://bucket/clip.mp4 (extra `cloud`), of which
            a local copy is read.
        target: a video file (.mp4, .mkv, .mov, .m4v, .webm), or a folder or pattern for PNG images. It appears when
            all of it is written and checked. If it is a URL, the file is then uploaded.
        model: a name from `steadyscale models list`, a weight file, or a network (`ImageModel`). None takes the
            bundled network that suits the factor.
        settings: output size, tiling, precision and post-processing. None takes the defaults: the network's own scale.
        deflicker: strength of the temporal filter against flicker and crawling detail, 0 (none) to 1; 0.6 suits most
            clips. None takes 0.3 for video and the networks steadyscale-restore, also by default; 0 for other networks,
            and for a source of images or a single frame.
        encoding: codec, crf, preset, pixel format and encoder of a video file. None takes what plays everywhere.
        bits: bits per channel of PNG images, 8 or 16; None takes 16 if the source has more than 8.
        fps: frames per second of a source of images; videos and clips state their own.
        max_pixels: the largest accepted width * height of a source that is a path.
        on_damage: for a source that is a path: FAIL raises an error at a corrupt frame, KEEP conceals and counts it.
        hwaccel: what decodes a source that is a path: "none" (the CPU), "auto" (a GPU if one can), or FFmpeg's name of
            a kind of device, such as "cuda". Where it does not work, the CPU decodes; the frames are the same.
        device: where the network runs: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", or several GPUs that
            share the frames: "cuda:0,cuda:1".
        resumable: keep finished segments beside the target, so that the same call continues after a crash, a kill or
            a cancel. Needs a source that is a file, and a video file as the target.
        job: as `resumable`, with the segments in this folder or below this URL.
        segment_seconds: length of a segment: how much of the clip an interrupted run can lose.
        progress: called with each `Progress`. Whatever it raises cancels the call and is raised again here; nothing is
            written then, except for the segments of a resumable run.

    Returns:
        What was read, written and used. `report.as_dict()` is what `steadyscale upscale --json` prints.

    Raises:
        ClipError: the source cannot be read, the target cannot be written, or a setting does not suit the clip. The
            message says what to change.
        ValueError: a setting is outside its range.
        models.WeightsError: the model is unknown, or its file is damaged.
    """
    options = RunOptions(
        encoding, bits, fps, max_pixels, on_damage, hwaccel, device, resumable, job, segment_seconds, progress
    )
    processing = Processing("upscale", model, settings or UpscaleSettings(), deflicker)
    with open_run("upscale", source, target, options) as run:
        return run.write(*build_pipeline(run, processing))


def stabilize_video(
    source: str | Path | Clip,
    target: str | Path,
    *,
    settings: StabilizeSettings | None = None,
    mask: Masks | str | Path | None = None,
    encoding: Encoding | None = None,
    bits: int | None = None,
    fps: Fraction | float = 24,
    max_pixels: int = MAX_PIXELS,
    on_damage: OnDamage = OnDamage.FAIL,
    hwaccel: str = "none",
    device: str = "auto",
    resumable: bool = False,
    job: str | Path | None = None,
    segment_seconds: float = SEGMENT_SECONDS,
    progress: ProgressCallback | None = None,
) -> VideoReport:
    """Remove the shake from a video and write the result to a file.

    The source is read twice, first to measure its motion. Arguments that are not listed are as for `upscale_video`.

        settings = StabilizeSettings(seconds=2.0, border=Border.MIRROR)
        steadyscale.stabilize_video("shaky.mp4", "steady.mp4", settings=settings)

    Args:
        settings: smoothing, border, zoom and the like. None takes the defaults.
        mask: moving subjects, such as people, that the measurement of the camera motion ignores: (N or 1, H, W), above
            0.5 on a subject; a function from the frame number to such a mask (not with `resumable`); or a file: one
            image for all frames, or a video, folder or pattern with one mask for each.
        device: without effect. Motion is measured on the CPU, and frames are warped there, which takes less time than
            their transfer to a GPU.

    Returns:
        What was read, written and used, as `steadyscale stabilize --json` prints it.

    Raises:
        ClipError: as `upscale_video` does; also for a clip that would have to be cropped to almost nothing.
    """
    options = RunOptions(
        encoding, bits, fps, max_pixels, on_damage, hwaccel, device, resumable, job, segment_seconds, progress
    )
    processing = Processing("stabilize", stabilization=settings or StabilizeSettings(), mask=mask)
    with open_run("stabilize", source, target, options) as run, ExitStack() as stack:
        built = build_pipeline(run, processing)
        if run.needs_rgb(built.pipeline):
            from ..runtime.threads.torch_threads import one_thread

            # OpenCV, the decoder and the encoder do the work: more threads of torch would only spin beside them.
            stack.enter_context(one_thread())
        return run.write(*built)


def enhance_video(
    source: str | Path | Clip,
    target: str | Path,
    *,
    model: str | Path | ImageModel | None = None,
    upscaling: UpscaleSettings | None = None,
    stabilization: StabilizeSettings | None = None,
    deflicker: float | None = None,
    mask: Masks | str | Path | None = None,
    encoding: Encoding | None = None,
    bits: int | None = None,
    fps: Fraction | float = 24,
    max_pixels: int = MAX_PIXELS,
    on_damage: OnDamage = OnDamage.FAIL,
    hwaccel: str = "none",
    device: str = "auto",
    resumable: bool = False,
    job: str | Path | None = None,
    segment_seconds: float = SEGMENT_SECONDS,
    progress: ProgressCallback | None = None,
) -> VideoReport:
    """Upscale and stabilize a video in one pass, and write the result to a file.

    Motion is measured on the small frames; each frame is upscaled, then warped once at its final size. Arguments that
    are not listed are as for `upscale_video`.

        steadyscale.enhance_video("shaky.mp4", "large.mp4", model="steadyscale-2x", progress=print)

    Args:
        upscaling: settings of the network's part, as for `upscale_video`. The output size must keep the aspect ratio.
        stabilization: settings of the stabilizer, as for `stabilize_video`.
        mask: as for `stabilize_video`.

    Returns:
        What was read, written and used, as `steadyscale enhance --json` prints it.

    Raises:
        ClipError: as the other two do; also for an output size of another aspect ratio.
    """
    options = RunOptions(
        encoding, bits, fps, max_pixels, on_damage, hwaccel, device, resumable, job, segment_seconds, progress
    )
    processing = Processing(
        "enhance", model, upscaling or UpscaleSettings(), deflicker, stabilization or StabilizeSettings(), mask
    )
    with open_run("enhance", source, target, options) as run:
        return run.write(*build_pipeline(run, processing))
