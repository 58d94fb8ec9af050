"""Scripts that run one clip as a job on a cluster: plan, shards, join."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class JobCommands:
    """The commands of the three steps of a job.

    source, target, job: paths of the clip, its result and the folder of the job. plan, shard, join: words of the
    commands; the shard finds its number in the environment. shards: how many. cpus, gpus: for each step that computes;
    the join copies packets and takes one core.
    """

    source: str
    target: str
    job: str
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
    resources = f"--cpus-per-task={job.cpus}" + (f" --gpus-per-task={job.gpus}" if job.gpus else "")

    def submit(step: str, options: str, words: Sequence[str]) -> str:
        return f"sbatch --parsable --job-name={name}-{step} {options} --wrap={shlex.quote(shlex.join(words))}"

    shard_options = f"--dependency=afterok:$plan --array=0-{job.shards - 1} --requeue {resources}"
    return f"""#!/bin/bash
# Submits the job {job.name} in three steps. Partition, account and time limit are those of the environment:
# SBATCH_PARTITION, SBATCH_ACCOUNT, SBATCH_TIMELIMIT. After a failure, run it again: finished pieces are kept.
set -euo pipefail

plan=$({submit("plan", f"--requeue {resources}", job.plan)})
shards=$({submit("shards", shard_options, job.shard)})
join=$({submit("join", "--dependency=afterok:$shards --requeue --cpus-per-task=1", job.join)})
echo "$plan $shards $join"
"""


def kubernetes_manifest(job: JobCommands, *, image: str, volume_claim: str, mount: str) -> str:
    """A manifest of three Kubernetes Jobs, of which the shards are an Indexed Job.

    The shards and the join are suspended; the commands in its first lines resume them one after the other.
    image: of the container, whose entry point is `steadyscale`; see Containerfile. volume_claim: a
    PersistentVolumeClaim that several pods can mount, at the path `mount`, with the clip and its job.
    """
    name = kubernetes_name(job.name)
    file = f"{name}.yaml"
    resume = """--type=merge --patch='{"spec":{"suspend":false}}'"""
    commands = [
        f"kubectl apply -f {file}",
        *(
            f"kubectl wait --for=condition=complete --timeout=-1s job/{name}-{before} && "
            f"kubectl patch job/{name}-{after} {resume}"
            for before, after in (("plan", "shards"), ("shards", "join"))
        ),
    ]

    def manifest(step: str, spec: str, words: Sequence[str], cpus: int, gpus: int) -> str:
        limits = {"cpu": str(cpus), **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
        return f"""---
apiVersion: batch/v1
kind: Job
metadata:
  name: {name}-{step}
spec:
{spec}
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: steadyscale
          image: {json.dumps(image)}
          args: {json.dumps(list(words[1:]))}
          resources:
            limits: {json.dumps(limits)}
          volumeMounts:
            - name: clips
              mountPath: {json.dumps(mount)}
      volumes:
        - name: clips
          persistentVolumeClaim:
            claimName: {json.dumps(volume_claim)}
"""

    shards = (
        f"  suspend: true\n  completionMode: Indexed\n  completions: {job.shards}\n  parallelism: {job.shards}\n"
        "  backoffLimitPerIndex: 3"
    )
    return "".join([
        "# Save this as ", file, ". A step starts when the one before it is complete:\n",
        *(f"#   {command}\n" for command in commands),
        manifest("plan", "  backoffLimit: 3", job.plan, job.cpus, job.gpus),
        manifest("shards", shards, job.shard, job.cpus, job.gpus),
        manifest("join", "  suspend: true\n  backoffLimit: 3", job.join, 1, 0),
    ])  # fmt: skip


def kubernetes_name(text: str) -> str:
    """A name that Kubernetes accepts: lower-case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:40].strip("-") or "clip"
