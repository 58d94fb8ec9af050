"""The command `steadyscale compress`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..console import tell
from ..device_options import add_device
from ..progress import ProgressBars

if TYPE_CHECKING:
    from ...core.compress import Report, Settings

MAX_LOSS_DB, STEPS = 0.3, 2000  # as in compress.Settings, which would take its time to import for every command


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL", help="a weight file, or a name from `steadyscale models list`")
    command.add_argument(
        "--calibrate",
        nargs="+",
        required=True,
        metavar="DATA",
        help="pictures, folders of them, videos: most to learn from, the last quarter to be judged by",
    )
    command.add_argument("--output", required=True, metavar="FILE", help=".safetensors; graphs lie beside it")
    command.add_argument(
        "--prune", type=float, default=0.0, metavar="SHARE", help="of the channels to take out, such as 0.5"
    )
    command.add_argument("--separable", action="store_true", help="split inner convolutions: depthwise, then pointwise")
    command.add_argument("--half", action="store_true", help="store weights in 16 bits")
    command.add_argument("--onnx", action="store_true", help="write an ONNX graph for any picture size, too")
    command.add_argument("--int8", action="store_true", help="write an ONNX graph of 8-bit integers, too")
    command.add_argument(
        "--max-loss-db",
        type=float,
        default=MAX_LOSS_DB,
        metavar="DB",
        help=f"of PSNR; nothing is written that loses more (default {MAX_LOSS_DB:g})",
    )
    command.add_argument("--steps", type=int, default=STEPS, help=f"of training afterwards (default {STEPS})")
    command.add_argument("--seed", type=int, default=0, help="decides all that is drawn (default 0)")
    add_device(command)


def run(args: argparse.Namespace) -> None:
    """Compress as the arguments say. Raises CompressionError where the model loses too much, after the table."""
    from ...core.compress import CompressionError, Settings, facts, table

    settings = Settings(
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
    )
    last = _watched(settings, args.quiet)
    files = [str(file) for file in last.files]
    report: dict[str, object] = {"command": "compress", "model": settings.model, "files": files}
    report |= {"models": facts(last.figures), "max_loss_db": settings.max_loss_db, "refused": last.refused or None}
    tell(args, report, "\n".join([table(last.figures), *files]))
    if last.refused:
        raise CompressionError(last.refused)


def _watched(settings: Settings, quiet: bool) -> Report:
    """The last report; those before it move the bar of their stage."""
    from ...core.compress import Report, compress

    last = Report("reading")
    with ProgressBars(quiet) as bars:
        for last in compress(settings):
            bars.at(last.stage, last.done, last.of or None)
    return last
