"""The command `steadyscale upscale`."""

from __future__ import annotations

import argparse

from ...core.api import upscale_video
from ..console import print_report
from ..device_options import add_inference_options
from ..io_options import add_encoding_options, add_fps_option, add_io_options, run_options
from ..job_options import add_job_options, is_step, run_step
from ..progress import ProgressBars
from ..unused_options import warn_of_unused_options
from ..upscale_options import add_upscale_options, upscale_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_fps_option(parser)
    add_upscale_options(parser)
    add_inference_options(parser)
    add_encoding_options(parser)
    add_io_options(parser)
    add_job_options(parser, is_stabilizing=False)


def run(args: argparse.Namespace) -> None:
    warn_of_unused_options(args)
    with ProgressBars(args.quiet) as bars:
        if is_step(args):
            settings = {"model": args.model, "upscaling": upscale_settings(args), "deflicker": args.temporal}
            run_step(args, bars, settings)
            return
        report = upscale_video(
            args.input,
            args.output,
            model=args.model,
            settings=upscale_settings(args),
            deflicker=args.temporal,
            **run_options(args, bars),
        )
        print_report(args, report.as_dict(), str(report))
