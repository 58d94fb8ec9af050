"""Worker processes: their results, their deaths, and what is sent to them."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import closing
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import psutil
import pytest
from deadly_argument import DeadlyArgument
from numbered_video import make_video
from steadyscale.core import Border, OutputSize, StabilizeSettings, UpscaleSettings, VideoClip
from steadyscale.core.api import Progress
from steadyscale.core.batch.local_executor import LocalExecutor, core_count
from steadyscale.core.batch.tasks import ClipTask, TaskResult
from steadyscale.core.video.encode.codecs import Encoding

# Stabilizing needs no torch, which takes seconds to import in each worker. The numbers do not move.
ARGUMENTS = {"settings": StabilizeSettings(border=Border.MIRROR, rolling_shutter=0.0)}


def make_task(folder: Path, name: str, frames: int = 6, **arguments: object) -> ClipTask:
    make_video(folder / f"{name}.mp4", frames)
    return ClipTask(
        str(folder / f"{name}.mp4"), str(folder / f"{name}-out.mp4"), "stabilize", {**ARGUMENTS, **arguments}
    )


def ignore(progress: Progress) -> None:
    pass


def frame_count(task: ClipTask) -> int:
    return sum(len(frames) for frames in VideoClip(task.target).frames())


def test_workers_survive_errors_and_are_replaced_when_they_die(tmp_path: Path, caplog) -> None:
    good, killed_once = make_task(tmp_path, "good"), make_task(tmp_path, "once", mask=DeadlyArgument(tmp_path / "1", 1))
    poison = make_task(tmp_path, "poison", mask=DeadlyArgument(tmp_path / "2", 99))
    broken = ClipTask(str(tmp_path / "broken.mp4"), str(tmp_path / "x.mp4"), "stabilize")
    Path(broken.source).write_bytes(b"no video")
    with caplog.at_level(logging.WARNING), closing(LocalExecutor(["cpu"])) as executor:
        futures = [executor.submit(task, ignore) for task in (broken, killed_once, poison, good)]
        results = [future.result(timeout=120) for future in futures]
    assert "broken.mp4: cannot be read as video" in results[0].error
    assert (results[1].error, results[1].frames, frame_count(killed_once)) == ("", 6, 6)
    assert results[2].error.startswith("its worker died 3 times (signal 9)")
    assert (tmp_path / "2").stat().st_size == 3
    assert (results[3].error, results[3].frames, frame_count(good)) == ("", 6, 6)
    assert caplog.text.count("once.mp4: the worker died (signal 9); the clip is tried again") == 1
    assert not [c for c in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(c.cmdline())]


def test_close_interrupts_a_task_and_leaves_no_partial_file(tmp_path: Path) -> None:
    task, seen = make_task(tmp_path, "long", 240), []
    executor = LocalExecutor(["cpu"])
    future = executor.submit(task, seen.append)
    waiting = executor.submit(make_task(tmp_path, "next"), ignore)
    deadline = time.monotonic() + 120
    while not seen and time.monotonic() < deadline:
        time.sleep(0.01)
    executor.close()
    assert (future.cancelled(), waiting.cancelled()) == (True, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["long.mp4", "next.mp4"]
    assert seen[0].stage == "measuring"


def test_only_small_descriptions_are_sent(tmp_path: Path) -> None:
    """Their size does not depend on the clip, and is far below that of one frame of 64 x 48 pixels (9216 bytes)."""
    task = ClipTask(
        "/archive/2026/reel 17/clip 000123.mov",
        "/archive/large/reel 17/clip 000123.mov",
        "enhance",
        {
            "model": "steadyscale-4x",
            "upscaling": UpscaleSettings(OutputSize(factor=4)),
            "stabilization": StabilizeSettings(),
            "encoding": Encoding(crf=17),
        },
    )
    sizes = [len(ForkingPickler.dumps(item)) for item in (task, TaskResult("an error" * 40, 10**6, 1e5))]
    assert sizes[0] < 3000
    assert sizes[1] < 1000
    assert len(ForkingPickler.dumps(("progress", Progress("upscaling", 10**6, 10**6)))) < 300


def test_the_cores_are_those_that_the_process_may_use() -> None:
    expected = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert core_count() == expected


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no signal that a process cannot catch")
def test_a_worker_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(
        "import sys, pickle, time\n"
        "from steadyscale.core.batch.local_executor import LocalExecutor\n"
        "if __name__ == '__main__':\n"
        "    executor = LocalExecutor(['cpu'])\n"
        "    task = pickle.loads(bytes.fromhex(sys.argv[1]))\n"
        "    executor.submit(task, lambda p: print(p.stage, flush=True))\n"
        "    time.sleep(100)\n"
    )
    task = make_task(tmp_path, "long", 240)
    command = [sys.executable, str(script), pickle.dumps(task).hex()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        driver.stdout.readline()
        workers = [child for child in psutil.Process(driver.pid).children() if "spawn_main" in str(child.cmdline())]
        driver.kill()
    assert len(workers) == 1
    gone, alive = psutil.wait_procs(workers, timeout=60)
    assert (len(gone), alive) == (1, [])
    assert not Path(task.target).exists()
