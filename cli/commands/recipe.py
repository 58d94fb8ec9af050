"""The command `steadyscale recipe`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from ...core.api.processing import UPSCALE
from ...core.batch.recipes import JobCommands, kubernetes_manifest, slurm_script
from ...core.batch.tasks import OPERATIONS
from ...core.clip import ClipError
from ...core.runtime.device.device_names import AUTO
from ...core.storage.location import is_url, parse_location
from ...core.video.images.sequence_paths import is_image_sequence
from ..arg_types import positive_int
from ..console import print_report
from ..device_options import add_device_option
from ..operation_options import OperationSettings, add_operation_options, option_words

SLURM, KUBERNETES = "slurm", "k8s"
_KUBERNETES_OPTIONS = {"image": "steadyscale", "volume_claim": "clips", "mount": "/clips"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "scheduler",
        choices=(SLURM, KUBERNETES),
        metavar="slurm|k8s",
        help="print a script for sbatch, or a manifest of Kubernetes Jobs",
    )
    parser.add_argument("input", metavar="IN", help="a video file or URL, as named on the nodes of the cluster")
    parser.add_argument("output", metavar="OUT", help="a video file or URL, likewise")
    parser.add_argument(
        "--operation", choices=OPERATIONS, default="enhance", help="operation on the clip (default enhance)"
    )
    parser.add_argument(
        "--shards", type=positive_int, default=8, metavar="N", help="number of parallel tasks (default 8)"
    )
    parser.add_argument(
        "--job", metavar="DIR", help="job folder, on storage that all nodes share, or a URL (default OUT.job)"
    )
    parser.add_argument(
        "--cpus-per-task", type=positive_int, default=1, metavar="N", help="CPU cores per task (default 1)"
    )
    parser.add_argument("--gpus-per-task", type=positive_int, metavar="N", help="GPUs per task (default: none)")
    k8s = _KUBERNETES_OPTIONS
    parser.add_argument(
        "--image", metavar="NAME", help=f"k8s: the container, built with Containerfile (default {k8s['image']})"
    )
    parser.add_argument(
        "--volume-claim",
        metavar="NAME",
        help=f"k8s: the PersistentVolumeClaim with IN, OUT and the job (default {k8s['volume_claim']})",
    )
    parser.add_argument("--mount", metavar="PATH", help=f"k8s: where the volume is mounted (default {k8s['mount']})")
    parser.add_argument(
        "--secret",
        metavar="NAME",
        help="k8s: the Secret whose entries become environment variables, such as credentials",
    )
    add_device_option(parser)
    add_operation_options(parser, "enhance")


def run(args: argparse.Namespace) -> None:
    OperationSettings(args.operation, args).arguments({}, "")  # raises for what the operation lacks, or would refuse
    if is_image_sequence(Path(args.output)):
        raise ClipError(f"{args.output}: a job writes a video file; name one")
    chosen = {name: getattr(args, name) for name in _KUBERNETES_OPTIONS if getattr(args, name) is not None}
    if args.scheduler == KUBERNETES:
        options: dict[str, Any] = {**_KUBERNETES_OPTIONS, **chosen}
        commands = _commands(args, os.path.normpath)
        paths = [path for path in (commands.source, commands.target, commands.job) if not is_url(path)]
        if not paths:
            options["volume_claim"] = None
        for path in paths:
            if not Path(path).is_relative_to(options["mount"]):
                raise ClipError(f"{path}: this is outside the volume, which pods see at {options['mount']} (--mount)")
        text = kubernetes_manifest(commands, **options, secret=args.secret)
    elif chosen or args.secret is not None:
        chosen |= {} if args.secret is None else {"secret": args.secret}
        raise ClipError(f"--{min(chosen).replace('_', '-')} is for k8s only; SLURM runs the package of its nodes")
    else:
        text = slurm_script(_commands(args, os.path.abspath))
    print_report(args, {"command": "recipe", "scheduler": args.scheduler, "text": text}, text.rstrip("\n"))


def _commands(args: argparse.Namespace, path: Any) -> JobCommands:
    def place(name: str) -> str:
        return str(parse_location(name)) if is_url(name) else path(name)

    source, target = place(args.input), place(args.output)
    job = place(args.job) if args.job else f"{target}.job"
    words = ["steadyscale", args.operation, source, target, "--job", job]
    device = [] if args.device == AUTO else [f"--device={args.device}"]
    model = [] if args.model is None else [f"--model={args.model}"]
    options = [word for word in option_words(args.operation, args) if word not in model]
    planned = [*model, *device, *options]
    measure = [*words, "--measure", f"auto/{args.shards}", *planned]
    return JobCommands(
        source=source,
        target=target,
        job=job,
        measure=None if args.operation == UPSCALE else measure,
        plan=[*words, "--plan", *planned],
        shard=[*words, "--shard", f"auto/{args.shards}", *model, *device],
        join=[*words, "--join"],
        shards=args.shards,
        cpus=args.cpus_per_task,
        gpus=args.gpus_per_task or 0,
    )
