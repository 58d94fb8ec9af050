"""The command `steadyscale batch`."""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from ...core.batch.clip_list import read_clip_list
from ...core.batch.errors import prefix_path
from ...core.batch.run import BatchProgress, run_batch
from ...core.batch.tasks import OPERATIONS, ClipTask
from ...core.clip import ClipError
from ...core.runtime.device.device_names import resolve_devices
from ..arg_types import positive_float, positive_int
from ..console import print_report
from ..device_options import add_device_option
from ..operation_options import OperationSettings, add_operation_options
from ..progress import ProgressBars

if TYPE_CHECKING:
    from ...core.batch.executor import Executor

LIST_HELP = (
    "a folder, a pattern in quotes, a CSV (columns in, out and one for each setting) or JSON Lines (in, out, "
    "settings); or the URL of one of these, such as s3://bucket/films (extra cloud)"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("list", metavar="LIST", help=LIST_HELP)
    parser.add_argument(
        "--out",
        required=True,
        metavar="DIR",
        help="folder or URL for the results and results.jsonl, which has a line for each clip",
    )
    parser.add_argument(
        "--operation", choices=OPERATIONS, default="enhance", help="operation on each clip (default enhance)"
    )
    parser.add_argument(
        "--jobs",
        type=positive_int,
        metavar="N",
        help="clips at a time (default: one per device; with --executor ray: as many as the cluster can run)",
    )
    parser.add_argument(
        "--executor",
        choices=("local", "ray"),
        default="local",
        help="what runs the clips: worker processes of this machine, or actors on a Ray cluster (default local)",
    )
    parser.add_argument(
        "--ray-address", metavar="ADDRESS", help="address of the cluster (default: RAY_ADDRESS, or a local Ray)"
    )
    parser.add_argument(
        "--cpus-per-task",
        type=positive_int,
        metavar="N",
        help="CPU cores per clip (default: the cores of this machine divided by the jobs; with --executor ray: 1)",
    )
    parser.add_argument(
        "--gpus-per-task",
        type=positive_float,
        metavar="N",
        help="with --executor ray: GPUs per clip, or the fraction of one (default: none)",
    )
    parser.add_argument(
        "--shard-frames",
        type=positive_int,
        metavar="N",
        help="split longer clips into shards of about N frames, which run in parallel (default: no shards)",
    )
    add_device_option(parser)
    add_operation_options(parser, "enhance")
    parser.set_defaults(keeps=lambda _: True)


def run(args: argparse.Namespace) -> None:
    settings = OperationSettings(args.operation, args)
    clips = [
        ClipTask(clip.source, clip.target, args.operation, settings.arguments(clip.settings, clip.place))
        for clip in read_clip_list(args.list, args.out)
    ]
    with closing(make_executor(args)) as executor, ProgressBars(args.quiet) as bars:
        report = run_batch(
            clips, args.out, executor=executor, shard_frames=args.shard_frames, progress=_Display(bars).show
        )
    print_report(args, report.as_dict(), str(report))
    report.check()


def make_executor(args: argparse.Namespace) -> Executor:
    """The executor that the arguments choose."""
    if args.executor == "ray":
        from ...core.batch.ray_executor import RayExecutor

        return RayExecutor(
            args.jobs,
            cpus=args.cpus_per_task or 1,
            gpus=args.gpus_per_task or 0.0,
            address=args.ray_address,
            device=args.device,
        )
    if args.ray_address is not None or args.gpus_per_task is not None:
        option = "--ray-address" if args.ray_address is not None else "--gpus-per-task"
        raise ClipError(f"{option} is for --executor ray; on this machine, --device names the GPUs: cuda:0,cuda:1")
    from ...core.batch.local_executor import LocalExecutor

    devices = resolve_devices(args.device).split(",")
    jobs = args.jobs or len(devices)
    return LocalExecutor([devices[index % len(devices)] for index in range(jobs)], args.cpus_per_task)


class _Display:
    """A bar for all clips, and one for each clip that runs."""

    def __init__(self, bars: ProgressBars) -> None:
        self._bars = bars
        self._labels: dict[str, set[str]] = {}  # of the bars of each clip

    def show(self, progress: BatchProgress) -> None:
        source = progress.task.source
        self._bars.update("clips", progress.finished, progress.total)
        if (record := progress.record) is not None:
            for label in self._labels.pop(source, ()):
                self._bars.remove(label)
            outcome = record["error"] or f"{record['frames']} frames in {record['seconds']:.1f} s"
            self._bars.notify(f"{progress.finished} of {progress.total}: {prefix_path(record['out'], outcome)}")
        elif (clip := progress.progress) is not None and not clip.message:
            label = Path(source).name
            if (shard := progress.shard) is not None:
                label = f"{label} {shard.index + 1}/{shard.count}"
            self._labels.setdefault(source, set()).add(label)
            self._bars.update(label, clip.done, clip.total)
