"""The command `steadyscale train-smoother`."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..arg_types import integer, positive_int
from ..console import print_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="OUT", help="a .safetensors file, for `steadyscale stabilize --smoother`")
    parser.add_argument(
        "--steps", type=positive_int, default=300, help="training steps of each of the two networks (default 300)"
    )
    parser.add_argument("--seed", type=integer, default=0, help="random seed (default 0)")
    parser.add_argument(
        "--path",
        action="append",
        default=[],
        metavar="FILE",
        help="a measured motion or trajectory (.json) to train on beside synthetic paths; repeatable",
    )


def run(args: argparse.Namespace) -> None:
    from ...core.runtime.threads.torch_threads import one_thread
    from ...core.training import PathTrainConfig, train_path_net
    from ..training_progress import show_path_progress

    settings = PathTrainConfig(steps=args.steps, seed=args.seed, paths=[Path(file) for file in args.path])
    with one_thread():  # faster for networks this small, and reproducible
        last = [
            report.losses for report in show_path_progress(train_path_net(settings, Path(args.output)), args.quiet)
        ][-1]
    print_report(args, {"command": "train-smoother", "output": args.output, "losses": last}, args.output)
