"""The command `steadyscale stabilize`."""

from __future__ import annotations

import argparse

from ...core.api import stabilize_video
from ..console import print_report
from ..io_options import add_encoding_options, add_fps_option, add_io_options, run_options
from ..progress import ProgressBars
from ..stabilize_options import add_stabilize_options, stabilize_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_fps_option(parser)
    add_encoding_options(parser)
    add_stabilize_options(parser)
    add_io_options(parser)


def run(args: argparse.Namespace) -> None:
    with ProgressBars(args.quiet) as bars:
        report = stabilize_video(args.input, args.output, settings=stabilize_settings(args), **run_options(args, bars))
        print_report(args, report.as_dict(), str(report))
