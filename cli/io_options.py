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
from ..core.jobs.segments import SECONDS
from ..core.pipeline.estimate import announced
from ..core.pipeline.pipeline import Recipe
from ..core.video.decode import demux
from ..core.video.decode.corruption import Damage, OnDamage
from ..core.video.decode.video_clip import VideoClip
from ..core.video.encode.codecs import CODECS, Encoding
from ..core.video.images.sequence_paths import first_written, is_sequence
from ..core.video.open import check_target, open_clip, write_clip
from .arg_types import above_zero, add_choice, rate
from .console import tell
from .device_options import add_device, chosen_device
from .progress import ProgressBars, counted, hurt, peak_memory_mb, spared

if TYPE_CHECKING:
    from ..core.jobs.folder import Job
    from ..core.upscaling.settings import Tally

FOOTAGE = "a video file, a folder of pictures, or a pattern such as frame_%%04d.png"


def add_rate(options: argparse.ArgumentParser) -> None:
    options.add_argument("--fps", type=rate, default=Fraction(24), help="frames per second of pictures (default 24)")


def add_writing(options: argparse.ArgumentParser) -> None:
    options.add_argument("--codec", choices=tuple(CODECS), help="default: what suits the file name's ending")
    options.add_argument("--crf", type=int, help="quality, lower is better and larger (default: as good as visible)")
    options.add_argument("--preset", help="the encoder's own word for speed against size")
    options.add_argument("--pixel-format", help="such as yuv420p10le (default: what plays everywhere)")
    options.add_argument("--bits", type=int, choices=(8, 16), default=8, help="per channel of PNG pictures")
    options.add_argument("--max-pixels", type=int, default=demux.MAX_PIXELS, help="largest frame to accept, in pixels")


def add_ends(options: argparse.ArgumentParser) -> None:
    """IN and OUT, and what is to be done where the way from one to the other is broken off or damaged."""
    add_device(options)
    _add_resuming(options)
    about = "at damaged frames of IN, stop, or keep what the decoder makes of them, repeat the rest, and count"
    add_choice(options, "--on-damage", OnDamage.FAIL, about)
    options.add_argument("input", metavar="IN", help=FOOTAGE)
    options.add_argument("output", metavar="OUT", help=f"{FOOTAGE}; pictures are PNG")


def _add_resuming(command: argparse.ArgumentParser) -> None:
    about = "keep what is finished beside OUT, so that the same command goes on where a run was stopped or killed"
    command.add_argument("--resumable", action="store_true", help=about)
    command.add_argument("--job", metavar="FOLDER", help="the same, kept in this folder")
    command.add_argument(
        "--segment-seconds",
        type=above_zero,
        default=SECONDS,
        metavar="S",
        help=f"how much of the clip a stopped run can lose at most (default {SECONDS:g})",
    )
    command.set_defaults(keeps=_resumes)


def _resumes(args: argparse.Namespace) -> bool:
    return bool(args.resumable or args.job)


def opened(args: argparse.Namespace) -> tuple[float, Clip]:
    """The moment of the start, and the source; a name that cannot be written to fails here rather than hours later."""
    begun = time.monotonic()
    if _resumes(args) and is_sequence(Path(args.output)):
        raise ClipError(f"{args.output}: --resumable and --job write a video file; write pictures without them")
    check_target(args.output, encoding=_encoding(args), source=args.input)
    return begun, open_clip(args.input, fps=args.fps, max_pixels=args.max_pixels, on_damage=OnDamage(args.on_damage))


@contextmanager
def job_of(args: argparse.Namespace) -> Iterator[Job | None]:
    """The job that the arguments ask for, if they do."""
    if not _resumes(args):
        yield None
        return
    from ..core.jobs.folder import folder_for, opened_job

    with opened_job(args.job or folder_for(args.output), args.input) as job:
        yield job


def write(
    args: argparse.Namespace,
    begun: float,
    bars: ProgressBars,
    job: Job | None,
    recipe: Recipe,
    doing: str,
    tally: Tally | None = None,
) -> None:
    """The end of every stream: the file, and the report on it. doing: what the progress bar calls it."""
    if job:
        read = written = _made_in_segments(args, bars, job, recipe, doing)
    else:
        read, written = _made_at_once(args, bars, recipe, doing)
    # What a reader of the result finds, not what we hoped: this also proves that it can be read.
    result = open_clip(_seen(args.output), fps=recipe.info.fps, max_pixels=demux.NO_LIMIT).info
    damage = recipe.source.damage if isinstance(recipe.source, VideoClip) else Damage()
    seconds = time.monotonic() - begun
    report = {
        "command": args.command,
        "input": str(args.input),
        "output": str(args.output),
        "frames_in": read,
        "frames_out": written,
        **facts_of(result),
        "seconds": round(seconds, 3),
        "peak_memory_mb": peak_memory_mb(),
        "device": chosen_device(args),
        **(counted(tally) if tally else {}),
        "damaged_frames": len(damage),
        "damage": damage.table(),
    }
    size = f"{result.width}x{result.height} at {float(result.fps):g} fps"
    tell(
        args,
        report,
        f"{args.output}: {written} frames, {size}, in {seconds:.1f} s on {report['device']}"
        f"{spared(tally)}{hurt(damage)}",
    )


def _seen(output: str) -> Path:
    """A file that tells what was written: of pictures the first, whatever else their folder holds."""
    return first_written(Path(output)) if is_sequence(Path(output)) else Path(output)


def needs_rgb(args: argparse.Namespace, recipe: Recipe) -> bool:
    """Whether frames go by way of RGB and of torch: in segments, to pictures, and where an operation asks for it."""
    return _resumes(args) or is_sequence(Path(args.output)) or recipe.pictures() is None


def _made_in_segments(args: argparse.Namespace, bars: ProgressBars, job: Job, recipe: Recipe, doing: str) -> int:
    """How many frames there are, of this run and those before it."""
    from ..core.jobs.run import run_job

    def watch(frames: Iterator[Frames], kept: int) -> Iterator[Frames]:
        frames = announced(frames, recipe, bars.say, kept=kept)
        return bars.watch(frames, doing, max(0, (recipe.info.length or 0) - kept))

    encoding, seconds = _encoding(args), args.segment_seconds
    return run_job(job, recipe, args.output, encoding=encoding, segment_seconds=seconds, watch=watch).frames


def _made_at_once(args: argparse.Namespace, bars: ProgressBars, recipe: Recipe, doing: str) -> tuple[int, int]:
    """How many frames were read, and how many written."""
    watched = replace(recipe, source=bars.watching(recipe.source, doing))
    made = watched.frames() if needs_rgb(args, recipe) else watched.pictures()
    assert made is not None, "a watched clip has the pictures that it has"
    frames = announced(made, recipe, bars.say)
    encoding = _encoding(args)
    written = write_clip(args.output, frames, recipe.info, encoding=encoding, source=args.input, bits=args.bits)
    return bars.passed[doing], written


def _encoding(args: argparse.Namespace) -> Encoding:
    return Encoding(args.codec, args.crf, args.preset, args.pixel_format)


def facts_of(info: ClipInfo) -> dict[str, object]:
    return {"width": info.width, "height": info.height, "fps": round(float(info.fps), 6)}
