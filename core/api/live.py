"""Stabilize frames as they arrive, from a pipe or device to a pipe or file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from ..bars import Bars
from ..clip import ClipError, Frames
from ..hold import Hold
from ..lens import Lens
from ..motion.camera.readout_time import RollingShutter
from ..motion.camera.telemetry import Telemetry
from ..motion.optical_flow.flow import flow_model
from ..path.even_time import FrameClock
from ..runtime.device.device_names import resolve_device
from ..runtime.peak_memory import peak_memory_mb
from ..smoothing.smooth import Smoothing
from ..stabilize import StabilizeSettings
from ..video.decode.corruption_report import CorruptionReport, OnDamage
from ..video.decode.live_source import LiveSource, open_live_source
from ..video.decode.packets.demux import MAX_PIXELS
from ..video.encode.codecs import Encoding
from ..video.encode.writer import write_video
from ..video.encode.y4m_pipe import write_y4m
from ..video.images.png_writer import png_bits, write_images
from ..video.images.sequence_paths import is_image_sequence
from ..video.open import check_target
from .progress import ProgressTracker
from .report import ProgressCallback, VideoReport

if TYPE_CHECKING:
    from ..warping.live import LiveSmoother

STDOUT = "-"
LOOK_AHEAD = 12  # frames: half a second, which removes most of the lag behind a pan


def stabilize_live_video(
    source: str | Path,
    target: str | Path,
    *,
    settings: StabilizeSettings | None = None,
    look_ahead: int = LOOK_AHEAD,
    encoding: Encoding | None = None,
    bits: int | None = None,
    max_pixels: int = MAX_PIXELS,
    on_damage: OnDamage = OnDamage.FAIL,
    device: str = "auto",
    progress: ProgressCallback | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> VideoReport:
    """Stabilize frames as they arrive; the source is read once.

    Each frame is written `look_ahead` frames after it was read.

        stabilize_live_video("/dev/video0", "-", look_ahead=6)  # Y4M on stdout, for a player

    Args:
        source: "-" (stdin: Y4M or any container that can be read in order), a capture device (/dev/video0,
            avfoundation:0, dshow:video=NAME), or a video file.
        target: "-" (Y4M on stdout, at a constant rate), a video file, which keeps the source's timestamps, title,
            colors and pixel aspect ratio, or a folder or pattern for PNG images. Audio is not kept.
        settings: as for `stabilize_video`, with smoothing by Kalman (the default) or the learned smoother, and a
            border other than fill and crop-adaptive. A rolling shutter is corrected for a stated readout time only.
        look_ahead: how many frames after a frame may be used for it, 0 or more: the delay of the output.
        encoding, bits, max_pixels, device, progress: as for `stabilize_video`.
        on_damage: KEEP skips what cannot be decoded.
        stop: called before each frame; once it returns True the source counts as ended.

    Returns:
        What was read, written and used.

    Raises:
        ClipError: the source cannot be read, the target cannot be written, or a setting needs the whole clip.
    """
    start, settings = time.monotonic(), settings or StabilizeSettings()
    if str(target) != STDOUT:
        check_target(target, encoding=encoding, source=None if str(source) == "-" else source)
    _check_live(settings)
    resolve_device(device)  # raises for a name that is wrong
    tracker = ProgressTracker(progress)
    with open_live_source(str(source), max_pixels=max_pixels, on_damage=OnDamage(on_damage)) as live:
        frames = _stabilize(live, settings, look_ahead, tracker, stop)
        with closing(frames):
            written = _write(target, frames, live, encoding, bits)
        return VideoReport(
            command="stabilize",
            input=str(source),
            output=str(target),
            frames_in=tracker.done,
            frames_out=written,
            info=replace(live.info, length=written),
            seconds=time.monotonic() - start,
            peak_memory_mb=peak_memory_mb(),
            device="cpu",
            damage=CorruptionReport(),
        )


def _check_live(settings: StabilizeSettings) -> None:
    if settings.smoothing not in (Smoothing.KALMAN, Smoothing.KALMAN_CAUSAL, Smoothing.LEARNED):
        name = getattr(settings.smoothing, "value", "a function")
        raise ClipError(f"the smoothing '{name}' needs the whole clip: live, use kalman or learned")
    if settings.reference is not None:
        raise ClipError(f"reference is {settings.reference}; live, no frame can be held: leave it out")
    if isinstance(settings.bars, Bars):
        raise ClipError(f"bars are {settings.bars}; live, they are moved with the image: leave them out")
    if settings.keyframes:
        raise ClipError(
            f"keyframes are given ({len(settings.keyframes)}); live, nothing changes over time: leave them out"
        )
    if isinstance(settings.lens, Lens):
        raise ClipError(f"the lens has {settings.lens.fov:g} degrees; live, it is not corrected: leave it out")
    if settings.telemetry is not Telemetry.OFF:
        raise ClipError("telemetry is auto; live, it is not read: leave it out")
    if settings.hold is not Hold.AUTO:
        raise ClipError(f"hold is '{settings.hold.value}'; live, the whole frame is followed: leave it out")
    if settings.pad:
        raise ClipError(f"pad is {settings.pad}; live, frames cannot be padded")


def _stabilize(
    source: LiveSource,
    settings: StabilizeSettings,
    look_ahead: int,
    tracker: ProgressTracker,
    stop: Callable[[], bool],
) -> Generator[Frames, None, None]:
    from ..warping.live import stabilize_live, stream_motion

    readout = 0.0 if settings.rolling_shutter is RollingShutter.AUTO else settings.readout_time
    clock = FrameClock(source.info.fps, float(source.time_base))
    frames = tracker.track(source.frames(stop), "stabilizing", None)
    warped = stabilize_live(
        stream_motion(frames, flow_model(settings.flow), clock=lambda: clock.elapsed(source.time)),
        source.info.fps,
        seconds=settings.seconds,
        look_ahead=look_ahead,
        max_zoom=settings.max_zoom,
        border=settings.border,
        smoother=_load_live_smoother(settings.smoother) if settings.smoothing is Smoothing.LEARNED else None,
        strength=settings.strength,
        horizon=settings.horizon,
        readout=readout or 0.0,
    )
    return (result.frames for result in warped)


def _load_live_smoother(file: str | Path | None) -> LiveSmoother:
    from ...models import load_path_smoother

    return load_path_smoother(file).make_controller


def _write(
    target: str | Path,
    frames: Iterator[Frames],
    source: LiveSource,
    encoding: Encoding | None,
    bits: int | None,
) -> int:
    if str(target) == STDOUT:
        return write_y4m(
            cast(BinaryIO, sys.stdout.buffer), frames, source.info, source_format=source.description.stream_format
        )
    if is_image_sequence(Path(target)):
        return write_images(target, frames, bits=bits or png_bits(source.bit_depth))
    return write_video(
        target,
        frames,
        source.info,
        encoding=encoding,
        times=source.times,
        bits=source.bit_depth,
        description=source.description,
    )
