"""Every option of every command changes what the command calls: none is parsed and then ignored."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from steadyscale.cli.main import build_parser
from steadyscale.cli.registry import COMMANDS, load_command
from steadyscale.core.batch.clip_list import ListedClip
from steadyscale.core.batch.executor import InlineExecutor
from steadyscale.core.training import TrainConfig

CLI, CORE = "steadyscale.cli.commands", "steadyscale.core"
SHARED = {"--help", "--json", "--quiet", "--debug"}  # what is printed; test_main.py
# Values that differ from the default; options with choices, and those without a value, need none here.
VALUES = {
    "--fps": "50", "--crf": "31", "--preset": "slow", "--pixel-format": "yuv444p", "--max-pixels": "1000",
    "--device": "meta", "--job": "folder", "--segment-seconds": "3", "--model": "steadyscale-4x", "--scale": "3",
    "--size": "64x48", "--strength": "0.5", "--grain": "0.25", "--temporal": "0.6", "--repeat-threshold": "2",
    "--tile": "96", "--seconds": "1.5", "--keep-x": "0.5", "--keep-y": "0.5", "--keep-roll": "0.5",
    "--keep-zoom": "0.5", "--keep-tilt": "0.5",
    "--horizon": "0.75", "--rolling-shutter": "0.5", "--max-zoom": "1.1", "--lookahead": "7", "--set": "steps=7",
    "--server": "http://127.0.0.1:1", "--output": "other.safetensors", "--timeout": "9", "--calibrate": "images",
    "--prune": "0.25", "--max-mb": "3", "--reference": "4", "--mask": "people.png", "--bars": "0,8,0,8",
    "--keyframes": str(Path(__file__).with_name("keyframes.toml")),
    "--lens": "150",
    "--hold": "background", "--region": "8,8,40,30,2", "--hold-strength": "0.5",
    "--max-loss-db": "2", "--min-kept": "0.25", "--steps": "5", "--seed": "6", "--frames": "3", "--to": "folder",
    "--out": "other", "--jobs": "3", "--shard-frames": "100", "--ray-address": "ray://head:10001",
    "--cpus-per-task": "2", "--gpus-per-task": "2", "--rows": "rows.jsonl", "--workers": "4",
    "--shards": "5", "--image": "registry/image", "--volume-claim": "films", "--mount": "/films", "--secret": "store",
    "--price-core-hour": "0.04", "--price-gpu-hour": "2.5", "--price-gb": "0.02",
    "--smoothing": "kalman-causal", "--smoother": "path.safetensors", "--path": "path.json",
}  # fmt: skip


@dataclass(frozen=True)
class Call:
    """How a command is called, and the functions that it calls, the last of which ends it.

    results: what the others return.
    """

    words: tuple[str, ...]
    functions: tuple[str, ...]
    results: tuple[Any, ...] = ()
    without: tuple[str, ...] = ()  # options that this call refuses or has no use for; another call has them


BATCH_FUNCTIONS = (
    f"{CLI}.batch.read_clip_list",
    f"{CLI}.batch.resolve_devices",
    f"{CORE}.batch.local_executor.LocalExecutor",
    f"{CORE}.batch.ray_executor.RayExecutor",
    f"{CLI}.batch.run_batch",
)
BATCH_RESULTS = ([ListedClip("IN", "OUT.mp4")], "cpu", InlineExecutor(), InlineExecutor())

STEPS = ("--measure", "--plan", "--shard", "--claim", "--join")  # test_job_options.py
CALLS = {
    "upscale": Call(("IN", "OUT.mp4"), (f"{CLI}.upscale.upscale_video",), without=STEPS),
    "enhance": Call(("IN", "OUT.mp4"), (f"{CLI}.enhance.enhance_video",), without=STEPS),
    "stabilize": Call(
        ("IN", "OUT.mp4"), (f"{CLI}.stabilize.stabilize_video",), without=("--live", "--lookahead", *STEPS)
    ),
    "stabilize --live": Call(
        ("--live", "IN", "OUT.mp4"),
        (f"{CLI}.stabilize.stabilize_live_video",),
        # The last two are for files only; the others are refused.
        without=("--live", "--resumable", "--job", "--hwaccel", "--mask", "--fps", "--segment-seconds", *STEPS),
    ),
    "recipe": Call(
        ("k8s", "/films/a/IN.mp4", "/films/a/OUT.mp4", "--mount", "/films/a"),
        (f"{CLI}.recipe.kubernetes_manifest",),
        without=("--job",),  # which has to be below the mount; test_recipe.py
    ),
    "batch": Call(
        ("LIST", "--out", "DIR"), BATCH_FUNCTIONS, BATCH_RESULTS, without=("--ray-address", "--gpus-per-task")
    ),
    "batch --executor ray": Call(
        ("--executor", "ray", "LIST", "--out", "DIR"), BATCH_FUNCTIONS, BATCH_RESULTS, without=("--executor",)
    ),
    "estimate": Call(
        ("IN",),
        (f"{CLI}.estimate.read_clip_list", f"{CLI}.estimate.estimate_batch"),
        ([ListedClip("IN", "OUT.mp4")],),
    ),
    "info": Call(("FILE",), (f"{CLI}.info.open_clip",)),
    "train": Call(("run.toml",), (f"{CORE}.training.read_config", f"{CORE}.training.train"), (TrainConfig(),)),
    "run": Call(
        ("graph.json", "--server", "http://127.0.0.1:8188"),
        (f"{CORE}.remote.workflow.read_workflow", f"{CORE}.remote.run.run_workflow"),
        ({},),
    ),
    "compress": Call(
        ("model", "--calibrate", "folder", "--output", "small.safetensors", "--prune", "0.5"),
        (f"{CORE}.compress.compress",),
    ),
    "train-smoother": Call(("OUT.safetensors",), (f"{CORE}.training.train_path_net",)),
    "models list": Call((), ("steadyscale.models.zoo.zoo.is_available",)),
    "models get": Call(("steadyscale-2x",), ("steadyscale.models.zoo.zoo.fetch_weights",)),
    "bench": Call(
        ("model",),
        (
            "steadyscale.models.zoo.zoo.find_weights",
            "steadyscale.models.load_upscaler",
            f"{CORE}.upscaling.benchmark.synthetic_frames",
            f"{CLI}.bench.resolve_device",
            f"{CORE}.upscaling.benchmark.benchmark",
        ),
        ("file", "network", iter(()), "device"),
    ),
    "native build": Call((), ("steadyscale.models.native.build_library",)),
    "native info": Call((), ("steadyscale.models.native.describe_engine",)),
}


class _Called(BaseException):
    """The command has called what it is for."""


def command_of(name: str) -> str:
    """The command of a call, whose name may have an option after it."""
    return name.partition(" --")[0]


def options_of(command: str) -> list[argparse.Action]:
    parser = argparse.ArgumentParser()
    load_command(command).add_arguments(parser)
    return [a for a in parser._actions if a.option_strings and a.option_strings[-1] not in SHARED]


def words_of(action: argparse.Action) -> list[str]:
    """The option with a value that is not its default."""
    name = action.option_strings[-1]
    if action.nargs == 0:
        return [name]
    if action.choices is not None and name not in VALUES:
        return [name, next(str(choice) for choice in action.choices if choice not in (action.default, None))]
    return [name, VALUES[name]]


def record_call(name: str, options: list[str]) -> list[list[str]]:
    """The arguments of all calls of the command's functions."""
    call, command = CALLS[name], command_of(name)
    calls: list[list[str]] = []

    def replace(function_name: str, result: Any, *, is_last: bool) -> None:
        def function(*args: object, **kwargs: object) -> Any:
            values = [*args, *sorted(kwargs.items(), key=lambda item: item[0])]
            calls.append([value for value in map(repr, values) if " at 0x" not in value])  # no progress bars
            if is_last:
                raise _Called
            return result

        module, _, attribute = function_name.rpartition(".")
        patch.setattr(import_module(module), attribute, function)

    *others, last = call.functions
    with pytest.MonkeyPatch.context() as patch:
        for function_name, result in zip(others, call.results, strict=True):
            replace(function_name, result, is_last=False)
        replace(last, None, is_last=True)
        args = build_parser(command).parse_args([*command.split(), *call.words, *options])
        with pytest.raises(_Called):
            load_command(command).run(args)
    return calls


@cache
def record_plain_call(name: str) -> list[list[str]]:
    """The same without options."""
    return record_call(name, [])


def test_every_command_has_a_call_and_every_call_a_command():
    assert {command_of(name) for name in CALLS} == set(COMMANDS)


@pytest.mark.parametrize(
    ("name", "option"),
    [
        pytest.param(name, action, id=f"{name} {action.option_strings[-1]}")
        for name in CALLS
        for action in options_of(command_of(name))
        if action.option_strings[-1] not in CALLS[name].without
    ],
)
def test_an_option_changes_the_call(name, option):
    assert record_call(name, words_of(option)) != record_plain_call(name)


@pytest.mark.parametrize("name", CALLS)
def test_equal_options_make_equal_calls(name):
    assert record_call(name, []) == record_plain_call(name)
