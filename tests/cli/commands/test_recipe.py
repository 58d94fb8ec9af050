"""The printed scripts submit the steps in order, and the steps do what one process does."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import fsspec
import pytest
import torch
import yaml
from numbered_video import make_video, read_numbers
from steadyscale.core import Border, StabilizeSettings, open_clip, stabilize_video
from steadyscale.core.batch.recipes import kubernetes_name

OPTIONS = ("--operation", "stabilize", "--border", "mirror", "--rolling-shutter", "off", "--seconds", "2.5")
SBATCH = """#!/bin/bash
number=$(($(cat "$CALLS/count") + 1))
echo $number > "$CALLS/count"
printf '%s\\n' "$@" > "$CALLS/$number"
echo "10$number"
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Its name needs quotes."""
    return make_video(tmp_path / "a b's.mp4", 12)


def submitted(script: str, folder: Path) -> list[dict[str, str]]:
    """The options of each call of sbatch when the script runs, by name."""
    (folder / "calls").mkdir()
    (folder / "calls" / "count").write_text("0")
    (folder / "sbatch").write_text(SBATCH)
    (folder / "sbatch").chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "CALLS": str(folder / "calls")}
    ran = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    count = int((folder / "calls" / "count").read_text())
    assert ran.stdout.split() == [f"10{number}" for number in range(1, count + 1)]
    calls = [(folder / "calls" / str(number)).read_text().splitlines() for number in range(1, count + 1)]
    return [{name: value for name, _, value in (word.partition("=") for word in call)} for call in calls]


def run_steps(run_cli, monkeypatch, steps: list[list[str]], environments: list[dict[str, str]]) -> None:
    """Run measuring, plan, shards and join; the first and the shards once in each environment, the last one first."""
    for number, words in enumerate(steps):
        assert words[0] == "steadyscale"
        for environment in reversed(environments) if number in (0, 2) else [{}]:
            run_step(run_cli, monkeypatch, words, environment)


def run_step(run_cli, monkeypatch, words: list[str], environment: dict[str, str]) -> None:
    with monkeypatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        code, _, stderr = run_cli(*words[1:])
    assert code == 0, stderr


def check_result(source: Path, target: Path, folder: Path) -> None:
    settings = StabilizeSettings(seconds=2.5, border=Border.MIRROR, rolling_shutter=0.0)
    alone = folder / "alone.mp4"
    stabilize_video(source, alone, settings=settings, resumable=True)
    assert read_numbers(open_clip(target)) == list(range(12))
    assert torch.equal(*(torch.cat([*open_clip(path).frames()]) for path in (target, alone)))
    assert not target.with_name(f"{target.name}.job").exists()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs a shell")
def test_the_slurm_script_submits_all_steps(source: Path, tmp_path: Path, run_cli, monkeypatch) -> None:
    target = tmp_path / "out.mp4"
    recipe = ("recipe", "slurm", source, target, "--shards", "2", "--cpus-per-task", "3", "--gpus-per-task", "1")
    code, script, _ = run_cli(*recipe, *OPTIONS)
    assert code == 0
    calls = submitted(script, tmp_path)
    assert [call["--job-name"] for call in calls] == ["out-measure", "out-plan", "out-shards", "out-join"]
    assert [call.get("--dependency") for call in calls] == [None, "afterok:101", "afterok:102", "afterok:103"]
    assert [call.get("--array") for call in calls] == ["0-1", None, "0-1", None]
    resources = [(call["--cpus-per-task"], call.get("--gpus-per-task")) for call in calls]
    assert resources == [("3", None), ("3", "1"), ("3", "1"), ("1", None)]
    words = [shlex.split(call["--wrap"]) for call in calls]
    tasks = [{"SLURM_ARRAY_TASK_ID": str(k), "SLURM_ARRAY_TASK_COUNT": "2"} for k in range(2)]
    run_steps(run_cli, monkeypatch, words, tasks)
    check_result(source, target, tmp_path)


def test_the_manifest_has_a_job_for_each_step(source, tmp_path, run_cli, monkeypatch) -> None:
    target = tmp_path / "out" / "Large Film.mp4"
    target.parent.mkdir()
    recipe = ("recipe", "k8s", source, target, "--shards", "2", "--gpus-per-task", "1", "--cpus-per-task", "2")
    code, text, _ = run_cli(*recipe, "--mount", tmp_path, "--image", "here/steadyscale:1", *OPTIONS)
    assert code == 0
    jobs = [*yaml.safe_load_all(text)]
    assert [(j["kind"], j["metadata"]["name"]) for j in jobs] == [
        ("Job", f"large-film-{step}") for step in ("measure", "plan", "shards", "join")
    ]
    specs = [job["spec"] for job in jobs]
    assert [spec.get("suspend", False) for spec in specs] == [False, True, True, True]
    assert [spec.get("completionMode") for spec in specs] == ["Indexed", None, "Indexed", None]
    assert [(spec["completions"], spec["parallelism"]) for spec in specs[::2]] == [(2, 2)] * 2
    pods = [spec["template"]["spec"] for spec in specs]
    containers = [pod["containers"][0] for pod in pods]
    assert {c["image"] for c in containers} == {"here/steadyscale:1"}
    limits = [c["resources"]["limits"] for c in containers]
    assert limits == [{"cpu": "2"}, *[{"cpu": "2", "nvidia.com/gpu": "1"}] * 2, {"cpu": "1"}]
    assert {(pod["volumes"][0]["name"], c["volumeMounts"][0]["name"], c["volumeMounts"][0]["mountPath"])
            for pod, c in zip(pods, containers, strict=True)} == {("clips", "clips", str(tmp_path))}  # fmt: skip
    commands = re.findall(r"^#   (kubectl .*)$", text, re.MULTILINE)
    assert [re.findall(r"job/(\S+)", command) for command in commands] == [
        [],
        ["large-film-measure", "large-film-plan"],
        ["large-film-plan", "large-film-shards"],
        ["large-film-shards", "large-film-join"],
    ]
    patches = [json.loads(word[8:]) for c in commands for word in shlex.split(c) if word.startswith("--patch=")]
    assert patches == [{"spec": {"suspend": False}}] * 3
    words = [["steadyscale", *c["args"]] for c in containers]
    run_steps(run_cli, monkeypatch, words, [{"JOB_COMPLETION_INDEX": k} for k in "01"])
    check_result(source, target, tmp_path)


def test_a_manifest_for_urls_has_no_volume(source, tmp_path, run_cli, monkeypatch) -> None:
    monkeypatch.setenv("STEADYSCALE_CACHE", str(tmp_path / "cache"))
    memory = fsspec.filesystem("memory")
    memory.put_file(str(source), "/clips/in.mp4")
    recipe = ("recipe", "k8s", "memory://clips/in.mp4", "memory://clips/large.mp4", "--shards", "2", *OPTIONS)
    code, text, _ = run_cli(*recipe, "--secret", "store")
    assert code == 0
    pods = [job["spec"]["template"]["spec"] for job in yaml.safe_load_all(text)]
    containers = [pod["containers"][0] for pod in pods]
    assert not any("volumes" in pod or "volumeMounts" in container for pod in pods for container in pod["containers"])
    assert [c["envFrom"] for c in containers] == [[{"secretRef": {"name": "store"}}]] * 4
    words = [["steadyscale", *c["args"]] for c in containers]
    assert "memory://clips/large.mp4.job" in words[0]
    run_steps(run_cli, monkeypatch, words, [{"JOB_COMPLETION_INDEX": k} for k in "01"])
    assert memory.find("/clips") == ["/clips/in.mp4", "/clips/large.mp4"]
    memory.get_file("/clips/large.mp4", str(tmp_path / "large.mp4"))
    assert read_numbers(open_clip(tmp_path / "large.mp4")) == [*range(12)]
    assert "envFrom" not in run_cli(*recipe)[1]
    memory.store.clear()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("slurm", "a.mp4", "b.mp4", "--image", "x"), "--image is for k8s only"),
        (("slurm", "a.mp4", "b.mp4", "--secret", "x"), "--secret is for k8s only"),
        (("slurm", "ftp://a/a.mp4", "b.mp4"), "ftp is not a storage that can be used"),
        (("k8s", "s3://clips/a.mp4", "s3://clips/b.mp4", "--job", "/tmp/j"), "/tmp/j: this is outside the volume"),
        (("slurm", "a.mp4", "b_%04d.png"), "b_%04d.png: a job writes a video file"),
        (("slurm", "a.mp4", "b.mp4", "--operation", "stabilize", "--scale", "2"), "--scale is for"),
        (("k8s", "/data/a.mp4", "/clips/b.mp4"), "/data/a.mp4: this is outside the volume"),
        (("k8s", "/clips/a.mp4", "/clips/b.mp4", "--job", "/tmp/j"), "/tmp/j: this is outside the volume"),
    ],
)
def test_what_cannot_run_is_refused(words: tuple[str, ...], message: str, run_cli) -> None:
    code, out, stderr = run_cli("recipe", *words)
    assert (code, out) == (1, "")
    assert message in stderr


def test_all_options_reach_the_plan_and_no_others(run_cli) -> None:
    options = ("--scale", "1.5", "--fps", "30000/1001", "--no-reuse", "--keep-x", "0.25", "--model", "m.pth")
    code, out, _ = run_cli("recipe", "k8s", "/clips/a.mp4", "/clips/b.mp4", "--device", "cuda", "--json", *options)
    jobs = yaml.safe_load_all(json.loads(out)["text"])
    measure, *args = [job["spec"]["template"]["spec"]["containers"][0]["args"] for job in jobs]
    common = ["enhance", "/clips/a.mp4", "/clips/b.mp4", "--job", "/clips/b.mp4.job"]
    assert code == 0
    assert measure == [*common, "--measure", "auto/8", *args[0][6:]]
    assert args[0][:6] == [*common, "--plan"]
    expected = {"--model=m.pth", "--device=cuda", "--scale=1.5", "--fps=30000/1001", "--no-reuse", "--keep-x=0.25"}
    assert set(args[0][6:]) == expected
    assert args[1] == [*common, "--shard", "auto/8", "--model=m.pth", "--device=cuda"]
    assert args[2] == [*common, "--join"]


def test_upscaling_measures_nothing(run_cli) -> None:
    for scheduler in ("slurm", "k8s"):
        code, out, _ = run_cli("recipe", scheduler, "/clips/a.mp4", "/clips/b.mp4", "--operation", "upscale")
        assert code == 0
        assert "plan" in out
        assert "measure" not in out


@pytest.mark.parametrize(("text", "name"), [("Reel_7 (4K)", "reel-7-4k"), ("映画", "clip"), ("a" * 60, "a" * 40)])
def test_names_suit_kubernetes(text: str, name: str) -> None:
    assert kubernetes_name(text) == name


def test_the_containers_files_and_extras_exist() -> None:
    root = Path(__file__).parents[3]
    text = (root / "Containerfile").read_text(encoding="utf-8")
    copied = [name for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE) for name in line.split()]
    assert [name for name in copied if not (root / name).exists()] == []
    project = (root / "pyproject.toml").read_text(encoding="utf-8")
    extras = {extra for found in re.findall(r"\[([\w,]+)\]\"", text) for extra in found.split(",")}
    assert extras == {extra for extra in extras if re.search(rf"^{extra} = \[", project, re.MULTILINE)}
    assert re.findall(r" AS (\w+)$", text, re.MULTILINE) == ["source", "cpu", "cuda"]
    assert text.count('ENTRYPOINT ["steadyscale"]') == 2
