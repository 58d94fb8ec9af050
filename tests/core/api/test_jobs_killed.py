"""A job of which any step is killed at any moment gives the same result when the step is repeated."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from job_run import has_same_content, start_process
from kills import count_operations, kill_at_byte, kill_at_operation
from numbered_video import make_video
from safetensors.torch import save_file
from steadyscale.core import Encoding, StabilizeSettings
from steadyscale.core.api import join_job, measure_job, plan_job, run_shard
from steadyscale.models import SRVGGConfig, SRVGGNetCompact

pytestmark = pytest.mark.skipif(os.name == "nt", reason="kills by signals")

FRAMES, PIECES = 12, 4
PIECE_SECONDS = FRAMES / PIECES / 24
STABILIZATION = StabilizeSettings(seconds=0.5, max_zoom=1.5)
SMALLEST_PART = 1500  # bytes; every part is larger


def plan(source: Path, weights: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    plan_job(
        source,
        folder.with_name("out.mkv"),
        folder,
        model=weights,
        deflicker=0.2,
        stabilization=STABILIZATION,
        encoding=Encoding("ffv1"),
        device="cpu",
        segment_seconds=PIECE_SECONDS,
    )


def measure(source: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    measure_job(source, folder, stabilization=STABILIZATION, segment_seconds=PIECE_SECONDS)


def compute(folder: Path, timeout: float | None = None) -> None:
    """Compute all pieces; with a timeout, by claims."""
    torch.set_num_threads(1)
    run_shard(folder, claim=timeout is not None, claim_timeout=timeout or 0)


def join(folder: Path) -> None:
    join_job(folder, folder.with_name("out.mkv"))


def finish(folder: Path, reference: Path) -> None:
    """Compute what is missing and join; only the result is left, with the content of `reference`."""
    run_shard(folder)
    join(folder)
    assert has_same_content(folder.with_name("out.mkv"), reference)
    assert [path.name for path in folder.parent.iterdir()] == ["out.mkv"]


def node(folder: Path) -> None:
    """A process group of two workers."""
    os.setsid()
    workers = [start_process(compute, folder, 60.0) for _ in range(2)]
    for worker in workers:
        worker.join()


@dataclass(frozen=True)
class KilledJob:
    """A job, its folder after each step, and the number of operations on files in each step."""

    source: Path
    weights: Path
    planned: Path
    computed: Path
    result: Path
    operations: dict[str, int]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> KilledJob:
    folder = tmp_path_factory.mktemp("job")
    source = make_video(folder / "in.mp4", FRAMES, audio_start=0.1, options={"g": "4", "keyint_min": "4"})
    torch.manual_seed(0)
    weights = folder / "net.safetensors"
    save_file(SRVGGNetCompact(SRVGGConfig(features=4, convs=1, scale=2)).state_dict(), weights)
    work, planned, computed = (folder / name / "job" for name in ("work", "planned", "computed"))
    work.parent.mkdir()
    operations = {"measure": count_operations(measure, source, work, folder=work)}
    shutil.rmtree(work)
    operations |= {"plan": count_operations(plan, source, weights, work, folder=work)}
    shutil.copytree(work, planned)
    operations["shard"] = count_operations(compute, work, folder=work)
    shutil.copytree(work, computed)
    assert min(part.stat().st_size for part in computed.glob("parts/*.mkv")) > SMALLEST_PART
    operations["join"] = count_operations(join, work, folder=work.parent)
    assert [path.name for path in work.parent.iterdir()] == ["out.mkv"]
    return KilledJob(source, weights, planned, computed, work.with_name("out.mkv"), operations)


def moments(count: int, quick: int, seed: int) -> list:
    """Numbers in [0, 1), of which all but some are for slow runs."""
    generator = random.Random(seed)
    numbers = [round(generator.random(), 3) for _ in range(count)]
    return [*numbers[:quick], *(pytest.param(number, marks=pytest.mark.slow) for number in numbers[quick:])]


@pytest.mark.parametrize("moment", moments(14, 2, seed=1))
def test_a_shard_is_killed_before_any_operation_on_a_file(moment: float, job: KilledJob, tmp_path: Path):
    folder = Path(shutil.copytree(job.planned, tmp_path / "job"))
    kill_at_operation(1 + int(moment * job.operations["shard"]), compute, folder, folder=folder)
    finish(folder, job.result)


@pytest.mark.parametrize("moment", moments(6, 1, seed=2))
def test_a_shard_is_killed_at_any_byte_of_a_part(moment: float, job: KilledJob, tmp_path: Path):
    folder = Path(shutil.copytree(job.planned, tmp_path / "job"))
    kill_at_byte(int(moment * SMALLEST_PART), compute, folder)
    finish(folder, job.result)


@pytest.mark.parametrize("moment", moments(4, 1, seed=5))
def test_measuring_is_killed_before_any_operation_on_a_file(moment: float, job: KilledJob, tmp_path: Path):
    folder = tmp_path / "job"
    kill_at_operation(1 + int(moment * job.operations["measure"]), measure, job.source, folder, folder=folder)
    measure(job.source, folder)
    plan(job.source, job.weights, folder)
    finish(folder, job.result)


@pytest.mark.parametrize("moment", moments(10, 2, seed=3))
def test_the_plan_is_killed_before_any_operation_on_a_file(moment: float, job: KilledJob, tmp_path: Path):
    folder = tmp_path / "job"
    number = 1 + int(moment * job.operations["plan"])
    kill_at_operation(number, plan, job.source, job.weights, folder, folder=folder)
    plan(job.source, job.weights, folder)
    finish(folder, job.result)


@pytest.mark.parametrize("moment", moments(10, 2, seed=4))
def test_the_join_is_killed_before_any_operation_on_a_file(moment: float, job: KilledJob, tmp_path: Path):
    folder = Path(shutil.copytree(job.computed, tmp_path / "job"))
    kill_at_operation(1 + int(moment * job.operations["join"]), join, folder, folder=tmp_path)
    if any(folder.iterdir()):  # else all was done but to remove the folder
        join(folder)
    assert has_same_content(tmp_path / "out.mkv", job.result)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["out.mkv"]


def test_a_node_with_two_claimants_is_killed_and_its_claims_expire(job: KilledJob, tmp_path: Path):
    folder = Path(shutil.copytree(job.planned, tmp_path / "job"))
    group = start_process(node, folder)
    while not [*folder.glob("parts/*.json")]:
        assert group.is_alive()
        time.sleep(0.002)
    os.killpg(group.pid, signal.SIGKILL)
    group.join()
    compute(folder, timeout=0.3)
    finish(folder, job.result)
