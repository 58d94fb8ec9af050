"""One call of the high-level API: source, pipeline, target, report."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

from ..clip import Clip, ClipError, Frames, parse_fps
from ..pipeline.estimate import check_memory, with_estimate
from ..pipeline.pipeline import Pipeline
from ..runtime.device.device_names import resolve_devices
from ..runtime.peak_memory import peak_memory_mb
from ..stabilization_report import StabilizationReport
from ..storage.copies import local_source, local_target
from ..storage.location import ObjectUrl, is_url, parse_location
from ..upscaling.settings import UpscaleStats
from ..video.decode.corruption_report import CorruptionReport, OnDamage
from ..video.decode.hwaccel import check_hwaccel
from ..video.decode.packets import demux
from ..video.decode.timestamps import TimeRange
from ..video.decode.video_clip import VideoClip
from ..video.encode.codecs import Encoding
from ..video.encode.stream_copy import warn_dropped_audio
from ..video.encode.writer import write_video
from ..video.format.source_description import IMAGE_FILES
from ..video.images.color_profile import warn_dropped_color
from ..video.images.image_clip import ImageClip
from ..video.images.png_writer import png_bits, write_images
from ..video.images.sequence_paths import first_output, is_image_sequence, overwritten_sources
from ..video.open import check_name, check_target, open_clip
from .progress import ProgressTracker
from .report import ProgressCallback, VideoReport

if TYPE_CHECKING:
    from ..jobs.state.folder import Job

Source: TypeAlias = str | Path | Clip


@dataclass(frozen=True)
class RunOptions:
    """The arguments that the three functions share; see `upscale_video`."""

    encoding: Encoding | None
    bits: int | None
    fps: Fraction | float
    max_pixels: int
    on_damage: OnDamage
    hwaccel: str
    device: str
    resumable: bool
    job: str | Path | None
    segment_seconds: float
    progress: ProgressCallback | None

    @property
    def is_resumable(self) -> bool:
        return self.resumable or self.job is not None


class VideoRun:
    """A source that is open, and a target that can be written.

    `open_run` returns it. pipeline: the source, without operations. job: keeps finished work; None where the run is not
    resumable. names: of the source and the target, for the report. leaves_job: whether `open_run` removes the finished
    job, after the target is uploaded.
    """

    def __init__(
        self,
        command: str,
        target: Path,
        options: RunOptions,
        clip: Clip,
        job: Job | None,
        start: float,
        names: tuple[str | None, str],
    ) -> None:
        self.pipeline = clip if isinstance(clip, Pipeline) else Pipeline(clip)
        self.job, self.options, self.device = job, options, resolve_devices(options.device)
        self.tracker = ProgressTracker(options.progress)
        self._command, self._target, self._start_time = command, target, start
        self._input, self._output = names
        self.leaves_job = False

    def needs_rgb(self, pipeline: Pipeline) -> bool:
        """Whether frames are converted to RGB tensors.

        Otherwise they are processed in the file's own pixel format.
        """
        return self.job is not None or is_image_sequence(self._target) or pipeline.native_frames() is None

    def write(
        self,
        pipeline: Pipeline,
        stage: str,
        stats: UpscaleStats | None = None,
        stabilization: StabilizationReport | None = None,
    ) -> VideoReport:
        """Run the pipeline, write the target, and report what a reader finds there.

        stage: the name for progress. stats: of the pipeline's network. stabilization: for the report. Raises ClipError
        before any work where the frames do not fit into memory.
        """
        check_memory(pipeline)
        self.tracker.start(stage, pipeline.info.length)
        if is_image_sequence(self._target):
            if isinstance(pipeline.source, VideoClip):
                warn_dropped_audio(self._target, pipeline.source.path)
        else:
            warn_dropped_color(self._target, getattr(pipeline.source, "color", None))
        if self.job is None:
            frames_in, frames_out = self._write_at_once(pipeline, stage)
        else:
            frames_in = frames_out = self._write_segments(pipeline, stage, self.job)
        target = first_output(self._target) if is_image_sequence(self._target) else self._target
        # What a reader of the result finds, and not what was intended: this also proves that it can be read.
        result = open_clip(target, fps=pipeline.info.fps, max_pixels=demux.NO_PIXEL_LIMIT)
        source = self.pipeline.source
        return VideoReport(
            command=self._command,
            input=self._input,
            output=self._output,
            frames_in=frames_in,
            frames_out=frames_out,
            info=replace(result.info, fps=pipeline.info.fps),
            seconds=time.monotonic() - self._start_time,
            peak_memory_mb=peak_memory_mb(),
            device="cpu" if stats is None else self.device,  # Without a network all work is on the CPU.
            damage=source.damage if isinstance(source, VideoClip) else CorruptionReport(),
            stats=stats,
            stabilization=stabilization,
        )

    def _write_at_once(self, pipeline: Pipeline, stage: str) -> tuple[int, int]:
        """The numbers of frames that were read and written."""
        tracked = replace(pipeline, source=self.tracker.track_clip(pipeline.source, stage))
        to_images = is_image_sequence(self._target)
        stream = tracked.frames(on_device=not to_images) if self.needs_rgb(pipeline) else tracked.native_frames()
        assert stream is not None, "a tracked clip has the native frames that its clip has"
        frames = with_estimate(stream, pipeline, self.tracker.notify)
        if to_images:
            written = write_images(
                self._target,
                cast("Iterator[Frames]", frames),
                bits=self.options.bits or png_bits(pipeline.bit_depth),
                color=getattr(pipeline.source, "color", None),
            )
        else:
            source = pipeline.source
            file, window = (source.path, source.window) if isinstance(source, VideoClip) else (None, None)
            encoding = self.options.encoding
            written = write_video(
                self._target,
                frames,
                pipeline.info,
                encoding=encoding,
                source=file,
                window=window,
                bits=pipeline.bit_depth,
                description=IMAGE_FILES if isinstance(source, ImageClip) else None,
            )
        return self.tracker.done, written

    def _write_segments(self, pipeline: Pipeline, stage: str, job: Job) -> int:
        """The number of frames, those of earlier runs included."""
        from ..jobs.run import run_job

        def with_progress(frames: Iterator[Frames], frames_done: int) -> Iterator[Frames]:
            frames = with_estimate(frames, pipeline, self.tracker.notify, frames_done=frames_done)
            return self.tracker.track(frames, stage, max(0, (pipeline.info.length or 0) - frames_done))

        self.leaves_job = is_url(self._output)  # A result that is lost before it is sent can be joined again.
        result = run_job(
            job,
            pipeline,
            self._target,
            encoding=self.options.encoding,
            segment_seconds=self.options.segment_seconds,
            progress=with_progress,
            keep_files=self.leaves_job,
        )
        return result.frames


@contextmanager
def open_run(command: str, source: Source, target: str | Path, options: RunOptions) -> Generator[VideoRun, None, None]:
    """Check the target, then open the source and the job.

    In this order mistakes are found before any work. A source in a store is copied, and a target in one is sent when
    the block has ended. Raises ClipError for a target that cannot be written, a source that cannot be read, and a job
    in use.
    """
    start = time.monotonic()
    check_name(target)
    output = parse_location(target)
    with ExitStack() as stack:
        if isinstance(output, ObjectUrl):
            _check_result_url(source, output)
        path = stack.enter_context(local_target(output, keep_unsent=not options.is_resumable))
        name = _source_file(source)
        if isinstance(source, str) and is_url(source):
            source = stack.enter_context(local_source(source))
        clip, file = _open_source(source, path, options)
        job = None
        if options.is_resumable and file is not None:
            from ..jobs.state.folder import default_job_folder, open_job

            folder = options.job or default_job_folder(output)
            job = stack.enter_context(open_job(folder, file, _time_range(clip)))
        names = (None if name is None else str(name), str(output))
        run = VideoRun(command, path, options, clip, job, start, names)
        yield run
    if run.leaves_job and job is not None:  # The result has been sent.
        from ..jobs.state.folder import remove_job

        remove_job(job.location)


def _check_result_url(source: Source, target: ObjectUrl) -> None:
    """Raise ClipError for a result that is the source, or that is images."""
    if is_image_sequence(Path(target.name)):
        raise ClipError(f"{target}: only video files are written to a URL; write images to a folder, and copy it")
    if isinstance(source, str) and is_url(source) and parse_location(source) == target:
        raise ClipError(f"{target}: this is the source itself; choose another name for the result")


def _open_source(source: Source, target: Path, options: RunOptions) -> tuple[Clip, str | Path | None]:
    """Check the target, and open the source; return also its file, if it has one."""
    file = _source_file(source)
    if options.is_resumable and is_image_sequence(target):
        raise ClipError(f"{target}: resumable runs (--resumable, --job) write a video file; write images without them")
    if options.is_resumable and file is None:
        raise ClipError(f"{target}: a resumable run needs a source that is a file; open it from a path")
    check_hwaccel(options.hwaccel)
    check_target(target, encoding=options.encoding, source=file)
    if isinstance(source, (str, Path)):
        clip = open_clip(
            source,
            fps=parse_fps(options.fps),
            max_pixels=options.max_pixels,
            on_damage=OnDamage(options.on_damage),
            hwaccel=options.hwaccel,
        )
    else:
        clip = source
        files = clip.files if isinstance(clip, ImageClip) and is_image_sequence(target) else []
        if files and (lost := overwritten_sources(target, files)):
            raise ClipError(f"{target}: this would replace {lost[0].name} of the source; choose another folder or name")
    return clip, file


def _source_file(source: Source) -> str | Path | None:
    """The file, folder or pattern of a source; None for a clip in memory."""
    if isinstance(source, (str, Path)):
        return source
    clip = source.source if isinstance(source, Pipeline) else source
    return clip.path if isinstance(clip, VideoClip) else None


def _time_range(clip: Clip) -> TimeRange | None:
    clip = clip.source if isinstance(clip, Pipeline) else clip
    return clip.window if isinstance(clip, VideoClip) else None
