"""The command `steadyscale train`."""

from __future__ import annotations

import argparse
from contextlib import closing
from typing import TYPE_CHECKING

from ..console import print_report, until_interrupted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...core.training import Scores, StepReport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="a TOML file; every setting has a default")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="override one setting; repeatable")
    parser.add_argument("--resume", action="store_true", help="resume from the newest checkpoint of the run")
    parser.set_defaults(keeps=lambda _: True)


def run(args: argparse.Namespace) -> None:
    from ...core.training import read_config, train
    from ...core.training.loop.distributed import read_rank
    from ..training_progress import show_progress

    config, is_main = read_config(args.config, args.set), read_rank() == 0
    last: StepReport | None = None
    with closing(train(config, resume=args.resume)) as reports:  # closing it early writes a checkpoint
        for report in show_progress(until_interrupted(reports, "--resume"), args.quiet or not is_main):
            last = report
    if not is_main:
        return  # The process of rank 0 writes the files and reports them.
    files = [str(file) for file in last.files] if last else []
    steps = last.step if last else 0
    scores: Mapping[int, Scores] = last.scores if last else {}
    psnr = {str(scale): round(score.psnr, 3) for scale, score in scores.items()}
    summary: dict[str, object] = {"command": "train", "folder": str(config.folder)}
    summary |= {"steps": steps, "files": files, "psnr": psnr}
    measured = ", ".join(f"{scale}x {score.psnr:.2f} dB, SSIM {score.ssim:.4f}" for scale, score in scores.items())
    lines = [*files, f"on data.validate: {measured}"] if measured else files
    print_report(args, summary, "\n".join(lines) or f"{config.folder}: nothing left to do")
