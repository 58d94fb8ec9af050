"""A batch whose list, clips and results are in a store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pytest
from steadyscale.core import ClipError, api
from steadyscale.core.batch import results
from steadyscale.core.batch.clip_list import read_clip_list
from steadyscale.core.batch.run import BatchReport, run_batch
from steadyscale.core.batch.tasks import ClipTask
from steadyscale.core.storage import copies

IN, OUT = "memory://films/in", "memory://films/out"


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("STEADYSCALE_CACHE", str(tmp_path / "cache"))
    system = fsspec.filesystem("memory")
    system.store.clear()
    for name in ("b.mp4", "a.AVI", "day/c.mkv", ".hidden/d.mp4", "notes.txt"):
        system.pipe_file(f"/films/in/{name}", b"frames")
    yield system
    copies._copies.remove_unused()
    system.store.clear()


def names(clips: str, out: str = OUT) -> list[tuple[str, str]]:
    return [(clip.source, clip.target) for clip in read_clip_list(clips, out)]


def test_a_url_means_the_videos_below_it_without_hidden_ones_and_results(memory: Any):
    memory.pipe_file("/films/in/out/old.mp4", b"result")
    assert names(IN, f"{IN}/out") == [
        (f"{IN}/a.AVI", f"{IN}/out/a.mp4"),
        (f"{IN}/b.mp4", f"{IN}/out/b.mp4"),
        (f"{IN}/day/c.mkv", f"{IN}/out/day/c.mkv"),
    ]


def test_a_pattern_a_single_clip_and_local_results(tmp_path: Path):
    assert names(f"{IN}/*.mp4") == [(f"{IN}/b.mp4", f"{OUT}/b.mp4")]
    assert names(f"{IN}/**/*.mkv") == [(f"{IN}/day/c.mkv", f"{OUT}/day/c.mkv")]
    assert names(f"{IN}/b.mp4", str(tmp_path)) == [(f"{IN}/b.mp4", str(tmp_path / "b.mp4"))]
    with pytest.raises(ClipError, match="memory://films/none: there are no video files"):
        names("memory://films/none")


def test_a_list_of_urls_and_names(memory: Any, tmp_path: Path):
    memory.pipe_file("/films/in/list.csv", b"in,out,scale\nb.mp4,x/y.mov,2\nmemory://more/z.mkv,,\n")
    clips = read_clip_list(f"{IN}/list.csv", OUT)
    assert [(clip.source, clip.target) for clip in clips] == [
        (f"{IN}/b.mp4", f"{OUT}/x/y.mov"),
        ("memory://more/z.mkv", f"{OUT}/z.mkv"),
    ]
    assert clips[0].settings == {"scale": "2"}
    assert clips[0].place == f"{IN}/list.csv, line 2"
    (tmp_path / "list.jsonl").write_text(json.dumps({"in": f"{IN}/b.mp4", "out": f"{OUT}/b.mkv"}))
    assert names(str(tmp_path / "list.jsonl"), str(tmp_path / "out")) == [(f"{IN}/b.mp4", f"{OUT}/b.mkv")]
    memory.pipe_file("/films/in/bad.jsonl", b'{"in": "b.mp4"}\n{')
    with pytest.raises(ClipError, match=rf"^{IN}/bad\.jsonl, line 2: this is not valid JSON"):
        read_clip_list(f"{IN}/bad.jsonl", OUT)


@pytest.fixture
def processed(memory: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The clips that `upscale_video` was called for; it copies bytes, and fails on b"broken"."""
    called: list[str] = []

    def upscale_video(source: str, target: str, **_: object) -> SimpleNamespace:
        called.append(source.rpartition("/")[2])
        content = memory.cat(source)
        if content == b"interrupt":
            raise KeyboardInterrupt
        if content == b"broken":
            raise ClipError(f"{source}: there is no video in it")
        memory.pipe_file(target, content)
        return SimpleNamespace(frames_out=len(content))

    monkeypatch.setattr(api, "upscale_video", upscale_video)
    return called


def process() -> BatchReport:
    return run_batch([ClipTask(*pair, "upscale") for pair in names(IN)], OUT)


def records(memory: Any) -> list[tuple[str, str]]:
    lines = [json.loads(line) for line in memory.cat("/films/out/results.jsonl").splitlines()]
    return [(line["in"].rpartition("/")[2], line["status"]) for line in lines]


def test_a_batch_does_what_is_not_done_yet(memory: Any, processed: list[str]):
    memory.pipe_file("/films/in/b.mp4", b"broken")
    report = process()
    assert (len(report.done), [record["in"] for record in report.failed]) == (2, [f"{IN}/b.mp4"])
    assert report.results == f"{OUT}/results.jsonl"
    assert records(memory) == [("a.AVI", "done"), ("b.mp4", "failed"), ("c.mkv", "done")]
    memory.pipe_file("/films/in/b.mp4", b"frames")
    memory.pipe_file("/films/in/a.AVI", b"other frames")
    processed.clear()
    assert len(process().skipped) == 1
    assert processed == ["a.AVI", "b.mp4"]
    memory.rm_file("/films/out/day/c.mkv")
    processed.clear()
    process()
    assert processed == ["c.mkv"]
    assert len(records(memory)) == 6  # lines of earlier runs stay


def test_results_are_sent_now_and_then_and_at_an_interrupt(
    memory: Any, processed: list[str], monkeypatch: pytest.MonkeyPatch
):
    memory.pipe_file("/films/in/day/c.mkv", b"interrupt")
    with pytest.raises(KeyboardInterrupt):
        process()
    assert records(memory) == [("a.AVI", "done"), ("b.mp4", "done")]
    monkeypatch.setattr(results, "SEND_SECONDS", 0.0)
    memory.pipe_file("/films/in/a.AVI", b"other frames")
    monkeypatch.setattr(results.ResultLog, "close", lambda log: None)  # as after a kill
    with pytest.raises(KeyboardInterrupt):
        process()
    assert len(records(memory)) == 3


def test_a_result_may_not_replace_a_source():
    with pytest.raises(ClipError, match="would replace the source"):
        run_batch([ClipTask(f"{IN}/b.mp4", f"{IN}/b.mp4", "upscale")], OUT)
