from __future__ import annotations

import json
from pathlib import Path

import pytest
from numbered_video import make_video, read_numbers
from steadyscale.cli.commands import batch
from steadyscale.core import open_clip
from steadyscale.core.batch.executor import InlineExecutor
from video_file_checks import list_files


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clips run in this process; the executors have tests of their own."""
    monkeypatch.setattr(batch, "make_executor", lambda args: InlineExecutor(args.device))


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a", "c"):
        make_video(folder / f"{name}.mp4", 3)
    (folder / "b.mp4").write_bytes(b"no video")
    return folder


@pytest.mark.usefixtures("inline")
def test_a_broken_clip_is_named_and_the_others_are_written(
    tmp_path: Path, sources: Path, weights: Path, run_cli
) -> None:
    out = tmp_path / "out"
    command = (
        "batch",
        sources,
        "--out",
        out,
        "--operation",
        "upscale",
        "--model",
        weights,
        "--device",
        "cpu",
        "--json",
    )
    code, stdout, stderr = run_cli(*command)
    assert code == 1
    assert "1 of 3 clips failed" in stderr
    assert f"\n  {sources / 'b.mp4'}: cannot be read as video" in stderr, "the path is there once"
    report = json.loads(stdout)
    assert (report["done"], report["skipped"], len(report["failed"]), report["frames"]) == (2, 0, 1, 6)
    assert list_files(out) == ["a.mp4", "c.mp4", "results.jsonl"]
    for name in ("a", "c"):
        clip = open_clip(out / f"{name}.mp4")
        assert (clip.info.size, read_numbers(clip)) == ((128, 96), [0, 1, 2])
    make_video(sources / "b.mp4", 2)
    code, stdout, _ = run_cli(*command)
    assert (code, json.loads(stdout)["done"], json.loads(stdout)["skipped"]) == (0, 1, 2)
    assert read_numbers(open_clip(out / "b.mp4")) == [0, 1]


@pytest.mark.usefixtures("inline")
@pytest.mark.parametrize("count", [12, pytest.param(100, marks=pytest.mark.slow)])
def test_one_broken_clip_of_many_is_named_and_all_others_are_written(count: int, tmp_path: Path, run_cli) -> None:
    (tmp_path / "in").mkdir()
    original, names = make_video(tmp_path / "original.mp4", 2), [f"{number:03d}.mp4" for number in range(count)]
    for name in names:
        (tmp_path / "in" / name).hardlink_to(original)
    broken = names.pop(count // 2)
    (tmp_path / "in" / broken).unlink()
    (tmp_path / "in" / broken).write_bytes(original.read_bytes()[:300])
    options = ("--operation", "stabilize", "--border", "mirror", "--rolling-shutter", "off", "--json")
    code, stdout, stderr = run_cli("batch", tmp_path / "in", "--out", tmp_path / "out", *options)
    report = json.loads(stdout)
    assert (code, report["clips"], report["done"], report["frames"]) == (1, count, count - 1, 2 * (count - 1))
    assert [Path(failure["in"]).name for failure in report["failed"]] == [broken]
    assert f"1 of {count} clips failed" in stderr
    assert f"{broken}: " in stderr
    records = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert sorted(Path(record["out"]).name for record in records if record["status"] == "done") == names
    assert list_files(tmp_path / "out") == [*names, "results.jsonl"]


@pytest.mark.usefixtures("inline")
def test_a_list_has_settings_for_each_clip(tmp_path: Path, sources: Path, weights: Path, run_cli) -> None:
    (tmp_path / "list.csv").write_text("in,out,size\nin/a.mp4,large.mkv,96x72\nin/c.mp4,,\n")
    options = ("--operation", "upscale", "--model", weights, "--device", "cpu", "--quiet")
    assert run_cli("batch", tmp_path / "list.csv", "--out", tmp_path / "out", *options) == (0, "", "")
    sizes = [open_clip(tmp_path / "out" / name).info.size for name in ("large.mkv", "c.mp4")]
    assert sizes == [(96, 72), (128, 96)]


@pytest.mark.usefixtures("inline")
def test_mistakes_are_reported_before_any_work(tmp_path: Path, sources: Path, run_cli) -> None:
    (tmp_path / "list.jsonl").write_text('{"in": "in/a.mp4"}\n{"in": "in/c.mp4", "settings": {"border": "purple"}}\n')
    code, _, stderr = run_cli("batch", tmp_path / "list.jsonl", "--out", tmp_path / "out")
    assert (code, "list.jsonl, line 2: border: invalid choice" in stderr) == (1, True)
    make_video(sources / "a.avi", 2, codec="mpeg4")
    code, _, stderr = run_cli("batch", sources, "--out", tmp_path / "out")
    assert (code, "would both be written to" in stderr) == (1, True)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("inline")
def test_an_interrupt_says_that_finished_clips_are_kept(tmp_path, sources, run_cli, monkeypatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("steadyscale.core.api.upscale_video", interrupted)
    code, _, stderr = run_cli("batch", sources, "--out", tmp_path / "out", "--operation", "upscale")
    assert (code, "interrupted, what is finished is kept" in stderr) == (130, True)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--device", "cpu"), (["cpu"], None)),
        (("--device", "cpu", "--jobs", "3", "--cpus-per-task", "2"), (["cpu", "cpu", "cpu"], 2)),
        (("--device", "cuda:0,cuda:1"), (["cuda:0", "cuda:1"], None)),
        (("--device", "cuda:0,cuda:1", "--jobs", "3"), (["cuda:0", "cuda:1", "cuda:0"], None)),
    ],
)
def test_there_is_a_worker_for_each_device_and_job(words: tuple[str, ...], expected: object, monkeypatch) -> None:
    from steadyscale.cli.main import build_parser
    from steadyscale.core.batch import local_executor

    monkeypatch.setattr(local_executor, "LocalExecutor", lambda devices, threads: (devices, threads))
    monkeypatch.setattr(batch, "resolve_devices", lambda names: names)
    assert batch.make_executor(build_parser("batch").parse_args(["batch", "L", "--out", "D", *words])) == expected


@pytest.mark.parametrize("words", [("--ray-address", "auto"), ("--gpus-per-task", "1")])
def test_options_of_ray_are_refused_without_it(tmp_path: Path, sources: Path, run_cli, words) -> None:
    code, _, stderr = run_cli("batch", sources, "--out", tmp_path / "out", *words)
    assert (code, f"{words[0]} is for --executor ray" in stderr) == (1, True)
