"""The command `steadyscale`: the library's parts plugged together, without ComfyUI."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from . import answers, compressing, media
from .answers import chosen_device, facts_of
from .arguments import parser
from .axes import AXES, Strength
from .clip import Clip, ClipError, ClipInfo, Frames
from .codecs import Encoding
from .console import log_on_stderr, stoppable, tell
from .damage import Damage, OnDamage
from .files import check_target, open_clip, write_clip
from .finish import Colour, Finish
from .flow import FlowMethod, flow_model
from .job_folder import Job, folder_for, opened_job
from .jobs import run_job
from .kept_motion import kept_motion
from .motion import estimate_motion
from .precision import Precision
from .preflight import announced
from .readout import with_rolling_shutter
from .recipe import Calm, Enlarge, Recipe, Steady
from .report import ProgressBars, counted, hurt, peak_memory_mb, spared
from .reuse import Reuse, Tally
from .smooth import Smoother, Smoothing
from .stabilize import plan_correction
from .tiles import Tiling
from .trajectory import Trajectory
from .upscale import Alpha, Target
from .video import VideoClip
from .warp import Border


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0: everything was written, 1: it failed, 2: it was called wrongly, 130: interrupted."""
    try:
        args = parser().parse_args(argv)
    except SystemExit as done:  # argparse has written what there is to say
        return int(done.code or 0)
    with log_on_stderr(args), stoppable():
        try:
            _COMMANDS[args.command](args)
            return 0
        except KeyboardInterrupt:
            kept = args.command in ("run", "train") or getattr(args, "resumable", False) or getattr(args, "job", None)
            outcome = "what is finished is kept" if kept else "nothing was written"
            sys.stderr.write(f"steadyscale: interrupted, {outcome}\n")
            return 130
        except Exception as error:
            if args.debug:
                traceback.print_exc()
            sys.stderr.write(f"steadyscale: {_one_line(error)}\n")
            return 1


# --- commands


def _upscale(args: argparse.Namespace) -> None:
    with ProgressBars(args.quiet) as bars, _job(args) as job:
        begun, clip = _open(args)
        tally = Tally()
        _write(args, begun, bars, job, _enlarged(args, Recipe(clip), tally), tally)


def _stabilize(args: argparse.Namespace) -> None:
    with ProgressBars(args.quiet) as bars, _job(args) as job, _one_thread_of_torch():
        begun, clip = _open(args)
        _write(args, begun, bars, job, Recipe(clip).then(_steady(args, bars, job, clip)))


def _enhance(args: argparse.Namespace) -> None:
    with ProgressBars(args.quiet) as bars, _job(args) as job:
        begun, clip = _open(args)
        tally = Tally()
        recipe = _enlarged(args, Recipe(clip), tally)
        large = recipe.info
        if clip.info.scaled(large.width / clip.info.width) != large:
            raise ClipError(
                f"{large.width}x{large.height} has another shape than {clip.info.width}x{clip.info.height}, "
                "which would bend the measured motion; choose a size of the same shape, or --scale"
            )
        _write(args, begun, bars, job, recipe.then(_steady(args, bars, job, clip)), tally)


def _train(args: argparse.Namespace) -> None:
    from .training import Report, read_config, shown, train

    config = read_config(args.config, args.set)
    last: Report | None = None
    for report in shown(train(config, resume=args.resume), args.quiet):
        last = report
    files = [str(file) for file in last.files] if last else []
    steps, scores = (last.step, last.scores) if last else (0, {})
    psnr = {str(scale): round(found.psnr, 3) for scale, found in scores.items()}
    done = {"command": "train", "folder": str(config.folder), "steps": steps, "files": files, "psnr": psnr}
    tell(args, done, "\n".join(files) or f"{config.folder}: nothing left to do")


def _run(args: argparse.Namespace) -> None:
    from .remote_run import run

    run(args)


def _train_smoother(args: argparse.Namespace) -> None:
    from .training import PathTraining, shown_paths, train_path_net

    settings = PathTraining(steps=args.steps, seed=args.seed)
    with _one_thread_of_torch():
        last = [report.losses for report in shown_paths(train_path_net(settings, Path(args.output)), args.quiet)][-1]
    tell(args, {"command": "train-smoother", "output": args.output, "losses": last}, args.output)


_COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "upscale": _upscale,
    "stabilize": _stabilize,
    "enhance": _enhance,
    "train": _train,
    "run": _run,
    "compress": compressing.run,
    "train-smoother": _train_smoother,
    "bench": answers.bench,
    "info": answers.info,
    "models list": answers.models_list,
    "models get": answers.models_get,
    "native build": answers.native_build,
    "native info": answers.native_info,
}


# --- parts of commands


def _open(args: argparse.Namespace) -> tuple[float, Clip]:
    """The moment of the start, and the source; a name that cannot be written to fails here rather than hours later."""
    begun = time.monotonic()
    check_target(args.output, encoding=_encoding(args), source=args.input)
    return begun, open_clip(args.input, fps=args.fps, max_pixels=args.max_pixels, on_damage=OnDamage(args.on_damage))


@contextmanager
def _one_thread_of_torch() -> Iterator[None]:
    """Where OpenCV, the decoder and the encoder do the work, more threads would only spin beside them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _job(args: argparse.Namespace) -> Iterator[Job | None]:
    """The job that the arguments ask for, if they do."""
    if not (args.resumable or args.job):
        yield None
        return
    with opened_job(args.job or folder_for(args.output), args.input) as job:
        yield job


def _enlarged(args: argparse.Namespace, recipe: Recipe, tally: Tally) -> Recipe:
    """The recipe with the network that the arguments name."""
    from ..models import load_upscaler, zoo

    width, height = recipe.info.width, recipe.info.height
    factor = max(args.size[0] / width, args.size[1] / height) if args.size else args.scale
    grain = 0.0 if args.temporal else args.grain  # the temporal stage would average it away
    enlarge = Enlarge(
        load_upscaler(zoo.find(args.model or zoo.shipped_for(factor).name)),
        target=Target(factor=args.scale, size=args.size),
        tiling=Tiling(args.tile),
        precision=Precision(args.precision),
        device=chosen_device(args),
        reuse=Reuse(on=not args.no_reuse, threshold=args.repeat_threshold),
        finish=Finish(args.strength, Colour(args.colour), grain, args.linear_light),
        alpha=Alpha(args.alpha),
        compile_network=args.compile,
        tally=tally,
    )
    recipe = recipe.then(enlarge)
    return recipe.then(Calm(args.temporal, args.grain)) if args.temporal else recipe


def _steady(args: argparse.Namespace, bars: ProgressBars, job: Job | None, clip: Clip) -> Steady:
    """What takes the shake out of the clip, whose motion is measured for it, or was by an earlier run of the job."""
    device, border = chosen_device(args), Border(args.border)
    watched, flow = bars.watching(clip, "measuring"), flow_model(FlowMethod(args.flow), device)
    motion = (
        kept_motion(job, watched, flow, segment_seconds=args.segment_seconds) if job else estimate_motion(watched, flow)
    )
    measured = Trajectory.of(with_rolling_shutter(motion, args.rolling_shutter))
    fix = plan_correction(
        measured,
        _smoothing(args, measured.info),
        args.seconds,
        border=border,
        max_zoom=args.max_zoom,
        strength=Strength(**{axis: 1 - getattr(args, f"keep_{axis}") for axis in AXES}),
        horizon=args.horizon,
    )
    return Steady(fix, border, device=device)


def _smoothing(args: argparse.Namespace, info: ClipInfo) -> Smoothing | Smoother:
    """The smoother that the arguments name, for frames of the size that motion was measured on."""
    method = Smoothing(args.smoothing)
    if method is not Smoothing.LEARNED:
        return method
    from ..models import load_path_smoother

    cropped = Border(args.border) in (Border.CROP, Border.CROP_ADAPTIVE)
    return load_path_smoother().smoother(info.width, info.height, args.max_zoom if cropped else None)


def _write(
    args: argparse.Namespace,
    begun: float,
    bars: ProgressBars,
    job: Job | None,
    recipe: Recipe,
    tally: Tally | None = None,
) -> None:
    """The end of every stream: the file, and the report on it."""
    label, info = "stabilising" if args.command == "stabilize" else "upscaling", recipe.info
    if job:

        def watch(frames: Iterator[Frames], kept: int) -> Iterator[Frames]:
            frames = announced(frames, recipe, bars.say, kept=kept)
            return bars.watch(frames, label, max(0, (info.length or 0) - kept))

        finished = run_job(
            job, recipe, args.output, encoding=_encoding(args), segment_seconds=args.segment_seconds, watch=watch
        )
        read = written = finished.frames
    else:
        frames = replace(recipe, source=bars.watching(recipe.source, label)).frames()
        frames = announced(frames, recipe, bars.say)
        written = write_clip(args.output, frames, info, encoding=_encoding(args), source=args.input, bits=args.bits)
        read = bars.passed[label]
    # What a reader of the result finds, not what we hoped: this also proves that it can be read.
    result = open_clip(args.output, fps=info.fps, max_pixels=media.NO_LIMIT).info
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
        "device": str(chosen_device(args)),
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


def _encoding(args: argparse.Namespace) -> Encoding:
    return Encoding(args.codec, args.crf, args.preset, args.pixel_format)


def _one_line(error: Exception) -> str:
    from ..models import WeightsError
    from .compress.errors import CompressionError
    from .training.errors import TrainingError
    from .workflow import RunError

    if isinstance(error, RunError):
        return str(error)  # a line for each thing that the server said
    text = " ".join(str(error).split())
    if isinstance(error, (ClipError, CompressionError, TrainingError, WeightsError)):
        return text
    return f"{type(error).__name__}: {text or 'no more is known'} (--debug shows where)"
