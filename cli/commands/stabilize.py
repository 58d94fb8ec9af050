"""The command `steadyscale stabilize`."""

from __future__ import annotations

import argparse
import sys

from ...core.api import VideoReport, stabilize_live_video, stabilize_video
from ...core.api.live import LOOK_AHEAD, STDOUT
from ...core.clip import ClipError
from ..arg_types import whole_number
from ..console import deferred_interrupt, print_report
from ..io_options import add_encoding_options, add_fps_option, add_io_options, run_options
from ..job_options import add_job_options, is_step, run_step
from ..progress import ProgressBars
from ..stabilize_options import add_stabilize_options, stabilize_settings
from ..unused_options import warn_of_unused_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_fps_option(parser)
    add_stabilize_options(parser)
    _add_live_options(parser)
    add_encoding_options(parser)
    add_io_options(parser)
    add_job_options(parser)


def _add_live_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("live")
    group.add_argument(
        "--live",
        action="store_true",
        help="stabilize frames as they arrive, in one pass and without audio: IN may also be - (stdin) or a capture "
        "device such as /dev/video0, and OUT may be - (Y4M on stdout); Ctrl-C finishes the clip",
    )
    group.add_argument(
        "--lookahead",
        type=whole_number,
        default=LOOK_AHEAD,
        metavar="FRAMES",
        help=f"with --live: delay in frames; more is steadier (default {LOOK_AHEAD})",
    )


def run(args: argparse.Namespace) -> None:
    warn_of_unused_options(args)
    with ProgressBars(args.quiet) as bars:
        if is_step(args):
            if args.live:
                raise ClipError("--live reads its source once, so it has no steps; leave out --live")
            run_step(args, bars, {"stabilization": stabilize_settings(args), "mask": args.mask})
            return
        if args.live:
            report = _run_live(args, bars)
        else:
            settings = stabilize_settings(args)
            report = stabilize_video(
                args.input, args.output, settings=settings, mask=args.mask, **run_options(args, bars)
            )
        # Frames on stdout leave no place there for a report.
        stream = sys.stderr if args.live and args.output == STDOUT else sys.stdout
        print_report(args, report.as_dict(), str(report), stream)


def _run_live(args: argparse.Namespace, bars: ProgressBars) -> VideoReport:
    options = run_options(args, bars)
    if options.pop("resumable") or options.pop("job"):
        raise ClipError("--live reads its source once and cannot be resumed; leave out --resumable and --job")
    if args.mask is not None:
        raise ClipError("--live follows the whole frame; leave out --mask")
    if options.pop("hwaccel") != "none":
        raise ClipError("--live decodes on the CPU, without delay; leave out --hwaccel")
    for name in ("job", "fps", "segment_seconds"):
        options.pop(name, None)
    with deferred_interrupt("the clip ends here; once more stops at once, and writes nothing") as interrupted:
        return stabilize_live_video(
            args.input,
            args.output,
            settings=stabilize_settings(args),
            look_ahead=args.lookahead,
            stop=interrupted,
            **options,
        )
