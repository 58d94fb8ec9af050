"""Tasks on Ray: the wiring with a fake of it, and the real one where it is installed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from job_run import frame_hashes
from numbered_video import make_video
from steadyscale.core import ClipError, open_clip, stabilize_video
from steadyscale.core.api import Progress
from steadyscale.core.batch import ray_executor
from steadyscale.core.batch.ray_executor import RayExecutor
from steadyscale.core.batch.run import run_batch
from steadyscale.core.batch.tasks import ClipTask, TaskResult
from video_file_checks import list_files

TASKS = [ClipTask(f"{number}.mp4", f"out-{number}.mp4", "upscale") for number in range(5)]


class ActorError(Exception):
    pass


class FakeRay:
    """Actors are objects of this process; each method call runs in a thread."""

    exceptions = SimpleNamespace(RayActorError=ActorError)

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.is_running, self.failed_starts = False, 0
        self._threads = ThreadPoolExecutor()

    def is_initialized(self) -> bool:
        return self.is_running

    def init(self, **options: Any) -> None:
        self.calls.append(("init", options["address"]))
        if self.failed_starts:
            self.failed_starts -= 1
            raise RuntimeError("no answer in 15 s")
        self.is_running = True

    def shutdown(self) -> None:
        self.is_running = False

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 6.0, "GPU": 1.0}

    def remote(self, **options: Any) -> Any:
        self.calls.append(("remote", options))

        def wrap(actor_class: Any) -> Any:
            def create(*arguments: Any) -> Any:
                self.calls.append(("actor", arguments))
                actor = actor_class(*arguments)

                class Handle:
                    def __getattr__(self, name: str) -> Any:
                        return SimpleNamespace(remote=lambda *a: fake._threads.submit(getattr(actor, name), *a))

                fake = self
                return Handle()

            return SimpleNamespace(remote=create)

        return wrap

    def wait(self, futures: list[Future[Any]], timeout: float) -> tuple[list[Any], list[Any]]:
        done, waiting = wait(futures, timeout)
        return list(done), list(waiting)

    def get(self, future: Future[Any]) -> Any:
        return future.result()

    def kill(self, actor: Any) -> None:
        self.calls.append(("kill", None))


@pytest.fixture
def fake_ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    fake = FakeRay()
    monkeypatch.setattr(ray_executor, "_import_ray", lambda: fake)
    monkeypatch.setattr(ray_executor, "limit_threads", lambda count: None)
    monkeypatch.setattr(ray_executor, "POLL_SECONDS", 0.01)
    return fake


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Replace what actors do with a task."""
    return lambda function: monkeypatch.setattr(ray_executor, "run_task", function)


def test_actors_take_tasks_and_report(fake_ray: FakeRay, run, caplog) -> None:
    def work(task, device, progress):
        progress(Progress("upscaling", 3, 9))
        ray_executor.log.warning("the colors were reduced")
        return TaskResult(frames=int(task.source[0]), error=device)

    run(work)
    seen: list[Progress] = []
    with closing(RayExecutor(2, cpus=3, gpus=0.5, address="auto", device="cuda")) as executor:
        results = [f.result(timeout=20) for f in [executor.submit(task, seen.append) for task in TASKS]]
        assert executor.slots == 2
    assert results == [TaskResult("cuda", number) for number in range(5)]
    assert seen == [Progress("upscaling", 3, 9)] * 5
    assert caplog.text.count("0.mp4: the colors were reduced") >= 1
    assert fake_ray.calls[:2] == [
        ("init", "auto"),
        ("remote", {"num_cpus": 3, "num_gpus": 0.5, "max_restarts": 0, "max_concurrency": 3}),
    ]
    assert {call for call in fake_ray.calls if call[0] == "actor"} == {("actor", ("cuda", 3))}
    assert not fake_ray.is_running


def test_a_dead_actor_is_replaced_and_a_poisonous_task_named(fake_ray: FakeRay, run) -> None:
    attempts: list[str] = []

    def work(task, device, progress):
        attempts.append(task.source)
        if task.source == "1.mp4" or (task.source == "0.mp4" and len(attempts) == 1):
            raise ActorError("the actor died")
        return TaskResult(frames=1)

    run(work)
    with closing(RayExecutor(1)) as executor:
        results = [f.result(timeout=20) for f in [executor.submit(task, print) for task in TASKS[:3]]]
    assert attempts == ["0.mp4", "0.mp4", "1.mp4", "1.mp4", "1.mp4", "2.mp4"]
    assert [result.frames for result in results] == [1, 0, 1]
    assert results[1].error.startswith("its worker died 3 times (the actor died)")
    assert sum(name == "actor" for name, _ in fake_ray.calls) == 5


def test_close_interrupts_a_task_at_its_next_frame(fake_ray: FakeRay, run) -> None:
    started, ended = threading.Event(), threading.Event()

    def work(task, device, progress):
        started.set()
        try:
            while True:
                progress(Progress("upscaling", 1, None))
                time.sleep(0.01)
        finally:
            ended.set()

    run(work)
    executor = RayExecutor(1)
    future = executor.submit(TASKS[0], lambda progress: None)
    assert started.wait(20)
    executor.close()
    assert ended.is_set()
    assert future.cancelled()


@pytest.mark.parametrize(
    ("options", "slots"), [({}, 6), ({"cpus": 4}, 1), ({"gpus": 0.5}, 2), ({"jobs": 9, "cpus": 2}, 3), ({"jobs": 2}, 2)]
)
def test_there_are_as_many_actors_as_the_cluster_has_room_for(fake_ray: FakeRay, options, slots: int) -> None:
    with closing(RayExecutor(**options)) as executor:
        assert executor.slots == slots


def test_what_the_cluster_lacks_is_named(fake_ray: FakeRay) -> None:
    with pytest.raises(ClipError, match="Ray has 6 CPUs and 1 GPUs, and a task asks for 1 and 2"):
        RayExecutor(gpus=2)
    assert not fake_ray.is_running


def test_a_slow_start_is_repeated_and_a_wrong_address_is_not(fake_ray: FakeRay) -> None:
    fake_ray.failed_starts = 2
    RayExecutor(1).close()
    assert [name for name, _ in fake_ray.calls].count("init") == 3
    fake_ray.failed_starts = 3
    with pytest.raises(ClipError, match="Ray cannot be used on this machine: no answer in 15 s"):
        RayExecutor(1)
    fake_ray.failed_starts = 1
    with pytest.raises(ClipError, match="Ray cannot be used at ray://head:1: no answer"):
        RayExecutor(1, address="ray://head:1")


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(ray_executor, "import_module", missing)
    with pytest.raises(ClipError, match=r'needs the package ray: pip install "steadyscale\[ray\]"'):
        RayExecutor(1)


@pytest.fixture(scope="module")
def real_ray() -> Iterator[None]:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed")
    before = dict(os.environ)
    os.environ |= {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    yield
    os.environ.clear()
    os.environ |= before


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Ray
def test_two_actors_finish_a_batch_though_one_is_killed(real_ray: None, tmp_path: Path) -> None:
    sources = [make_video(tmp_path / f"{number}.mp4", 48 if number == 0 else 8) for number in range(3)]
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    paths = [*sources, tmp_path / "broken.mp4"]
    clips = [ClipTask(str(path), str(tmp_path / "out" / path.name), "stabilize") for path in paths]
    killed: list[int] = []

    def kill_once(progress: Any) -> None:
        if not killed and progress.progress is not None and progress.task is clips[0]:
            children = psutil.Process().children(recursive=True)  # not those of another Ray
            workers = [child for child in children if "_RayWorker.run" in str(child.cmdline())]
            for worker in workers[:1]:
                worker.kill()
                killed.append(worker.pid)

    with closing(RayExecutor(2)) as executor:
        report = run_batch(clips, tmp_path / "out", executor=executor, shard_frames=12, progress=kill_once)
    assert len(killed) == 1
    assert [record["in"] for record in report.failed] == [str(tmp_path / "broken.mp4")]
    assert {record["in"]: record["frames"] for record in report.done} == {
        str(path): count for path, count in zip(sources, (48, 8, 8), strict=True)
    }
    assert [sum(len(f) for f in open_clip(clip.target).frames()) for clip in clips[:3]] == [48, 8, 8]


DRIVER = """
import sys
from contextlib import closing
from steadyscale.core.batch.ray_executor import RayExecutor
from steadyscale.core.batch.run import run_batch
from steadyscale.core.batch.tasks import ClipTask

if __name__ == "__main__":
    clips = [ClipTask(sys.argv[1], sys.argv[2], "stabilize")]
    with closing(RayExecutor(1)) as executor:
        run_batch(clips, sys.argv[3], executor=executor, shard_frames=6)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kills by signals")
def test_a_killed_driver_leaves_no_process_and_the_batch_goes_on(real_ray: None, tmp_path: Path) -> None:
    script, out = tmp_path / "driver.py", tmp_path / "out"
    script.write_text(DRIVER)
    source = make_video(tmp_path / "in.mp4", 48)
    out.mkdir()
    command = [sys.executable, str(script), str(source), str(out / "in.mkv"), str(out)]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}) as driver:
        while not [*out.glob("in.mkv.job/parts/*.json")]:
            assert driver.poll() is None
            time.sleep(0.01)
        children = psutil.Process(driver.pid).children(recursive=True)
        driver.kill()
    assert len(children) > 2
    _, alive = psutil.wait_procs(children, timeout=120)
    assert alive == []
    report = run_batch([ClipTask(str(source), str(out / "in.mkv"), "stabilize")], out, shard_frames=6)
    assert (len(report.done), report.failed) == (1, [])
    stabilize_video(source, tmp_path / "alone.mkv", resumable=True, segment_seconds=6 / 24)
    assert frame_hashes(out / "in.mkv") == frame_hashes(tmp_path / "alone.mkv")
    assert list_files(out) == ["in.mkv", "results.jsonl"]
