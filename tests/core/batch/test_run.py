"""A batch does what is not done yet, records it, and goes on after a clip that fails."""

from __future__ import annotations

import json
import os
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from numbered_video import make_video
from steadyscale.core import Border, ClipError, StabilizeSettings, api, open_clip, stabilize_video
from steadyscale.core.batch.errors import BatchFailed
from steadyscale.core.batch.executor import InlineExecutor
from steadyscale.core.batch.run import BatchReport, run_batch
from steadyscale.core.batch.tasks import ClipTask, JoinTask, PlanTask, ShardTask, TaskResult
from steadyscale.core.runtime.files.folder_lock import folder_lock


@pytest.fixture
def processed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the clips that `upscale_video` was called for; it copies bytes, and fails on b"broken"."""
    names: list[str] = []

    def upscale_video(source: str, target: str, **_: object) -> SimpleNamespace:
        names.append(Path(source).name)
        content = Path(source).read_bytes()
        if content == b"interrupt":
            raise KeyboardInterrupt
        if content == b"broken":
            raise ClipError(f"{source}: there is no video in it")
        Path(target).write_bytes(content)
        return SimpleNamespace(frames_out=len(content))

    monkeypatch.setattr(api, "upscale_video", upscale_video)
    return names


@pytest.fixture
def clips(tmp_path: Path) -> list[ClipTask]:
    """Five clips a.mp4 to e.mp4."""
    (tmp_path / "in").mkdir()
    tasks = [
        ClipTask(str(tmp_path / "in" / f"{n}.mp4"), str(tmp_path / "out" / f"{n}.mp4"), "upscale") for n in "abcde"
    ]
    for task in tasks:
        Path(task.source).write_bytes(b"frames")
    return tasks


def process(clips: list[ClipTask], **options: object) -> BatchReport:
    return run_batch(clips, Path(clips[0].target).parent, **options)


def result_lines(clips: list[ClipTask]) -> list[dict[str, object]]:
    lines = (Path(clips[0].target).parent / "results.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_broken_clip_does_not_stop_the_others(clips: list[ClipTask], processed: list[str]) -> None:
    Path(clips[2].source).write_bytes(b"broken")
    report = process(clips)
    assert processed == ["a.mp4", "b.mp4", "c.mp4", "d.mp4", "e.mp4"]
    error = f"{clips[2].source}: there is no video in it"
    found = [(line["in"], line["out"], line["status"], line["error"], line["frames"]) for line in result_lines(clips)]
    assert found == [
        (t.source, t.target, "failed", error, 0) if t is clips[2] else (t.source, t.target, "done", None, 6)
        for t in clips
    ]
    assert all(line["seconds"] >= 0 for line in result_lines(clips))
    assert report.as_dict()["failed"] == [{"in": clips[2].source, "error": error}]
    assert str(report).startswith("4 clips written, 0 finished earlier, 1 failed")
    with pytest.raises(BatchFailed, match=r"1 of 5 clips failed(.|\n)*there is no video in it"):
        report.check()


def test_a_second_run_does_only_what_is_missing_or_changed(clips: list[ClipTask], processed: list[str]) -> None:
    process(clips)
    processed.clear()
    assert len(process(clips).skipped) == 5
    assert processed == []
    Path(clips[0].target).unlink()
    Path(clips[1].source).write_bytes(b"other frames")
    Path(clips[2].target).write_bytes(b"edited")
    os.utime(clips[3].source, (1, 1))
    report = process(clips)
    assert processed == ["a.mp4", "b.mp4", "c.mp4", "d.mp4"]
    assert report.skipped == [clips[4].target]
    processed.clear()
    changed = [*clips[:4], ClipTask(clips[4].source, clips[4].target, "upscale", {"deflicker": 0.5})]
    process(changed)
    assert processed == ["e.mp4"], "its settings are others"


def test_a_weight_file_that_changed_is_noticed(clips: list[ClipTask], tmp_path: Path, processed, monkeypatch) -> None:
    monkeypatch.setattr("steadyscale.core.batch.run_task._load_weights", lambda path, changed: path)
    weights = tmp_path / "net.safetensors"
    weights.write_bytes(b"1")
    task = ClipTask(clips[0].source, clips[0].target, "upscale", {"model": str(weights)})
    process([task])
    process([task])
    assert processed == ["a.mp4"]
    weights.write_bytes(b"22")
    process([task])
    assert processed == ["a.mp4", "a.mp4"]


def test_a_source_that_changes_while_it_is_processed_is_processed_again(clips, processed) -> None:
    class Changing(InlineExecutor):
        def submit(self, task, progress):
            future = super().submit(task, progress)
            Path(task.source).write_bytes(b"appended to")
            return future

    process(clips[:1], executor=Changing())
    process(clips[:1])
    assert processed == ["a.mp4", "a.mp4"]


def test_failed_clips_are_tried_again_and_half_a_line_is_no_result(clips: list[ClipTask], processed: list[str]) -> None:
    Path(clips[1].source).write_bytes(b"broken")
    process(clips[:2])
    results = Path(clips[0].target).parent / "results.jsonl"
    results.write_bytes(results.read_bytes() + b'{"in": "/somewhere/f.mp4", "out": "' + clips[4].target.encode()[:9])
    Path(clips[1].source).write_bytes(b"frames")
    processed.clear()
    process(clips[:2])
    assert processed == ["b.mp4"]
    processed.clear()
    assert len(process(clips[:2]).skipped) == 2, "the line after the half one is read"


def test_an_interrupt_keeps_what_is_finished(clips: list[ClipTask], processed: list[str]) -> None:
    Path(clips[2].source).write_bytes(b"interrupt")
    with pytest.raises(KeyboardInterrupt):
        process(clips)
    assert [line["status"] for line in result_lines(clips)] == ["done", "done"]
    Path(clips[2].source).write_bytes(b"frames")
    processed.clear()
    process(clips)
    assert processed == ["c.mp4", "d.mp4", "e.mp4"]


def test_each_result_is_on_the_disk_before_the_next_clip_begins(clips, processed, disk_calls) -> None:
    counts: list[int] = []

    class Counting(InlineExecutor):
        def submit(self, task, progress):
            counts.append(sum(name == "fsync" for name, _ in disk_calls))
            return super().submit(task, progress)

    process(clips, executor=Counting())
    assert counts == [0, 1, 2, 3, 4]
    assert len([content for _, content in disk_calls][-1].splitlines()) == 5


@pytest.mark.parametrize("name", ["a.mp4", "A.mp4", "../out/a.mp4"])
def test_two_clips_with_one_result_are_refused_before_any_work(clips, processed, name: str) -> None:
    second = ClipTask(clips[1].source, str(Path(clips[1].target).parent / name), "upscale")
    with pytest.raises(ClipError, match=r"a\.mp4 and .*b\.mp4 would both be written to"):
        process([clips[0], second])
    assert processed == []
    assert not Path(clips[0].target).parent.exists()


def test_a_result_that_would_replace_a_source_is_refused(clips, processed) -> None:
    with pytest.raises(ClipError, match=r"would replace the source .*e\.mp4"):
        process([ClipTask(clips[0].source, clips[4].source, "upscale"), *clips[1:]])
    assert processed == []


def test_a_folder_takes_one_batch_at_a_time(clips, processed) -> None:
    folder = Path(clips[0].target).parent
    folder.mkdir()
    with folder_lock(folder), pytest.raises(ClipError, match="at work"):
        process(clips)
    assert processed == []
    assert len(process(clips).done) == 5
    assert sorted(path.name for path in folder.iterdir()) == [*(f"{n}.mp4" for n in "abcde"), "results.jsonl"]


def test_progress_counts_clips_and_folders_are_created(clips, processed) -> None:
    seen = []
    deep = [ClipTask(t.source, str(Path(t.target).parent / "x" / Path(t.target).name), "upscale") for t in clips]
    run_batch(deep, Path(clips[0].target).parent, progress=lambda p: seen.append((p.finished, p.total, p.task)))
    assert seen == [(number, 5, task) for number, task in enumerate(deep, start=1)]
    assert Path(deep[0].target).is_file()


def test_a_folder_that_cannot_be_created_fails_its_clip_only(clips, processed) -> None:
    Path(clips[0].target).parent.mkdir()
    (Path(clips[0].target).parent / "file").touch()
    blocked = ClipTask(clips[0].source, str(Path(clips[0].target).parent / "file" / "a.mp4"), "upscale")
    report = process([clips[1], blocked, clips[2]])
    assert processed == ["b.mp4", "c.mp4"]
    assert len(report.failed) == 1


def test_an_unknown_operation_is_named() -> None:
    with pytest.raises(ValueError, match="sharpen is not an operation; use upscale, stabilize, enhance"):
        ClipTask("a", "b", "sharpen")


class Recording(InlineExecutor):
    """Has three slots, and records the tasks."""

    slots = 3

    def __init__(self) -> None:
        super().__init__("cpu")
        self.tasks: list[object] = []

    def submit(self, task, progress):
        self.tasks.append(task)
        return super().submit(task, progress)


def test_long_clips_are_planned_sharded_and_joined(tmp_path: Path) -> None:
    """The frames are those that one process writes."""
    long, short = make_video(tmp_path / "long.mp4", 12), make_video(tmp_path / "short.mp4", 4)
    arguments = {"settings": StabilizeSettings(border=Border.MIRROR, rolling_shutter=0.0)}
    clips = [ClipTask(str(p), str(tmp_path / "out" / p.name), "stabilize", arguments) for p in (long, short)]
    executor = Recording()
    report = run_batch(clips, tmp_path / "out", executor=executor, shard_frames=5)
    report.check()
    assert [(type(task), Path(task.source).name) for task in executor.tasks] == [
        (PlanTask, "long.mp4"),
        (PlanTask, "short.mp4"),
        *[(ShardTask, "long.mp4")] * 3,
        (JoinTask, "long.mp4"),
    ]
    assert {Path(record["out"]).name: record["frames"] for record in report.done} == {"long.mp4": 12, "short.mp4": 4}
    stabilize_video(long, tmp_path / "alone.mp4", **arguments)
    frames = [torch.cat([*open_clip(path).frames()]) for path in (clips[0].target, tmp_path / "alone.mp4")]
    assert frames[0].shape == frames[1].shape
    assert (frames[0] - frames[1]).abs().mean() < 0.02  # pieces are encoded one by one
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["long.mp4", "results.jsonl", "short.mp4"]


@pytest.mark.parametrize("error_in", [PlanTask, ShardTask, JoinTask])
def test_a_failed_step_fails_its_clip_once(tmp_path: Path, error_in: type) -> None:
    class Failing(Recording):
        def submit(self, task, progress):
            self.tasks.append(task)
            future = Future()
            failed = isinstance(task, error_in) and getattr(task, "index", 1) == 1
            future.set_result(TaskResult("it broke" if failed else "", 9, 1.0, 4 if type(task) is PlanTask else 0))
            return future

    clips = [ClipTask(str(tmp_path / n), str(tmp_path / "out" / n), "upscale") for n in ("a.mp4", "b.mp4")]
    executor = Failing()
    report = run_batch(clips, tmp_path / "out", executor=executor, shard_frames=5)
    assert sorted((r["in"], r["error"], r["frames"]) for r in report.failed) == [
        (c.source, "it broke", 0) for c in clips
    ]
    assert report.done == []
    assert sum(type(task) is JoinTask for task in executor.tasks) == (2 if error_in is JoinTask else 0)
