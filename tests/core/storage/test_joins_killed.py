"""A join that ends while it sends the result or removes the job can be repeated, on disks and in stores."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pytest
from job_run import has_same_content
from numbered_video import make_video
from steadyscale.core import Encoding, StabilizeSettings
from steadyscale.core.api import join_job, plan_job, run_shard
from steadyscale.core.clip import ClipError
from steadyscale.core.storage import copies
from steadyscale.core.storage.local_storage import LocalStorage
from steadyscale.core.storage.object_storage import ObjectStorage

ROOT = "memory://clips"
OPTIONS = {
    "command": "stabilize",
    "stabilization": StabilizeSettings(seconds=0.5, max_zoom=1.5),
    "encoding": Encoding("ffv1"),
    "segment_seconds": 4 / 24,
}
KINDS = [("disk", "store"), ("store", "disk"), ("store", "store")]  # of the job and of the result


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("STEADYSCALE_CACHE", str(tmp_path / "cache"))
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    copies._copies.remove_unused()
    system.store.clear()


@dataclass(frozen=True)
class Computed:
    """A computed job in a folder, and its result."""

    source: Path
    folder: Path
    result: Path


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Computed:
    folder = tmp_path_factory.mktemp("job")
    source, job, result = make_video(folder / "in.mp4", 8, audio_start=0.1), folder / "job", folder / "out.mkv"
    plan_job(source, result, job, **OPTIONS)
    run_shard(job)
    join_job(job, keep_files=True)
    return Computed(source, job, result)


@dataclass(frozen=True)
class Case:
    """A copy of the job, to be joined."""

    job: str
    target: str
    folder: Path
    memory: Any

    def files(self) -> set[str]:
        """The files of the job and the result."""
        found = {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()}
        return found | {path.removeprefix("/clips/") for path in self.memory.find("/clips")}

    def check_result(self, expected: Path) -> None:
        """Only the result is left, with the content of `expected`."""
        assert self.files() == {"out.mkv"}
        result = self.folder / "out.mkv"
        if not result.exists():
            self.memory.get_file("/clips/out.mkv", str(result))
        assert has_same_content(result, expected)


def copy_job(kinds: tuple[str, str], computed: Computed, folder: Path, memory: Any) -> Case:
    folder.mkdir()
    job, target = (f"{ROOT}/{name}" if kind == "store" else str(folder / name)
                   for kind, name in zip(kinds, ("job", "out.mkv"), strict=True))  # fmt: skip
    if kinds[0] == "store":
        for file in computed.folder.rglob("*.*"):
            memory.put_file(str(file), f"/clips/job/{file.relative_to(computed.folder).as_posix()}")
    else:
        shutil.copytree(computed.folder, job)
    return Case(job, target, folder, memory)


@pytest.fixture(params=KINDS, ids="-".join)
def case(request: pytest.FixtureRequest, computed: Computed, tmp_path: Path, memory: Any) -> Case:
    return copy_job(request.param, computed, tmp_path / "case", memory)


class Removals:
    """Counts removed files, and ends the process, as far as it can be in a test, before one of them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.names, self.kill_at = list[str](), ""
        for storage in (LocalStorage, ObjectStorage):
            patch.setattr(storage, "remove", self._wrap(storage.remove))

    def _wrap(self, original: Any) -> Any:
        def remove(storage: Any, name: str) -> None:
            if self.kill_at and name.startswith(self.kill_at):
                self.kill_at = ""
                raise KeyboardInterrupt
            self.names.append(name)
            original(storage, name)

        return remove


@pytest.mark.parametrize("moment", ["plan.json", "parts/", "motion/", "joined.json"])
def test_a_join_that_ends_while_it_removes_the_job(
    moment: str, case: Case, computed: Computed, monkeypatch: pytest.MonkeyPatch
):
    removals = Removals(monkeypatch)
    removals.kill_at = moment
    with pytest.raises(KeyboardInterrupt):
        join_job(case.job, case.target)
    assert {"job/joined.json", "out.mkv"} <= case.files()
    assert ("job/plan.json" in case.files()) == (moment == "plan.json")
    report = join_job(case.job, case.target)
    assert (report.output, report.frames_out, report.info.length) == (case.target, 8, 8)
    assert (removals.names[0], removals.names[-1]) == ("plan.json", "joined.json")
    case.check_result(computed.result)


def test_a_join_that_ends_before_the_result_is_sent_keeps_the_job(
    computed: Computed, tmp_path: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
):
    case = copy_job(("store", "store"), computed, tmp_path / "case", memory)
    before = case.files()

    def stop(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(memory, "put_file", stop)
        with pytest.raises(KeyboardInterrupt):
            join_job(case.job, case.target)
    assert case.files() == before
    join_job(case.job, case.target)
    case.check_result(computed.result)


def test_a_url_of_other_objects_is_refused_and_one_of_a_killed_join_is_not(computed: Computed, memory: Any):
    memory.pipe_file("/clips/job/notes.txt", b"text")
    with pytest.raises(ClipError, match=rf"^{ROOT}/job: contains other files \(notes\.txt\) and no job; .* new URL"):
        plan_job(computed.source, f"{ROOT}/out.mkv", f"{ROOT}/job", **OPTIONS)
    memory.pipe_file("/clips/job/joined.json", b"{}")
    plan_job(computed.source, f"{ROOT}/out.mkv", f"{ROOT}/job", **OPTIONS)
    assert memory.exists("/clips/job/plan.json")
