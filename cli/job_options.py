"""Options of the steps of a job: measuring, plan, shards, join."""

from __future__ import annotations

import argparse
import os
from typing import Any

from ..core.api import ShardReport, VideoReport, join_job, measure_job, plan_job, run_shard
from ..core.clip import ClipError
from ..core.jobs.scheduler import scheduled_shard
from ..core.runtime.device.device_names import AUTO as DEVICE_AUTO
from .arg_types import positive_int
from .console import print_report
from .io_options import run_options
from .progress import ProgressBars

AUTO = "auto"
_STEP_ARGUMENTS = {
    *("measure", "plan", "shard", "claim", "join", "job", "input", "output", "model", "device", "resumable"),
    *("command", "json", "quiet", "debug", "keeps", "default_of"),
}


def add_job_options(parser: argparse.ArgumentParser, *, is_stabilizing: bool = True) -> None:
    steps = parser.add_argument_group("steps of a job, on one machine or many").add_mutually_exclusive_group()
    if is_stabilizing:
        steps.add_argument(
            "--measure",
            type=shard_number,
            metavar="I/N",
            help="only measure the motion of part I of N (I from 0), before --plan and with the same options; auto as "
            "for --shard. Without it, --plan measures all motion",
        )
    else:
        parser.set_defaults(measure=None)
    steps.add_argument("--plan", action="store_true", help="only plan the shards")
    steps.add_argument(
        "--shard",
        type=shard_number,
        metavar="I/N",
        help="only compute shard I of N (I from 0); auto reads both from the environment variables of SLURM or, with "
        "auto/N, of Kubernetes, and claims pieces where there are none",
    )
    steps.add_argument(
        "--claim",
        action="store_true",
        help="compute pieces that no other process has claimed, until all are finished",
    )
    steps.add_argument("--join", action="store_true", help="only write OUT, from the computed shards")
    parser.set_defaults(default_of=parser.get_default)


def shard_number(text: str) -> tuple[int | str, int | None]:
    """Parse INDEX/COUNT, or "auto" in place of the index, with or without a count."""
    index, slash, count = text.partition("/")
    if index == AUTO:
        return AUTO, positive_int(count) if slash else None
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise argparse.ArgumentTypeError(f"{text} is no shard; give I/N with I from 0 to N - 1, auto, or auto/N")
    return int(index), int(count)


def is_step(args: argparse.Namespace) -> bool:
    """Whether the command is one step of a job.

    Raises ClipError for a step without a job, and for options of the plan with another step.
    """
    step = next((name for name in ("measure", "plan", "shard", "claim", "join") if getattr(args, name)), None)
    if step is None:
        return False
    if not args.job:
        raise ClipError(f"--{step} is a step of a job; name its folder with --job")
    planned = [
        f"--{name.replace('_', '-')}"
        for name, value in vars(args).items()
        if name not in _STEP_ARGUMENTS and value != args.default_of(name)
    ]
    if step not in ("measure", "plan") and planned:
        what, them = ("an option", "it") if len(planned) == 1 else ("options", "them")
        raise ClipError(f"{', '.join(planned)}: {what} of the plan; give {them} to --plan, not to --{step}")
    if args.resumable:
        raise ClipError("--resumable does all steps of a job in one process; leave it out")
    return True


def run_step(args: argparse.Namespace, bars: ProgressBars, plan: dict[str, Any]) -> None:
    """Do the step that the arguments name, and print its report.

    plan: the arguments of `plan_job` that are not those of `run_options`.
    """
    options = run_options(args, bars)
    for name in ("bits", "resumable", "job"):
        options.pop(name)
    if args.measure:
        for name in ("encoding", "device"):
            options.pop(name)
        motion = {name: plan[name] for name in ("stabilization", "mask")}
        measured = measure_job(args.input, args.job, *(_scheduled(args.measure) or (0, 1)), **motion, **options)
        print_report(args, measured.as_dict(), str(measured))
        return
    if args.plan:
        made = plan_job(args.input, args.output, args.job, command=args.command, **plan, **options)
        document = {"command": args.command, "job": args.job, "frames": made.frame_count, "pieces": len(made.pieces)}
        print_report(args, document, f"{args.job}: {made.frame_count} frames in {len(made.pieces)} pieces")
        return
    _check_command(args)
    report = _join(args) if args.join else _compute(args, bars)
    print_report(args, report.as_dict(), str(report))


def _check_command(args: argparse.Namespace) -> None:
    """Raise ClipError where the job was planned by another command."""
    from ..core.jobs.join import read_join
    from ..core.jobs.state.job_plan import load_plan
    from ..core.jobs.state.layout import JobFolder

    folder = JobFolder(args.job)
    joined = read_join(folder)
    plan = load_plan(folder, is_needed=False) if joined is None else joined[0]
    if plan is not None and plan.command not in ("", args.command):  # without one, it is the job of --resumable
        raise ClipError(
            f"{args.job}: this job was planned by `steadyscale {plan.command}`, and this is `steadyscale "
            f"{args.command}`; use {plan.command} for all its steps, or plan a job of {args.command} in another folder"
        )


def _scheduled(number: tuple[int | str, int | None]) -> tuple[int, int] | None:
    """(index, count) of a share; None where it is "auto" and no scheduler states it."""
    index, count = number
    if isinstance(index, str):
        return scheduled_shard(os.environ, count)
    assert count is not None, "it is given with the index"
    return index, count


def _join(args: argparse.Namespace) -> VideoReport:
    return join_job(args.job, args.output, source=args.input)


def _compute(args: argparse.Namespace, bars: ProgressBars) -> ShardReport:
    chosen = None if args.claim else _scheduled(args.shard)
    index, count = chosen or (0, 1)
    return run_shard(
        args.job,
        index,
        count,
        claim=chosen is None,
        source=args.input,
        model=getattr(args, "model", None),
        device=None if args.device == DEVICE_AUTO else args.device,
        progress=bars.show,
    )
