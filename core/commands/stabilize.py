"""The command `steadyscale stabilize`."""

from __future__ import annotations

import argparse

from ..recipe import Recipe
from ..report import ProgressBars
from ..threads import one_thread
from ._steadying import add_steadying, steadied_by
from ._streams import add_ends, add_rate, add_writing, job_of, opened, write

ABOUT = "take the shake out of a clip"


def add_arguments(command: argparse.ArgumentParser) -> None:
    add_rate(command)
    add_writing(command)
    add_steadying(command)
    add_ends(command)


def run(args: argparse.Namespace) -> None:
    # OpenCV, the decoder and the encoder do the work: more threads of torch would only spin beside them.
    with ProgressBars(args.quiet) as bars, job_of(args) as job, one_thread():
        begun, clip = opened(args)
        steady = steadied_by(args, bars, job, clip)
        write(args, begun, bars, job, Recipe(clip).then(steady), "stabilising")
