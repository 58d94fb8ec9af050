"""Options of commands that steady, and the stage that they become: motion is measured for it first."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..core.clip import Clip, ClipInfo
from ..core.motion.estimate import estimate_motion
from ..core.motion.flow import FlowMethod, flow_model
from ..core.motion.readout_time import with_rolling_shutter
from ..core.path.border import Border
from ..core.path.smooth import Smoother, Smoothing
from ..core.path.stabilize import plan_correction
from ..core.path.strength import AXIS_LABELS, Strength
from ..core.path.trajectory import Trajectory
from ..core.pipeline.warp_op import WarpOp
from .arg_types import add_enum_option, positive_float, readout_time, unit_float, zoom_factor
from .device_options import resolve_device
from .progress import ProgressBars

if TYPE_CHECKING:
    from ..core.jobs.folder import Job


def add_stabilize_options(parser: argparse.ArgumentParser) -> None:
    add_enum_option(parser, "--smoothing", Smoothing.KALMAN, "how the camera's path is smoothed")
    parser.add_argument("--seconds", type=positive_float, default=4.0, help="quicker swings are taken away (default 4)")
    add_enum_option(parser, "--border", Border.CROP, "what fills the places that the moved picture leaves")
    add_enum_option(parser, "--flow", FlowMethod.FARNEBACK, "how motion is measured")
    for axis, way in AXIS_LABELS.items():
        parser.add_argument(
            f"--keep-{axis}",
            type=unit_float,
            default=0.0,
            metavar="SHARE",
            help=f"of the shake {way}, from 0 to 1 (default 0)",
        )
    parser.add_argument("--horizon", type=unit_float, default=0.0, help="how level to keep it, from 0 to 1 (default 0)")
    parser.add_argument(
        "--rolling-shutter",
        type=readout_time,
        default="auto",
        metavar="auto|off|SHARE",
        help="straighten what a camera that exposes row by row has bent: auto finds out whether it does, off does not "
        "look, and a number is the share of the frame time from the first row to the last, from -1 to 1 (default auto)",
    )
    parser.add_argument("--max-zoom", type=zoom_factor, default=1.3, help="most that crop may enlarge (default 1.3)")


def build_warp_op(args: argparse.Namespace, bars: ProgressBars, job: Job | None, clip: Clip) -> WarpOp:
    """What takes the shake out of the clip, whose motion is measured for it, or was by an earlier run of the job."""
    device, border = resolve_device(args), Border(args.border)
    watched, flow = bars.track_clip(clip, "measuring"), flow_model(FlowMethod(args.flow), device)
    if job:
        from ..core.jobs.motion_cache import cached_motion

        motion = cached_motion(job, watched, flow, segment_seconds=args.segment_seconds)
    else:
        motion = estimate_motion(watched, flow)
    measured = Trajectory.of(with_rolling_shutter(motion, args.rolling_shutter))
    fix = plan_correction(
        measured,
        _select_smoother(args, measured.info),
        args.seconds,
        border=border,
        max_zoom=args.max_zoom,
        strength=Strength(**{axis: 1 - getattr(args, f"keep_{axis}") for axis in AXIS_LABELS}),
        horizon=args.horizon,
    )
    return WarpOp(fix, border, device=device)


def _select_smoother(args: argparse.Namespace, info: ClipInfo) -> Smoothing | Smoother:
    """The smoother that the arguments name, for frames of the size that motion was measured on."""
    method = Smoothing(args.smoothing)
    if method is not Smoothing.LEARNED:
        return method
    from ..models import load_path_smoother

    cropped = Border(args.border) in (Border.CROP, Border.CROP_ADAPTIVE)
    return load_path_smoother().make_smoother(info.width, info.height, args.max_zoom if cropped else None)
