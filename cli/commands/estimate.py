"""The command `steadyscale estimate`."""

from __future__ import annotations

import argparse
import tempfile

from ...core.batch.clip_list import read_clip_list
from ...core.batch.estimate import SAMPLE_FRAMES, Prices, estimate_batch
from ...core.batch.tasks import OPERATIONS, ClipTask
from ..arg_types import non_negative_float, positive_int
from ..console import print_report
from ..device_options import add_device_option
from ..operation_options import OperationSettings, add_operation_options
from .batch import LIST_HELP


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("lists", nargs="+", metavar="IN", help=f"a video file, or {LIST_HELP}")
    parser.add_argument(
        "--operation", choices=OPERATIONS, default="enhance", help="operation on each clip (default enhance)"
    )
    parser.add_argument(
        "--frames",
        type=positive_int,
        default=SAMPLE_FRAMES,
        metavar="N",
        help=f"frames of one clip that are processed to measure the speed (default {SAMPLE_FRAMES})",
    )
    parser.add_argument(
        "--rows",
        metavar="FILE",
        help="speed of the network on another machine, from `steadyscale bench --json` or bench/card.py",
    )
    parser.add_argument(
        "--workers", type=positive_int, default=1, metavar="N", help="number of parallel workers (default 1)"
    )
    for name, about in (("core-hour", "an hour of a CPU core"), ("gpu-hour", "an hour of a GPU"), ("gb", "10^9 bytes")):
        parser.add_argument(
            f"--price-{name}", type=non_negative_float, default=0.0, metavar="X", help=f"price of {about} (default 0)"
        )
    add_device_option(parser)
    add_operation_options(parser, "enhance")


def run(args: argparse.Namespace) -> None:
    settings = OperationSettings(args.operation, args)
    # The results' names are not used; no source may lie in their folder, where a list does not look for clips.
    clips = [
        clip for name in args.lists for clip in read_clip_list(name, tempfile.gettempdir() + "/steadyscale-estimate")
    ]
    report = estimate_batch(
        [
            ClipTask(clip.source, clip.target, args.operation, settings.arguments(clip.settings, clip.place))
            for clip in clips
        ],
        device=args.device,
        frames=args.frames,
        rows=args.rows,
        prices=Prices(args.price_core_hour, args.price_gpu_hour, args.price_gb),
        workers=args.workers,
    )
    print_report(args, report.as_dict(), str(report))
    report.check()
