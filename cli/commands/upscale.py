"""The command `steadyscale upscale`."""

from __future__ import annotations

import argparse

from ...core.pipeline.pipeline import Pipeline
from ...core.upscaling.settings import UpscaleStats
from ..device_options import add_inference_options
from ..io_options import add_encoding_options, add_fps_option, add_io_options, job_from_args, open_source, write_output
from ..progress import ProgressBars
from ..upscale_options import add_upscale_ops, add_upscale_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_fps_option(parser)
    add_encoding_options(parser)
    add_upscale_options(parser)
    add_io_options(parser)
    add_inference_options(parser)


def run(args: argparse.Namespace) -> None:
    with ProgressBars(args.quiet) as bars, job_from_args(args) as job:
        begun, clip = open_source(args)
        tally = UpscaleStats()
        write_output(args, begun, bars, job, add_upscale_ops(args, Pipeline(clip), tally), "upscaling", tally)
