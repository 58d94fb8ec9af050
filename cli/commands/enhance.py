"""The command `steadyscale enhance`."""

from __future__ import annotations

import argparse

from ...core.clip import ClipError, same_shape
from ...core.pipeline.pipeline import Recipe
from ...core.upscaling.settings import Tally
from ..device_options import add_running
from ..io_options import add_ends, add_rate, add_writing, job_of, opened, write
from ..progress import ProgressBars
from ..stabilize_options import add_steadying, steadied_by
from ..upscale_options import add_enlarging, enlarged


def add_arguments(command: argparse.ArgumentParser) -> None:
    add_rate(command)
    add_writing(command)
    add_enlarging(command)
    add_steadying(command)
    add_ends(command)
    add_running(command)


def run(args: argparse.Namespace) -> None:
    with ProgressBars(args.quiet) as bars, job_of(args) as job:
        begun, clip = opened(args)
        tally = Tally()
        recipe = enlarged(args, Recipe(clip), tally)
        small, large = clip.info, recipe.info
        if not same_shape(small.size, large.size):
            raise ClipError(
                f"{large.width}x{large.height} has another shape than {small.width}x{small.height}, "
                "which would bend the measured motion; choose a size of the same shape, or --scale"
            )
        steady = steadied_by(args, bars, job, clip)
        write(args, begun, bars, job, recipe.then(steady), "upscaling", tally)
