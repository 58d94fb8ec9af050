"""The command `steadyscale bench`."""

from __future__ import annotations

import argparse

from ...core.upscaling.settings import Precision, Tiling
from ..arg_types import count, size
from ..console import tell
from ..device_options import add_device, add_running, chosen_device
from ..progress import ProgressBars


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL", help="a weight file, or a name from `steadyscale models list`")
    command.add_argument("--size", type=size, default=(640, 360), metavar="WxH", help="of its frames (default 640x360)")
    command.add_argument("--frames", type=count, default=8, help="how many are measured (default 8)")
    add_device(command)
    add_running(command)


def run(args: argparse.Namespace) -> None:
    from ...core.upscaling.benchmark import footage, trial
    from ...models import load_upscaler
    from ...models.zoo import zoo

    network = load_upscaler(zoo.find(args.model))
    with ProgressBars(args.quiet) as bars:
        width, height = args.size
        frames = bars.watch(footage(width, height, args.frames + 1), "measuring", args.frames + 1)
        found = trial(
            frames,
            network,
            tiling=Tiling(args.tile),
            precision=Precision(args.precision),
            device=chosen_device(args),
            compile_network=args.compile,
        )
    tell(args, {"command": "bench", **found.facts()}, str(found))
