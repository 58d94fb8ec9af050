"""Scripts for a job on a cluster: measuring, plan, shards, join."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path


@dataclass(frozen=True)
class JobCommands:
    """The commands of the steps of a job.

    source, target, job: paths or URLs of the clip, its result and the folder of the job. measure, plan, shard, join:
    words of the command of each step. measure: None without stabilization. `measure` and `shard` run `shards` times
    each, and read their number from the environment. cpus, gpus: for each step that computes; motion is measured on the
    CPU, and the join copies packets and takes one core.
    """

    source: str
    target: str
    job: str
    measure: Sequence[str] | None
    plan: Sequence[str]
    shard: Sequence[str]
    join: Sequence[str]
    shards: int
    cpus: int = 1
    gpus: int = 0

    @property
    def name(self) -> str:
        """The name of the result, without folder and suffix."""
        return Path(self.target).stem


def slurm_script(job: JobCommands) -> str:
    """A shell script that submits the steps to SLURM, each dependent on the last.

    It is run where `sbatch` is; the nodes need the package, and the folders of the clip under the same paths.
    """
    name = shlex.quote(job.name)
    cpus = f"--cpus-per-task={job.cpus}"
    resources = cpus + (f" --gpus-per-task={job.gpus}" if job.gpus else "")
    array = f"--array=0-{job.shards - 1} --requeue"

    def submit(step: str, options: str, words: Sequence[str]) -> str:
        return f"sbatch --parsable --job-name={name}-{step} {options} --wrap={shlex.quote(shlex.join(words))}"

    steps = [
        *([("measure", f"{array} {cpus}", job.measure)] if job.measure else []),
        ("plan", f"--requeue {resources}", job.plan),
        ("shards", f"{array} {resources}", job.shard),
        ("join", "--requeue --cpus-per-task=1", job.join),
    ]
    dependencies = ["", *(f"--dependency=afterok:${step} " for step, _, _ in steps)]
    commands = [
        f"{step}=$({submit(step, before + options, words)})"
        for before, (step, options, words) in zip(dependencies, steps, strict=False)
    ]
    lines, numbers = "\n".join(commands), " ".join(f"${step}" for step, _, _ in steps)
    return f"""#!/bin/bash
# Submits the steps of the job {job.name}. Partition, account and time limit are those of the environment:
# SBATCH_PARTITION, SBATCH_ACCOUNT, SBATCH_TIMELIMIT. After a failure, run it again: finished pieces are kept.
set -euo pipefail

{lines}
echo "{numbers}"
"""


def kubernetes_manifest(
    job: JobCommands, *, image: str, volume_claim: str | None, mount: str, secret: str | None = None
) -> str:
    """A manifest of Kubernetes Jobs, one for each step.

    Measuring and the shards are Indexed Jobs. All but the first are suspended; the commands in its first lines resume
    them one after the other.
    image: of the container, whose entry point is `steadyscale`; see Containerfile. volume_claim: a
    PersistentVolumeClaim that several pods can mount, at the path `mount`, with the clip and its job; None where these
    are in a store. secret: the Secret whose entries are environment variables of the pods, such as credentials.
    """
    name = kubernetes_name(job.name)
    file = f"{name}.yaml"
    steps = [*(["measure"] if job.measure else []), "plan", "shards", "join"]
    resume = """--type=merge --patch='{"spec":{"suspend":false}}'"""
    commands = [
        f"kubectl apply -f {file}",
        *(
            f"kubectl wait --for=condition=complete --timeout=-1s job/{name}-{before} && "
            f"kubectl patch job/{name}-{after} {resume}"
            for before, after in pairwise(steps)
        ),
    ]

    environment = f"""          envFrom:
            - secretRef:
                name: {json.dumps(secret)}
"""
    volume = f"""          volumeMounts:
            - name: clips
              mountPath: {json.dumps(mount)}
      volumes:
        - name: clips
          persistentVolumeClaim:
            claimName: {json.dumps(volume_claim)}
"""
    environment, volume = environment if secret else "", volume if volume_claim else ""

    def manifest(step: str, kind: str, words: Sequence[str], cpus: int, gpus: int) -> str:
        limits = {"cpu": str(cpus), **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
        return f"""---
apiVersion: batch/v1
kind: Job
metadata:
  name: {name}-{step}
spec:
{"" if step == steps[0] else suspended}{kind}
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: steadyscale
          image: {json.dumps(image)}
          args: {json.dumps(list(words[1:]))}
          resources:
            limits: {json.dumps(limits)}
{environment}{volume}"""

    suspended, once = "  suspend: true\n", "  backoffLimit: 3"
    indexed = (
        f"  completionMode: Indexed\n  completions: {job.shards}\n  parallelism: {job.shards}\n"
        "  backoffLimitPerIndex: 3"
    )
    return "".join([
        "# Save this as ", file, ". A step starts when the one before it is complete:\n",
        *(f"#   {command}\n" for command in commands),
        manifest("measure", indexed, job.measure, job.cpus, 0) if job.measure else "",
        manifest("plan", once, job.plan, job.cpus, job.gpus),
        manifest("shards", indexed, job.shard, job.cpus, job.gpus),
        manifest("join", once, job.join, 1, 0),
    ])  # fmt: skip


def kubernetes_name(text: str) -> str:
    """A name that Kubernetes accepts: lower-case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:40].strip("-") or "clip"
