"""The command `steadyscale compress`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..arg_types import integer, number
from ..console import print_report
from ..device_options import add_device_option
from ..progress import ProgressBars

if TYPE_CHECKING:
    from ...core.compress import CompressReport, CompressSettings

# Those of CompressSettings, whose import would slow every command down; a test compares them.
DEFAULT_MAX_LOSS_DB = 0.3
DEFAULT_MIN_KEPT = 0.5
DEFAULT_STEPS = 2000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a weight file, or a name from `steadyscale models list`")
    parser.add_argument(
        "--calibrate",
        nargs="+",
        required=True,
        metavar="DATA",
        help="images, folders of images and videos; the last quarter of each is for evaluation, the rest for training",
    )
    parser.add_argument(
        "--output", required=True, metavar="FILE", help="a .safetensors file; ONNX graphs are written beside it"
    )
    parser.add_argument(
        "--prune", type=number, default=0.0, metavar="SHARE", help="fraction of the channels to remove, such as 0.5"
    )
    parser.add_argument("--separable", action="store_true", help="use depthwise-separable inner convolutions")
    parser.add_argument("--half", action="store_true", help="store weights as fp16")
    parser.add_argument("--onnx", action="store_true", help="also write an ONNX graph for any image size")
    parser.add_argument("--int8", action="store_true", help="also write an int8 ONNX graph")
    parser.add_argument(
        "--max-loss-db",
        type=number,
        default=DEFAULT_MAX_LOSS_DB,
        metavar="DB",
        help="largest loss of PSNR to the ground truth, where the original is better than bicubic "
        f"(default {DEFAULT_MAX_LOSS_DB:g})",
    )
    parser.add_argument(
        "--min-kept",
        type=number,
        default=DEFAULT_MIN_KEPT,
        metavar="SHARE",
        help="smallest share of the original's difference to bicubic that the result keeps "
        f"(default {DEFAULT_MIN_KEPT:g})",
    )
    parser.add_argument(
        "--no-gate", action="store_true", help="write the result even if it exceeds the limits, which are reported"
    )
    parser.add_argument(
        "--steps",
        type=integer,
        default=DEFAULT_STEPS,
        help=f"training steps after compression (default {DEFAULT_STEPS})",
    )
    parser.add_argument("--seed", type=integer, default=0, help="random seed (default 0)")
    add_device_option(parser)


def run(args: argparse.Namespace) -> None:
    """Compress a model.

    Raises CompressionError, after the table, if it loses too much quality.
    """
    from ...core.compress import (
        CompressionError,
        CompressSettings,
        format_table,
        format_verdicts,
        json_records,
        json_verdicts,
    )

    settings = CompressSettings(
        model=args.model,
        calibrate=tuple(args.calibrate),
        output=args.output,
        prune=args.prune,
        separable=args.separable,
        half=args.half,
        onnx=args.onnx,
        int8=args.int8,
        max_loss_db=args.max_loss_db,
        steps=args.steps,
        seed=args.seed,
        device=args.device,
        min_kept=args.min_kept,
        quality_gate=not args.no_gate,
    )
    last = _run_with_progress(settings, args.quiet)
    files = [str(file) for file in last.files]
    report: dict[str, object] = {"command": "compress", "model": settings.model, "files": files}
    report |= {
        "models": json_records(last.metrics),
        "verdicts": json_verdicts(last.verdicts),
        "max_loss_db": settings.max_loss_db,
        "refused": last.rejection or None,
    }
    print_report(args, report, "\n".join([format_table(last.metrics), format_verdicts(last.verdicts), *files]))
    if last.rejection:
        raise CompressionError(last.rejection)


def _run_with_progress(settings: CompressSettings, quiet: bool) -> CompressReport:
    """Run the compression with a progress bar per stage, and return the last report."""
    from ...core.compress import CompressReport, compress

    last = CompressReport("reading")
    with ProgressBars(quiet) as bars:
        for last in compress(settings):
            bars.update(last.stage, last.step, last.total or None)
    return last
