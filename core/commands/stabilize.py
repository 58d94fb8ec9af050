"""The command `steadyscale stabilize`."""

from __future__ import annotations

import argparse
from contextlib import nullcontext

from ..recipe import Recipe
from ..report import ProgressBars
from ._steadying import add_steadying, steadied_by
from ._streams import add_ends, add_rate, add_writing, job_of, opened, write


def add_arguments(command: argparse.ArgumentParser) -> None:
    add_rate(command)
    add_writing(command)
    add_steadying(command)
    add_ends(command)


def run(args: argparse.Namespace) -> None:
    with ProgressBars(args.quiet) as bars, job_of(args) as job:
        begun, clip = opened(args)
        recipe = Recipe(clip).then(steadied_by(args, bars, job, clip))
        with nullcontext() if recipe.pictures() else _one_thread():
            write(args, begun, bars, job, recipe, "stabilising")


def _one_thread():
    """OpenCV, the decoder and the encoder do the work: more threads of torch would only spin beside them."""
    from ..threads import one_thread

    return one_thread()
