"""The command `steadyscale upscale`."""

from __future__ import annotations

import argparse

from ...core.pipeline.pipeline import Recipe
from ...core.upscaling.settings import Tally
from ..device_options import add_running
from ..io_options import add_ends, add_rate, add_writing, job_of, opened, write
from ..progress import ProgressBars
from ..upscale_options import add_enlarging, enlarged


def add_arguments(command: argparse.ArgumentParser) -> None:
    add_rate(command)
    add_writing(command)
    add_enlarging(command)
    add_ends(command)
    add_running(command)


def run(args: argparse.Namespace) -> None:
    with ProgressBars(args.quiet) as bars, job_of(args) as job:
        begun, clip = opened(args)
        tally = Tally()
        write(args, begun, bars, job, enlarged(args, Recipe(clip), tally), "upscaling", tally)
