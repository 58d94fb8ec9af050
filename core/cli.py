"""The command `steadyscale`: the library's parts plugged together, without ComfyUI."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from . import media
from .arguments import parser
from .clip import Clip, ClipError, ClipInfo, Frames
from .codecs import Encoding
from .files import check_target, open_clip, write_clip
from .report import ProgressBars, counted, peak_memory_mb, spared
from .reuse import Reuse, Tally
from .video import VideoClip

WEIGHTS = (".safetensors", ".pth", ".pt", ".ckpt", ".param", ".bin")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0: everything was written, 1: it failed, 2: it was called wrongly, 130: interrupted."""
    try:
        args = parser().parse_args(argv)
    except SystemExit as done:  # argparse has written what there is to say
        return int(done.code or 0)
    with _log_on_stderr(args), _stoppable():
        try:
            _COMMANDS[args.command](args)
            return 0
        except KeyboardInterrupt:
            sys.stderr.write("steadyscale: interrupted, nothing was written\n")
            return 130
        except Exception as error:
            if args.debug:
                traceback.print_exc()
            sys.stderr.write(f"steadyscale: {_one_line(error)}\n")
            return 1


# --- commands


def _upscale(args: argparse.Namespace) -> None:
    with ProgressBars(args.quiet) as bars:
        begun, clip = _open(args)
        tally = Tally()
        _write(args, begun, bars, clip, *_enlarged(args, bars, clip, tally), tally)


def _stabilize(args: argparse.Namespace) -> None:
    with ProgressBars(args.quiet) as bars:
        begun, clip = _open(args)
        frames = bars.watch(clip.frames(), "stabilising", clip.info.length)
        _write(args, begun, bars, clip, _steadied(args, bars, clip, frames, 1.0), clip.info)


def _enhance(args: argparse.Namespace) -> None:
    with ProgressBars(args.quiet) as bars:
        begun, clip = _open(args)
        tally = Tally()
        large, info = _enlarged(args, bars, clip, tally)
        factor = info.width / clip.info.width
        if clip.info.scaled(factor) != info:
            raise ClipError(
                f"{info.width}x{info.height} has another shape than {clip.info.width}x{clip.info.height}, "
                "which would bend the measured motion; choose a size of the same shape, or --scale"
            )
        _write(args, begun, bars, clip, _steadied(args, bars, clip, large, factor), info, tally)


def _info(args: argparse.Namespace) -> None:
    path = Path(args.file)
    if path.suffix.lower() in WEIGHTS:
        from ..models import load_upscaler

        network = load_upscaler(path)
        facts: dict[str, object] = {
            "kind": "weights",
            "architecture": network.architecture,
            "scale": network.scale,
            "channels": network.in_channels,
            "parameters": network.parameters_count,
        }
    else:
        clip = open_clip(path, fps=args.fps)
        facts = {"kind": "pictures", **_facts(clip.info), "frames": clip.info.length}
        if isinstance(clip, VideoClip):
            from .tracks import sound_tracks

            facts |= {"kind": "video", "codec": clip.stored.codec, "pixel_format": clip.stored.pixel_format}
            facts |= {"sound": sound_tracks(path)}
    _tell(args, {"command": "info", "file": str(path), **facts}, "\n".join(f"{k}: {v}" for k, v in facts.items()))


def _models_list(args: argparse.Namespace) -> None:
    from ..models import zoo

    rows = [
        {
            "name": entry.name,
            "architecture": entry.architecture,
            "scale": entry.scale,
            "about": entry.about,
            "licence": entry.licence,
            "here": (zoo.cache_folder() / entry.file).is_file(),
        }
        for entry in zoo.ENTRIES
    ]
    lines = [f"{'*' if r['here'] else ' '} {r['name']:<24} {r['scale']}x  {r['about']} ({r['licence']})" for r in rows]
    _tell(args, {"command": "models list", "models": rows}, "\n".join([*lines, "* is here already"]))


def _models_get(args: argparse.Namespace) -> None:
    from ..models import zoo

    file = zoo.get(args.name, Path(args.to) if args.to else None)
    _tell(args, {"command": "models get", "name": args.name, "file": str(file)}, str(file))


def _native_build(args: argparse.Namespace) -> None:
    from ..models import native

    library = native.build()
    _tell(args, {"command": "native build", "library": str(library)}, str(library))


def _native_info(args: argparse.Namespace) -> None:
    from ..models import native

    facts = native.describe()
    _tell(args, {"command": "native info", **facts}, "\n".join(f"{k}: {v}" for k, v in facts.items()))


_COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "upscale": _upscale,
    "stabilize": _stabilize,
    "enhance": _enhance,
    "info": _info,
    "models list": _models_list,
    "models get": _models_get,
    "native build": _native_build,
    "native info": _native_info,
}


# --- parts of commands


def _open(args: argparse.Namespace) -> tuple[float, Clip]:
    """The moment of the start, and the source; a name that cannot be written to fails here rather than hours later."""
    begun = time.monotonic()
    check_target(args.output, encoding=_encoding(args), source=args.input)
    return begun, open_clip(args.input, fps=args.fps, max_pixels=args.max_pixels)


def _enlarged(
    args: argparse.Namespace, bars: ProgressBars, clip: Clip, tally: Tally
) -> tuple[Iterator[Frames], ClipInfo]:
    """The clip's frames through the network that the arguments name, and what the result is."""
    from ..models import load_upscaler, zoo
    from .finish import Colour, Finish
    from .upscale import Target, upscale

    network = load_upscaler(zoo.find(args.model))
    target = Target(factor=args.scale, size=args.size)
    source = bars.watch(clip.frames(), "upscaling", clip.info.length)
    frames = upscale(
        source,
        network,
        target=target,
        device=_device(args),
        reuse=Reuse(on=not args.no_reuse, threshold=args.repeat_threshold),
        finish=Finish(args.strength, Colour(args.colour), args.grain, args.linear_light),
        tally=tally,
    )
    return frames, clip.info.resized(*target.of(clip.info.width, clip.info.height, network.scale))


def _steadied(
    args: argparse.Namespace, bars: ProgressBars, clip: Clip, frames: Iterator[Frames], factor: float
) -> Iterator[Frames]:
    """Measure the clip's motion, and warp `frames`, which are the clip's own enlarged by `factor`."""
    from .crop import limit_zoom
    from .flow import FlowMethod, flow_model
    from .motion import estimate_motion
    from .smooth import Smoothing, smooth
    from .trajectory import Trajectory, correction
    from .warp import Border, warp

    device = _device(args)
    flow, border = flow_model(FlowMethod(args.flow), device), Border(args.border)
    measured = Trajectory.of(estimate_motion(bars.watching(clip, "measuring"), flow))
    fix = correction(measured, smooth(measured, Smoothing(args.smoothing), args.seconds, max_zoom=args.max_zoom))
    if border in (Border.CROP, Border.CROP_ADAPTIVE):
        fix = limit_zoom(fix, args.max_zoom)
    for warped in warp(frames, fix.scaled(factor), border, device=device):
        yield warped.frames


def _write(
    args: argparse.Namespace,
    begun: float,
    bars: ProgressBars,
    clip: Clip,
    frames: Iterator[Frames],
    info: ClipInfo,
    tally: Tally | None = None,
) -> None:
    """The end of every stream: the file, and the report on it."""
    written = write_clip(args.output, frames, info, encoding=_encoding(args), source=args.input, bits=args.bits)
    # What a reader of the result finds, not what we hoped: this also proves that it can be read.
    result = open_clip(args.output, fps=info.fps, max_pixels=media.NO_LIMIT).info
    seconds = time.monotonic() - begun
    report = {
        "command": args.command,
        "input": str(args.input),
        "output": str(args.output),
        "frames_in": bars.passed["stabilising" if args.command == "stabilize" else "upscaling"],
        "frames_out": written,
        **_facts(result),
        "seconds": round(seconds, 3),
        "peak_memory_mb": peak_memory_mb(),
        "device": str(_device(args)),
        **(counted(tally) if tally else {}),
    }
    size = f"{result.width}x{result.height} at {float(result.fps):g} fps"
    _tell(
        args,
        report,
        f"{args.output}: {written} frames, {size}, in {seconds:.1f} s on {report['device']}{spared(tally)}",
    )


def _facts(info: ClipInfo) -> dict[str, object]:
    return {"width": info.width, "height": info.height, "fps": round(float(info.fps), 6)}


def _device(args: argparse.Namespace) -> torch.device:
    if args.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise ClipError("there is no CUDA device here, or this build of torch does not know it; use --device cpu")
    return torch.device(args.device)


def _encoding(args: argparse.Namespace) -> Encoding:
    return Encoding(args.codec, args.crf, args.preset, args.pixel_format)


# --- what is said, and how


def _tell(args: argparse.Namespace, report: dict[str, object], text: str) -> None:
    if args.json:
        sys.stdout.write(json.dumps(report) + "\n")
    elif not args.quiet:
        sys.stdout.write(text + "\n")


def _one_line(error: Exception) -> str:
    from ..models import WeightsError

    text = " ".join(str(error).split())
    if isinstance(error, (ClipError, WeightsError)):
        return text
    return f"{type(error).__name__}: {text or 'no more is known'} (--debug shows where)"


class _ToStderr(logging.Handler):
    """Looks stderr up at each line: while a progress bar is shown, stderr is the bar's."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(f"steadyscale: {record.getMessage()}\n")


@contextmanager
def _log_on_stderr(args: argparse.Namespace) -> Iterator[None]:
    log, handler = logging.getLogger(__name__.split(".")[0]), _ToStderr()
    handler.setLevel(logging.ERROR if args.quiet else logging.DEBUG if args.debug else logging.WARNING)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Being told to end (SIGTERM) cleans up as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not in the main thread, where signals do not arrive
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
