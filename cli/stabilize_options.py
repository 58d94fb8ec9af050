"""Options of commands that stabilize, and the settings that they stand for."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from ..core.crop.border import Border
from ..core.hold import Hold, Region, RegionMask
from ..core.lens import LENSES
from ..core.motion.camera.telemetry import Telemetry
from ..core.motion.optical_flow.flow import FlowMethod
from ..core.smoothing.keyframes import read_keyframes
from ..core.smoothing.mesh_smooth import MeshWarp
from ..core.smoothing.smooth import Smoothing
from ..core.smoothing.strength import AXIS_LABELS, Strength
from ..core.stabilize import StabilizeSettings
from .arg_types import add_enum_option, bars, lens, positive_float, readout_time, unit_float, whole_number, zoom_factor


def add_stabilize_options(parser: argparse.ArgumentParser) -> None:
    """Add the options; their defaults are those of `StabilizeSettings`."""
    settings = StabilizeSettings()
    add_enum_option(parser, "--smoothing", Smoothing(settings.smoothing), "how the camera's path is smoothed")
    parser.set_defaults(smoothing=None)  # With --smoother, it matters whether one is given.
    parser.add_argument(
        "--seconds",
        type=positive_float,
        default=settings.seconds,
        help=f"quicker swings are taken away (default {settings.seconds:g})",
    )
    add_enum_option(parser, "--border", settings.border, "what fills the places that the moved frame leaves")
    add_enum_option(parser, "--flow", settings.flow, "how motion is measured")
    for axis, strength in asdict(settings.strength).items():
        parser.add_argument(
            f"--keep-{axis}",
            type=unit_float,
            default=1 - strength,
            metavar="SHARE",
            help=f"of the shake {AXIS_LABELS[axis]}, from 0 to 1 (default {1 - strength:g})",
        )
    parser.add_argument(
        "--horizon",
        type=unit_float,
        default=settings.horizon,
        help=f"how level to keep it, from 0 to 1 (default {settings.horizon:g})",
    )
    parser.add_argument(
        "--rolling-shutter",
        type=readout_time,
        default="auto",
        metavar="auto|off|SHARE",
        help="straighten what a camera that exposes row by row has bent: auto finds out whether it does, off does not "
        "look, and a number is the share of the frame time from the first row to the last, from -1 to 1 (default auto)",
    )
    parser.add_argument(
        "--max-zoom",
        type=zoom_factor,
        default=settings.max_zoom,
        help=f"most that crop may magnify (default {settings.max_zoom:g})",
    )

    parser.add_argument(
        "--reference",
        type=whole_number,
        metavar="FRAME",
        help="with --smoothing locked: the frame, counted from 0, whose view is held (default: a median view)",
    )
    parser.add_argument(
        "--mask",
        metavar="FILE",
        help="white is not looked at, people for instance: an image for all frames, or a video, folder or pattern with "
        "one mask for each",
    )
    parser.add_argument(
        "--bars",
        type=bars,
        default="auto",
        metavar="auto|none|L,T,R,B",
        help="black bars around the image, which stay in place: auto detects them, none moves them with the image, and "
        "four numbers are the pixels at the left, top, right and bottom (default auto)",
    )
    parser.add_argument(
        "--smoother",
        metavar="FILE",
        help="weights of the smoother learned, from `steadyscale train-smoother`; means --smoothing learned (default: "
        "the bundled ones)",
    )
    parser.add_argument(
        "--keyframes",
        metavar="FILE",
        help="JSON or TOML list of times with the strength, the largest zoom or the center of the crop from then on",
    )
    add_enum_option(
        parser,
        "--mesh",
        settings.mesh,
        "whether frames are bent by a mesh: auto where the scene has depth, or textures swim, and it leaves less shake",
    )
    parser.add_argument(
        "--lens",
        type=lens,
        default="auto",
        metavar="auto|off|DEGREES|NAME",
        help="turn the frames of a wide lens along rays, so that their edges do not wobble: auto detects a fisheye, "
        "off does not look, a number is the horizontal field of view in degrees, and a name is one of "
        f"{', '.join(LENSES)} (default auto)",
    )
    add_enum_option(
        parser,
        "--telemetry",
        settings.telemetry,
        "use the gyroscope in the file of an action camera: auto where it correlates with the frames; needs the "
        "package telemetry-parser",
    )
    add_enum_option(
        parser,
        "--hold",
        settings.hold,
        "what is held: auto what most of the frame shows, background the far layer, foreground the near and central "
        "one, region the subject of --region, which makes it the default",
    )
    parser.add_argument(
        "--region",
        metavar="X,Y,W,H[,FRAME]|FILE",
        help="the subject to hold, as a box (left, top, width, height, in pixels of the source) in a "
        "frame, counted from 0 (default 0), or as a mask, white on the subject: an image of frame 0, or a video, "
        "folder or pattern with one mask for each frame",
    )
    parser.add_argument(
        "--hold-strength",
        type=unit_float,
        default=settings.hold_strength,
        metavar="SHARE",
        help=f"with --hold region: from 0, the background, to 1, the subject (default {settings.hold_strength:g})",
    )


def stabilize_settings(args: argparse.Namespace) -> StabilizeSettings:
    """The settings that the arguments stand for."""
    default = Smoothing.LEARNED if args.smoother else StabilizeSettings().smoothing
    smoothing = default if args.smoothing is None else Smoothing(args.smoothing)
    hold = Hold(args.hold)
    if args.region is not None and hold is Hold.AUTO:
        hold = Hold.REGION
    return StabilizeSettings(
        smoothing=smoothing,
        seconds=args.seconds,
        border=Border(args.border),
        max_zoom=args.max_zoom,
        flow=FlowMethod(args.flow),
        strength=Strength(**{axis: 1 - getattr(args, f"keep_{axis}") for axis in AXIS_LABELS}),
        horizon=args.horizon,
        rolling_shutter=args.rolling_shutter,
        reference=args.reference,
        bars=args.bars,
        smoother=args.smoother,
        keyframes=read_keyframes(args.keyframes) if args.keyframes else (),
        mesh=MeshWarp(args.mesh),
        lens=args.lens,
        telemetry=Telemetry(args.telemetry),
        hold=hold,
        region=_read_region(args.region),
        hold_strength=args.hold_strength,
    )


def _read_region(text: str | None) -> Region | RegionMask | None:
    if text is None:
        return None
    from ..core.motion.held.masks import read_region  # imports torch

    return read_region(text)
