"""Fixtures for all tests. Networks run in torch, whatever this machine has built, so that results are bit-identical.

tests/models/native switches the native engine on for itself.
"""

from __future__ import annotations

import gc
import os

os.environ["STEADYSCALE_NATIVE"] = "0"  # read when the package is imported

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import job_run
import pytest
import simulated_gpu
import torch
from numbered_video import make_video
from safetensors.torch import save_file
from steadyscale.cli import main as cli_main
from steadyscale.models import SRVGGConfig, SRVGGNetCompact, load_upscaler

HOST_FOLDERS = ("host", "browser")  # of tests that share a running ComfyUI
OLD_HOST = "old_host"  # the value of `any_host` for the other ComfyUI of tests/host
# Starts of the files whose tests fork processes from one that has imported everything (job_run.start_process), which
# takes three seconds for each worker.
FORKING = ("fuzz/", "core/jobs/", "core/api/test_jobs")
# Folders of files that take five seconds and more: the last file of a worker must not be one of these.
LONGEST = ("fuzz", "native", "api", "compress", "filters", "jobs", "loop", "motion", "path", "upscaling")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the tests in a ComfyUI begin first, as they take longest; then the other long files."""
    tests = Path(__file__).parent

    def order(item: pytest.Item) -> int:
        folders = item.path.relative_to(tests).parts[:-1]
        return 0 if folders[:1] and folders[0] in HOST_FOLDERS else 1 if {*folders} & {*LONGEST} else 2

    items.sort(key=order)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Exempt modules and collected tests from garbage collection, which tests on the simulated GPU call each time.

    While they are collected, it would search them again and again, for two seconds in each worker.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of a file in one worker, and those that share a ComfyUI or a process to fork from."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.removeprefix("tests/")
            folder = file.partition("/")[0]
            if file.startswith(FORKING):
                return "forking"
            if folder not in HOST_FOLDERS:
                return super()._split_scope(nodeid)
            return f"{folder} {OLD_HOST}" if f"[{OLD_HOST}" in nodeid else folder

    return Scheduling(config, log)


@pytest.fixture
def clip_file(tmp_path: Path) -> Path:
    """12 numbered frames with sound that begins half a second late."""
    return make_video(tmp_path / "source.mp4", audio_start=0.5, metadata={"title": "twelve bars"})


@pytest.fixture(scope="session")
def job_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What jobs are tested on; not to be written to."""
    return job_run.make_source(tmp_path_factory.mktemp("source") / "origin.mp4")


@pytest.fixture(scope="session")
def reference_result(job_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The result of an uninterrupted job on `origin`."""
    target = tmp_path_factory.mktemp("undisturbed") / "result.mp4"
    assert job_run.run_full_job(job_source, target) == (job_run.FRAME_COUNT, job_run.SEGMENT_COUNT, 0)
    assert [*target.parent.iterdir()] == [target], "the job's files are gone"
    return target


class _RealDevice:
    """In place of the simulated GPU: a test that counts or injects faults is skipped."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # pytest asks for some.
            raise AttributeError(name)
        pytest.skip(f"{name} needs the simulated GPU")


@pytest.fixture(scope="session", autouse=True)
def _register_simulated_gpu() -> None:
    """Before any test runs a backward pass; see `simulated_gpu.register`."""
    if simulated_gpu.can_build():
        simulated_gpu.register()


@pytest.fixture
def gpu() -> Iterator[Any]:
    """A simulated GPU of 8 GB, the only device beside the CPU.

    bench/card.py runs tests on a real device: it names that in STEADYSCALE_TEST_DEVICE.
    """
    if os.environ.get("STEADYSCALE_TEST_DEVICE", simulated_gpu.DEVICE) != simulated_gpu.DEVICE:
        yield _RealDevice()
        return
    if not simulated_gpu.can_build():
        pytest.skip("the simulated GPU needs Linux and a C++ compiler")
    gc.collect()  # Tensors of earlier tests would count as memory in use.
    with simulated_gpu.enabled() as enabled:
        yield enabled


@pytest.fixture
def disk_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, object]]:
    """What is flushed to the disk and renamed from now on, in order.

    ("fsync", content of the file, or the path of a folder), and ("rename", name of the target).
    """
    calls: list[tuple[str, object]] = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        calls.append(("fsync", path if path.is_dir() else path.read_bytes()))
        fsync(descriptor)

    def record_replace(source: str | Path, target: str | Path, **named: int) -> None:
        calls.append(("rename", Path(target).name))
        replace(source, target, **named)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("the files of descriptors are read from /proc")
    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    monkeypatch.setattr(os, "rename", record_replace)
    return calls


@pytest.fixture
def run_cli(capsys: pytest.CaptureFixture[str]):
    """Run a command in this process: (exit code, stdout, stderr)."""

    def call(*words: object) -> tuple[int, str, str]:
        code = cli_main.main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 2x network that does nothing but repeat pixels: its last layer is zero, and it adds to the repeated input."""
    torch.manual_seed(0)
    network = SRVGGNetCompact(SRVGGConfig(features=4, convs=1, scale=2))
    state = network.state_dict()
    last = max(int(key.split(".")[1]) for key in state)
    for key in state:
        if key.startswith(f"body.{last}."):
            state[key] = torch.zeros_like(state[key])
    path = tmp_path_factory.mktemp("weights") / "twice.safetensors"
    save_file(state, path)
    assert load_upscaler(path).scale == 2
    return path
