"""The words that the command `steadyscale` understands."""

from __future__ import annotations

import argparse
from enum import Enum
from fractions import Fraction

from .. import __version__
from . import compressing, media
from .axes import AXES
from .codecs import CODECS
from .damage import OnDamage
from .finish import Colour
from .flow import FlowMethod
from .precision import Precision
from .segments import SECONDS
from .smooth import Smoothing
from .temporal import STRENGTH
from .upscale import Alpha
from .warp import Border


def parser() -> argparse.ArgumentParser:
    """`command` of what it returns is the command's full name, such as 'upscale' or 'models list'."""
    program = argparse.ArgumentParser(prog="steadyscale", description="Sharper and steadier video.")
    program.add_argument("--version", action="version", version=f"steadyscale {__version__}")
    commands = program.add_subparsers(required=True, metavar="COMMAND")

    saying = argparse.ArgumentParser(add_help=False)
    saying.add_argument("--json", action="store_true", help="print one report object on stdout")
    saying.add_argument("--quiet", action="store_true", help="no progress, no warnings, no summary")
    saying.add_argument("--debug", action="store_true", help="log more, and show where an error came from")
    pictures = argparse.ArgumentParser(add_help=False)
    pictures.add_argument("--fps", type=_fps, default=Fraction(24), help="frames per second of pictures (default 24)")
    common = [saying, pictures, _writing()]

    up = _command(commands, "upscale", "enlarge a clip with a network", [*common, _enlarging()])
    steady = _command(commands, "stabilize", "take the shake out of a clip", [*common, _steadying()])
    both = _command(commands, "enhance", "stabilise and enlarge in one pass", [*common, _enlarging(), _steadying()])
    footage = "a video file, a folder of pictures, or a pattern such as frame_%%04d.png"
    for command in (up, steady, both):
        _device(command)
        _resuming(command)
        about = "at damaged frames of IN, stop, or keep what the decoder makes of them, repeat the rest, and count"
        _choice(command, "--on-damage", OnDamage.FAIL, about)
        command.add_argument("input", metavar="IN", help=footage)
        command.add_argument("output", metavar="OUT", help=f"{footage}; pictures are PNG")
    about = _command(commands, "info", "what a video, folder of pictures or weight file is", [saying, pictures])
    about.add_argument("file", metavar="FILE")

    train = _command(commands, "train", "train a network of your own", [saying])
    train.add_argument("config", metavar="CONFIG", help="a TOML file; every setting has a default")
    train.add_argument("--set", action="append", default=[], metavar="A.B=C", help="change one setting, repeatable")
    train.add_argument("--resume", action="store_true", help="go on from the newest checkpoint of the run")

    run = _command(commands, "run", "run a graph on a ComfyUI, with files of this machine", [saying])
    run.add_argument("workflow", metavar="WORKFLOW", help="a graph that ComfyUI's Export (API) wrote")
    run.add_argument("--server", required=True, metavar="URL", help="such as http://127.0.0.1:8188")
    about = "change one input, repeatable; NODE is an id, or the class or title of one node; files here are uploaded"
    run.add_argument("--set", action="append", default=[], metavar="NODE.INPUT=VALUE", help=about)
    run.add_argument("--output", default=".", metavar="FOLDER", help="where results go (default: here)")
    run.add_argument("--previews", action="store_true", help="fetch what preview nodes show, too")
    longest = "seconds after which it is stopped (default 86400, a day)"
    run.add_argument("--timeout", type=_above_zero, default=86400.0, metavar="S", help=longest)
    compress = _command(commands, "compress", "make a model smaller and faster, within a loss that you allow", [saying])
    compressing.add_arguments(compress)
    _device(compress)

    path = _command(commands, "train-smoother", "train the smoother of camera paths anew, on made paths", [saying])
    path.add_argument("output", metavar="OUT", help="a .safetensors file")
    path.add_argument("--steps", type=_count, default=300, help="of each of its two networks (default 300)")
    path.add_argument("--seed", type=int, default=0, help="decides everything that is drawn (default 0)")

    models = commands.add_parser("models", help="the weights that can be had by name")
    actions = models.add_subparsers(required=True, metavar="ACTION")
    _command(actions, "list", "list them", [saying])
    get = _command(actions, "get", "download one", [saying])
    get.add_argument("name", metavar="NAME")
    get.add_argument("--to", metavar="FOLDER", help="where to put it (default: the cache)")

    bench = _command(commands, "bench", "how fast a network is on this machine", [saying])
    bench.add_argument("model", metavar="MODEL", help="a weight file, or a name from `steadyscale models list`")
    bench.add_argument("--size", type=_size, default=(640, 360), metavar="WxH", help="of its frames (default 640x360)")
    bench.add_argument("--frames", type=_count, default=8, help="how many are measured (default 8)")
    _device(bench)
    for command in (up, both, bench):
        _running(command)

    native = commands.add_parser("native", help="the compiled engine that makes CPUs several times faster")
    parts = native.add_subparsers(required=True, metavar="ACTION")
    _command(parts, "build", "compile it for this machine; needs a C++ compiler", [saying])
    _command(parts, "info", "whether it is there, and what it would run on", [saying])
    return program


def _command(group, name: str, about: str, parents: list[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    command = group.add_parser(name, help=about, description=about, parents=parents, allow_abbrev=False)
    command.set_defaults(command=command.prog.removeprefix("steadyscale "))
    return command


def _writing() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--codec", choices=tuple(CODECS), help="default: what suits the file name's ending")
    options.add_argument("--crf", type=int, help="quality, lower is better and larger (default: as good as visible)")
    options.add_argument("--preset", help="the encoder's own word for speed against size")
    options.add_argument("--pixel-format", help="such as yuv420p10le (default: what plays everywhere)")
    options.add_argument("--bits", type=int, choices=(8, 16), default=8, help="per channel of PNG pictures")
    options.add_argument("--max-pixels", type=int, default=media.MAX_PIXELS, help="largest frame to accept, in pixels")
    return options


def _device(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU if one is there"
    )


def _resuming(command: argparse.ArgumentParser) -> None:
    about = "keep what is finished beside OUT, so that the same command goes on where a run was stopped or killed"
    command.add_argument("--resumable", action="store_true", help=about)
    command.add_argument("--job", metavar="FOLDER", help="the same, kept in this folder")
    command.add_argument(
        "--segment-seconds",
        type=_above_zero,
        default=SECONDS,
        metavar="S",
        help=f"how much of the clip a stopped run can lose at most (default {SECONDS:g})",
    )


def _running(command: argparse.ArgumentParser) -> None:
    """How a network is run; the defaults serve everybody."""
    _choice(command, "--precision", Precision.AUTO, "auto: the fastest that a self-check shows to be safe")
    command.add_argument(
        "--tile", type=_count, metavar="PIXELS", help="side of the pieces of a frame (default: by memory)"
    )
    command.add_argument("--compile", action="store_true", help="compile the network with torch: pays for long clips")


def _enlarging() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument(
        "--model",
        help="a weight file, or a name from `steadyscale models list` (default: steadyscale-2x, and steadyscale-4x "
        "above twice the size)",
    )
    size = options.add_mutually_exclusive_group()
    size.add_argument("--scale", type=_above_zero, help="times each side (default: the network's own scale)")
    size.add_argument("--size", type=_size, metavar="WxH", help="exactly this many pixels")
    options.add_argument(
        "--strength",
        type=_share,
        default=1.0,
        help="1: the network alone, 0: a plain resize, between: a blend (default 1)",
    )
    _choice(options, "--colour", Colour.NONE, "what of the source's colours to take back")
    _choice(options, "--alpha", Alpha.RESIZE, "how alpha is enlarged by networks that do not take it")
    options.add_argument("--grain", type=_share, default=0.0, help="film grain, from 0 to 1 (default 0)")
    options.add_argument("--linear-light", action="store_true", help="resize light, not stored values; slower")
    options.add_argument(
        "--temporal",
        type=_share,
        default=0.0,
        metavar="STRENGTH",
        help="take out flicker and crawling detail by blending each frame with the last result along the motion, "
        f"from 0 to 1 (default 0: none; {STRENGTH} suits most clips)",
    )
    same = options.add_mutually_exclusive_group()
    same.add_argument(
        "--repeat-threshold",
        type=_steps,
        default=0.0,
        metavar="STEPS",
        help="largest change of any pixel, in steps of 1/255, that counts as none (default 0: only what is identical)",
    )
    same.add_argument("--no-reuse", action="store_true", help="run the network on frames and tiles that did not change")
    return options


def _steadying() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    _choice(options, "--smoothing", Smoothing.KALMAN, "how the camera's path is smoothed")
    options.add_argument("--seconds", type=_above_zero, default=3.0, help="quicker swings are taken away (default 3)")
    _choice(options, "--border", Border.CROP, "what fills the places that the moved picture leaves")
    _choice(options, "--flow", FlowMethod.FARNEBACK, "how motion is measured")
    for axis, way in AXES.items():
        options.add_argument(
            f"--keep-{axis}",
            type=_share,
            default=0.0,
            metavar="SHARE",
            help=f"of the shake {way}, from 0 to 1 (default 0)",
        )
    options.add_argument("--horizon", type=_share, default=0.0, help="how level to keep it, from 0 to 1 (default 0)")
    options.add_argument(
        "--rolling-shutter",
        type=_readout,
        default="auto",
        metavar="auto|off|SHARE",
        help="straighten what a camera that exposes row by row has bent: auto finds out whether it does, off does not "
        "look, and a number is the share of the frame time from the first row to the last, from -1 to 1 (default auto)",
    )
    options.add_argument("--max-zoom", type=_zoom, default=1.3, help="most that crop may enlarge (default 1.3)")
    return options


def _choice(options: argparse.ArgumentParser, name: str, default: Enum, about: str) -> None:
    """An option whose choices are the members of an enum, by their values."""
    values = [member.value for member in type(default)]
    options.add_argument(name, choices=values, default=default.value, help=f"{about} (default {default.value})")


def _above_zero(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def _share(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return number


def _readout(text: str) -> float | None:
    """None where it is to be found out."""
    if text in ("auto", "off"):
        return None if text == "auto" else 0.0
    number = float(text)
    if not -1 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between -1 and 1")
    return number


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return int(text)


def _steps(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 255:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 255")
    return number


def _zoom(text: str) -> float:
    number = float(text)
    if not 1 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is below 1, which is no zoom at all")
    return number


def _fps(text: str) -> Fraction:
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if rate <= 0:
        raise argparse.ArgumentTypeError(f"{text} is no frame rate; give 25, 23.976 or 24000/1001")
    return rate


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text} is no size; give width x height, such as 1920x1080")
    return int(width), int(height)
