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

AXIS_NAMES = {"x": "horizontal", "y": "vertical"}  # of those whose option is a letter


def add_stabilize_options(parser: argparse.ArgumentParser) -> None:
    """Add the options; their defaults are those of `StabilizeSettings`."""
    settings, group = StabilizeSettings(), parser.add_argument_group("stabilization")
    add_enum_option(group, "--smoothing", Smoothing(settings.smoothing), "smoother of the camera path")
    parser.set_defaults(smoothing=None)  # With --smoother, it matters whether one is given.
    group.add_argument(
        "--seconds",
        type=positive_float,
        default=settings.seconds,
        help=f"period of the smoother; faster motion is removed (default {settings.seconds:g})",
    )
    add_enum_option(group, "--border", settings.border, "how to crop or fill the borders that the warp uncovers")
    add_enum_option(group, "--flow", settings.flow, "how to measure motion")
    for axis, strength in asdict(settings.strength).items():
        group.add_argument(
            f"--keep-{axis}",
            type=unit_float,
            default=1 - strength,
            metavar="SHARE",
            help=f"share of the {AXIS_NAMES.get(axis, axis)} shake to keep, from 0 to 1 (default {1 - strength:g})",
        )
    group.add_argument(
        "--horizon",
        type=unit_float,
        default=settings.horizon,
        help=f"horizon lock: how much to level the frame, from 0 to 1 (default {settings.horizon:g})",
    )
    group.add_argument(
        "--rolling-shutter",
        type=readout_time,
        default="auto",
        metavar="auto|off|SHARE",
        help="correct rolling shutter: auto estimates the readout time, off corrects nothing, and a number is the "
        "readout time as a share of the frame time, from -1 to 1 (default auto)",
    )
    group.add_argument(
        "--max-zoom",
        type=zoom_factor,
        default=settings.max_zoom,
        help=f"largest zoom of the crop borders (default {settings.max_zoom:g})",
    )
    group.add_argument(
        "--reference",
        type=whole_number,
        metavar="FRAME",
        help="with --smoothing locked: the frame, counted from 0, whose view to hold (default: the median view)",
    )
    group.add_argument(
        "--mask",
        metavar="FILE",
        help="white regions, people for example, are ignored when motion is measured: an image for all frames, or a "
        "video, folder or pattern with one mask per frame",
    )
    group.add_argument(
        "--bars",
        type=bars,
        default="auto",
        metavar="auto|none|L,T,R,B",
        help="letterbox and pillarbox bars, which stay in place: auto detects them, none stabilizes the whole frame, "
        "and four numbers are their sizes at the left, top, right and bottom in pixels (default auto)",
    )
    group.add_argument(
        "--smoother",
        metavar="FILE",
        help="weights from `steadyscale train-smoother`; implies --smoothing learned (default: the bundled ones)",
    )
    group.add_argument(
        "--keyframes",
        metavar="FILE",
        help="JSON or TOML list of times with the strength, the maximum zoom or the crop center from then on",
    )
    add_enum_option(
        group,
        "--mesh",
        settings.mesh,
        "mesh warp: auto uses it where the scene has depth or textures swim, and it leaves less shake",
    )
    group.add_argument(
        "--lens",
        type=lens,
        default="auto",
        metavar="auto|off|DEGREES|NAME",
        help="lens model, for wide lenses whose edges wobble: auto detects a fisheye, off assumes none, a number is "
        f"the horizontal field of view in degrees, and a name is one of {', '.join(LENSES)} (default auto)",
    )
    add_enum_option(
        group,
        "--telemetry",
        settings.telemetry,
        "gyroscope data in the file of an action camera: auto uses it if it correlates with the measured motion; needs "
        "the package telemetry-parser",
    )
    add_enum_option(
        group,
        "--hold",
        settings.hold,
        "what to stabilize: auto what covers most of the frame, background the far layer, foreground the near and "
        "central one, region the subject of --region, which implies it",
    )
    group.add_argument(
        "--region",
        metavar="X,Y,W,H[,FRAME]|FILE",
        help="the subject to hold: a box (left, top, width, height, in pixels of IN) in a frame (counted from 0, "
        "default 0), or a mask, white on the subject: an image for frame 0, or a video, folder or pattern with one "
        "mask per frame",
    )
    group.add_argument(
        "--hold-strength",
        type=unit_float,
        default=settings.hold_strength,
        metavar="SHARE",
        help=f"with --hold region: 0 holds the background, 1 the subject (default {settings.hold_strength:g})",
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
