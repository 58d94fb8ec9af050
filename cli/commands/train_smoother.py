"""The command `steadyscale train-smoother`."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..arg_types import count
from ..console import tell


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("output", metavar="OUT", help="a .safetensors file, for `load_path_smoother` in Python")
    command.add_argument("--steps", type=count, default=300, help="of each of its two networks (default 300)")
    command.add_argument("--seed", type=int, default=0, help="decides everything that is drawn (default 0)")


def run(args: argparse.Namespace) -> None:
    from ...core.runtime.torch_threads import one_thread
    from ...core.training import PathTraining, train_path_net
    from ..training_progress import shown_paths

    settings = PathTraining(steps=args.steps, seed=args.seed)
    with one_thread():  # networks this small only make more threads wait for each other
        last = [report.losses for report in shown_paths(train_path_net(settings, Path(args.output)), args.quiet)][-1]
    tell(args, {"command": "train-smoother", "output": args.output, "losses": last}, args.output)
