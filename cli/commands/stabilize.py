"""The command `steadyscale stabilize`."""

from __future__ import annotations

import argparse
from contextlib import ExitStack

from ...core.pipeline.pipeline import Pipeline
from ..io_options import (
    add_encoding_options,
    add_fps_option,
    add_io_options,
    job_from_args,
    needs_rgb,
    open_source,
    write_output,
)
from ..progress import ProgressBars
from ..stabilize_options import add_stabilize_options, build_warp_op


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_fps_option(parser)
    add_encoding_options(parser)
    add_stabilize_options(parser)
    add_io_options(parser)


def run(args: argparse.Namespace) -> None:
    with ProgressBars(args.quiet) as bars, job_from_args(args) as job:
        begun, clip = open_source(args)
        recipe = Pipeline(clip).then(build_warp_op(args, bars, job, clip))
        with ExitStack() as stack:
            if needs_rgb(args, recipe):
                from ...core.runtime.torch_threads import one_thread

                # OpenCV, the decoder and the encoder do the work: more threads of torch would only spin beside them.
                stack.enter_context(one_thread())
            write_output(args, begun, bars, job, recipe, "stabilising")
