"""The steps of a job on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from job_run import has_same_content
from numbered_video import make_video
from steadyscale.cli import job_options
from steadyscale.cli.main import build_parser
from steadyscale.cli.registry import load_command
from steadyscale.core.bars import BarDetection
from steadyscale.core.clip import ClipError
from steadyscale.core.upscaling.settings import OutputSize

COMMANDS = ("upscale", "stabilize", "enhance")


class Called(BaseException):
    """The step has called what it is for."""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple]:
    """What is called, and with which arguments."""
    found: dict[str, tuple] = {}

    def replace(name: str) -> None:
        def function(*args: object, **kwargs: object) -> None:
            found[name] = args, kwargs
            raise Called

        monkeypatch.setattr(job_options, name, function)

    for name in ("measure_job", "plan_job", "run_shard", "join_job"):
        replace(name)
    for name in ("SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX"):
        monkeypatch.delenv(name, raising=False)
    return found


def run(command: str, *words: str) -> None:
    args = build_parser(command).parse_args([command, "IN", "OUT.mp4", "--job", "folder", *words])
    load_command(command).run(args)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_plan_gets_all_settings(command: str, calls):
    size = () if command == "stabilize" else ("--scale", "3", "--temporal", "0.5")
    seconds = () if command == "upscale" else ("--seconds", "2")
    with pytest.raises(Called):
        run(command, "--plan", "--segment-seconds", "3", *size, *seconds)
    args, kwargs = calls["plan_job"]
    assert args == ("IN", "OUT.mp4", "folder")
    assert (kwargs["command"], kwargs["segment_seconds"]) == (command, 3)
    if size:
        assert (kwargs["upscaling"].size, kwargs["deflicker"]) == (OutputSize(3), 0.5)
    if seconds:
        assert kwargs["stabilization"].seconds == 2


@pytest.mark.parametrize(
    ("words", "strength"),
    [((), None), (("--temporal", "auto"), None), (("--temporal", "0"), 0), (("--temporal", "1"), 1)],
)
def test_only_an_automatic_strength_is_left_to_the_network(words: tuple[str, ...], strength: float | None, calls):
    with pytest.raises(Called):
        run("upscale", "--plan", *words)
    assert calls["plan_job"][1]["deflicker"] == strength


@pytest.mark.parametrize(
    ("words", "environment", "shard"),
    [
        ("--shard 2/5", {}, (2, 5, False)),
        ("--claim", {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "3"}, (0, 1, True)),
        ("--shard auto", {}, (0, 1, True)),
        ("--shard auto", {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "3"}, (1, 3, False)),
        ("--shard auto/4", {"JOB_COMPLETION_INDEX": "3"}, (3, 4, False)),
        ("--shard auto", {"JOB_COMPLETION_INDEX": "3"}, (0, 1, True)),
    ],
)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_shard_is_given_or_read_from_the_environment(
    command: str, words: str, environment: dict[str, str], shard, calls, monkeypatch: pytest.MonkeyPatch
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Called):
        run(command, *words.split(), "--device", "meta")
    args, kwargs = calls["run_shard"]
    assert (*args, kwargs["claim"]) == ("folder", *shard)
    assert (kwargs["source"], kwargs["device"], kwargs["model"]) == ("IN", "meta", None)


@pytest.mark.parametrize(("word", "share"), [("1/3", (1, 3)), ("auto/4", (2, 4)), ("auto", (0, 1))])
@pytest.mark.parametrize("command", ["stabilize", "enhance"])
def test_measuring_gets_what_motion_depends_on(command: str, word: str, share, calls, monkeypatch: pytest.MonkeyPatch):
    if word == "auto/4":
        monkeypatch.setenv("JOB_COMPLETION_INDEX", "2")
    with pytest.raises(Called):
        run(command, "--measure", word, "--bars", "none", "--mask", "M", "--crf", "9", "--segment-seconds", "3")
    args, kwargs = calls["measure_job"]
    assert args == ("IN", "folder", *share)
    assert (kwargs.pop("stabilization").bars, kwargs.pop("mask")) == (BarDetection.NONE, "M")
    assert {*kwargs} == {"fps", "max_pixels", "on_damage", "hwaccel", "segment_seconds", "progress"}
    assert kwargs["segment_seconds"] == 3


@pytest.mark.parametrize("command", COMMANDS)
def test_a_join_gets_its_paths(command: str, calls):
    with pytest.raises(Called):
        run(command, "--join")
    assert calls["join_job"] == (("folder", "OUT.mp4"), {"source": "IN"})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--shard 0/2 --scale 3 --crf 30", "--scale, --crf: options of the plan; give them to --plan, not to --shard"),
        ("--join --segment-seconds 3", "--segment-seconds: an option of the plan; give it to --plan, not to --join"),
        ("--plan --resumable", "--resumable does all steps"),
        ("--plan --job=", "--plan is a step of a job; name its folder with --job"),
    ],
)
def test_options_that_a_step_would_ignore_are_refused(words: str, message: str, calls):
    with pytest.raises(ClipError, match=message):
        run("enhance", *words.split())
    assert calls == {}


@pytest.mark.parametrize("word", ["2/2", "1", "a/b", "auto/0", "auto/", "-1/2", "/"])
def test_what_is_no_shard_is_refused(word: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        run("enhance", f"--shard={word}")
    assert "--shard" in capsys.readouterr().err


def test_array_tasks_and_indexed_jobs_give_the_result_of_one_process(
    tmp_path: Path, weights: Path, run_cli, monkeypatch: pytest.MonkeyPatch
):
    source = make_video(tmp_path / "in.mp4", 9, audio_start=0.1)
    planned = ("--model", weights, "--temporal", "0.2", "--codec", "ffv1", "--segment-seconds", "0.12")
    assert run_cli("enhance", source, tmp_path / "whole.mkv", "--resumable", *planned)[0] == 0
    arrays = {
        "auto": [{"SLURM_ARRAY_TASK_ID": str(i + 1), "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "2"}
                 for i in range(2)],
        "auto/2": [{"JOB_COMPLETION_INDEX": str(i)} for i in range(2)],
    }  # fmt: skip
    for word, environments in arrays.items():
        target, steps = tmp_path / "out.mkv", ("--job", tmp_path / "job", "--json")
        code, stdout, _ = run_cli("enhance", source, target, *planned, "--measure", "0/2", *steps)
        assert (code, json.loads(stdout)["computed"], json.loads(stdout)["missing"]) == (0, [0], 2)
        code, stdout, _ = run_cli("enhance", source, target, *planned, "--plan", *steps)
        assert (code, json.loads(stdout)["pieces"]) == (0, 3)
        for step in ("--shard=0/2", "--claim", "--join"):
            code, _, stderr = run_cli("upscale", source, target, step, *steps)
            assert (code, "planned by `steadyscale enhance`, and this is `steadyscale upscale`" in stderr) == (1, True)
        computed: list[int] = []
        for environment in environments:
            with monkeypatch.context() as patch:
                for name, value in environment.items():
                    patch.setenv(name, value)
                code, stdout, _ = run_cli("enhance", source, target, "--shard", word, *steps)
            assert code == 0
            computed += json.loads(stdout)["computed"]
        assert computed == [0, 2, 1]
        code, stdout, _ = run_cli("enhance", source, target, "--join", *steps)
        report = json.loads(stdout)
        assert (code, report["frames_out"], report["device"]) == (0, 9, "cpu"), "the device is the kind that was used"
        assert has_same_content(target, tmp_path / "whole.mkv")
        target.unlink()
    assert sorted(path.name for path in tmp_path.iterdir() if path != weights) == ["in.mp4", "whole.mkv"]
