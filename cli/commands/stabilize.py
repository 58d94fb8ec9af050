"""The command `steadyscale stabilize`."""

from __future__ import annotations

import argparse
from contextlib import ExitStack

from ...core.pipeline.pipeline import Recipe
from ..io_options import add_ends, add_rate, add_writing, job_of, needs_rgb, opened, write
from ..progress import ProgressBars
from ..stabilize_options import add_steadying, steadied_by


def add_arguments(command: argparse.ArgumentParser) -> None:
    add_rate(command)
    add_writing(command)
    add_steadying(command)
    add_ends(command)


def run(args: argparse.Namespace) -> None:
    with ProgressBars(args.quiet) as bars, job_of(args) as job:
        begun, clip = opened(args)
        recipe = Recipe(clip).then(steadied_by(args, bars, job, clip))
        with ExitStack() as stack:
            if needs_rgb(args, recipe):
                from ...core.runtime.torch_threads import one_thread

                # OpenCV, the decoder and the encoder do the work: more threads of torch would only spin beside them.
                stack.enter_context(one_thread())
            write(args, begun, bars, job, recipe, "stabilising")
