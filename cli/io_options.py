"""What commands that make a clip of a clip share: their source, their target, and the way from one to the other."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.clip import Clip, ClipError, ClipInfo, Frames
from ..core.jobs.segments import SEGMENT_SECONDS
from ..core.pipeline.estimate import with_estimate
from ..core.pipeline.pipeline import Pipeline
from ..core.video.decode import demux
from ..core.video.decode.corruption import CorruptionReport, OnDamage
from ..core.video.decode.video_clip import VideoClip
from ..core.video.encode.codecs import CODECS, Encoding
from ..core.video.images.sequence_paths import first_output, is_image_sequence
from ..core.video.open import check_target, open_clip, write_clip
from .arg_types import add_enum_option, frame_rate, positive_float
from .console import print_report
from .device_options import add_device_option, resolve_device
from .progress import ProgressBars, damage_summary, peak_memory_mb, reuse_summary, stats_fields

if TYPE_CHECKING:
    from ..core.jobs.folder import Job
    from ..core.upscaling.settings import UpscaleStats

FOOTAGE_HELP = "a video file, a folder of pictures, or a pattern such as frame_%%04d.png"


def add_fps_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--fps", type=frame_rate, default=Fraction(24), help="frames per second of pictures (default 24)"
    )


def add_encoding_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--codec", choices=tuple(CODECS), help="default: what suits the file name's ending")
    parser.add_argument("--crf", type=int, help="quality, lower is better and larger (default: as good as visible)")
    parser.add_argument("--preset", help="the encoder's own word for speed against size")
    parser.add_argument("--pixel-format", help="such as yuv420p10le (default: what plays everywhere)")
    parser.add_argument("--bits", type=int, choices=(8, 16), default=8, help="per channel of PNG pictures")
    parser.add_argument("--max-pixels", type=int, default=demux.MAX_PIXELS, help="largest frame to accept, in pixels")


def add_io_options(parser: argparse.ArgumentParser) -> None:
    """IN and OUT, and what is to be done where the way from one to the other is broken off or damaged."""
    add_device_option(parser)
    _add_resume_options(parser)
    about = "at damaged frames of IN, stop, or keep what the decoder makes of them, repeat the rest, and count"
    add_enum_option(parser, "--on-damage", OnDamage.FAIL, about)
    parser.add_argument("input", metavar="IN", help=FOOTAGE_HELP)
    parser.add_argument("output", metavar="OUT", help=f"{FOOTAGE_HELP}; pictures are PNG")


def _add_resume_options(parser: argparse.ArgumentParser) -> None:
    about = "keep what is finished beside OUT, so that the same command goes on where a run was stopped or killed"
    parser.add_argument("--resumable", action="store_true", help=about)
    parser.add_argument("--job", metavar="FOLDER", help="the same, kept in this folder")
    parser.add_argument(
        "--segment-seconds",
        type=positive_float,
        default=SEGMENT_SECONDS,
        metavar="S",
        help=f"how much of the clip a stopped run can lose at most (default {SEGMENT_SECONDS:g})",
    )
    parser.set_defaults(keeps=_is_resumable)


def _is_resumable(args: argparse.Namespace) -> bool:
    return bool(args.resumable or args.job)


def open_source(args: argparse.Namespace) -> tuple[float, Clip]:
    """The moment of the start, and the source; a name that cannot be written to fails here rather than hours later."""
    begun = time.monotonic()
    if _is_resumable(args) and is_image_sequence(Path(args.output)):
        raise ClipError(f"{args.output}: --resumable and --job write a video file; write pictures without them")
    check_target(args.output, encoding=_encoding_from_args(args), source=args.input)
    return begun, open_clip(args.input, fps=args.fps, max_pixels=args.max_pixels, on_damage=OnDamage(args.on_damage))


@contextmanager
def job_from_args(args: argparse.Namespace) -> Iterator[Job | None]:
    """The job that the arguments ask for, if they do."""
    if not _is_resumable(args):
        yield None
        return
    from ..core.jobs.folder import default_job_folder, open_job

    with open_job(args.job or default_job_folder(args.output), args.input) as job:
        yield job


def write_output(
    args: argparse.Namespace,
    start_time: float,
    bars: ProgressBars,
    job: Job | None,
    pipeline: Pipeline,
    label: str,
    stats: UpscaleStats | None = None,
) -> None:
    """The end of every stream: the file, and the report on it. doing: what the progress bar calls it."""
    if job:
        read = written = _render_in_segments(args, bars, job, pipeline, label)
    else:
        read, written = _render_at_once(args, bars, pipeline, label)
    # What a reader of the result finds, not what we hoped: this also proves that it can be read.
    result = open_clip(_result_path(args.output), fps=pipeline.info.fps, max_pixels=demux.NO_PIXEL_LIMIT).info
    damage = pipeline.source.damage if isinstance(pipeline.source, VideoClip) else CorruptionReport()
    seconds = time.monotonic() - start_time
    report = {
        "command": args.command,
        "input": str(args.input),
        "output": str(args.output),
        "frames_in": read,
        "frames_out": written,
        **info_fields(result),
        "seconds": round(seconds, 3),
        "peak_memory_mb": peak_memory_mb(),
        "device": resolve_device(args),
        **(stats_fields(stats) if stats else {}),
        "damaged_frames": len(damage),
        "damage": damage.to_table(),
    }
    size = f"{result.width}x{result.height} at {float(result.fps):g} fps"
    print_report(
        args,
        report,
        f"{args.output}: {written} frames, {size}, in {seconds:.1f} s on {report['device']}"
        f"{reuse_summary(stats)}{damage_summary(damage)}",
    )


def _result_path(output: str) -> Path:
    """A file that tells what was written: of pictures the first, whatever else their folder holds."""
    return first_output(Path(output)) if is_image_sequence(Path(output)) else Path(output)


def needs_rgb(args: argparse.Namespace, pipeline: Pipeline) -> bool:
    """Whether frames go by way of RGB and of torch: in segments, to pictures, and where an operation asks for it."""
    return _is_resumable(args) or is_image_sequence(Path(args.output)) or pipeline.native_frames() is None


def _render_in_segments(args: argparse.Namespace, bars: ProgressBars, job: Job, pipeline: Pipeline, label: str) -> int:
    """How many frames there are, of this run and those before it."""
    from ..core.jobs.run import run_job

    def with_progress(frames: Iterator[Frames], frames_done: int) -> Iterator[Frames]:
        frames = with_estimate(frames, pipeline, bars.notify, frames_done=frames_done)
        return bars.track(frames, label, max(0, (pipeline.info.length or 0) - frames_done))

    encoding, seconds = _encoding_from_args(args), args.segment_seconds
    return run_job(
        job, pipeline, args.output, encoding=encoding, segment_seconds=seconds, progress=with_progress
    ).frames


def _render_at_once(args: argparse.Namespace, bars: ProgressBars, pipeline: Pipeline, label: str) -> tuple[int, int]:
    """How many frames were read, and how many written."""
    watched = replace(pipeline, source=bars.track_clip(pipeline.source, label))
    made = watched.frames() if needs_rgb(args, pipeline) else watched.native_frames()
    assert made is not None, "a watched clip has the pictures that it has"
    frames = with_estimate(made, pipeline, bars.notify)
    encoding = _encoding_from_args(args)
    written = write_clip(args.output, frames, pipeline.info, encoding=encoding, source=args.input, bits=args.bits)
    return bars.completed[label], written


def _encoding_from_args(args: argparse.Namespace) -> Encoding:
    return Encoding(args.codec, args.crf, args.preset, args.pixel_format)


def info_fields(info: ClipInfo) -> dict[str, object]:
    return {"width": info.width, "height": info.height, "fps": round(float(info.fps), 6)}
