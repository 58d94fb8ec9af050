"""Settings of a list mean what the options of the command mean."""

from __future__ import annotations

import argparse
from fractions import Fraction

import pytest
from steadyscale.cli.main import build_parser
from steadyscale.cli.operation_options import OperationSettings, add_operation_options, operation_arguments
from steadyscale.core import Border, ClipError, OutputSize
from steadyscale.core.video.encode.codecs import Encoding


def parsed(*words: str) -> argparse.Namespace:
    return build_parser("batch").parse_args(["batch", "LIST", "--out", "DIR", *words])


def test_settings_of_a_clip_win_over_the_command_line() -> None:
    settings = OperationSettings("enhance", parsed("--scale", "2", "--crf", "20", "--border", "mirror"))
    common = settings.arguments({}, "")
    assert common["upscaling"].size == OutputSize(factor=2)
    own = settings.arguments({"scale": 3, "keep-x": 0.5, "fps": "30000/1001", "preset": "slow"}, "line 2")
    assert own["upscaling"].size == OutputSize(factor=3)
    assert own["stabilization"].strength.x == 0.5
    assert own["stabilization"].border is Border.MIRROR
    assert (own["fps"], own["encoding"]) == (Fraction(30000, 1001), Encoding(crf=20, preset="slow"))
    assert settings.arguments({}, "") == common, "a clip does not change the next one"


def test_a_setting_replaces_the_option_that_it_excludes() -> None:
    settings = OperationSettings("upscale", parsed("--operation", "upscale", "--scale", "2"))
    assert settings.arguments({"size": "640x480"}, "")["settings"].size == OutputSize(size=(640, 480))


@pytest.mark.parametrize(("value", "expected"), [(True, False), ("true", False), ("TRUE", False), (False, True)])
def test_switches_are_true_or_false(value: object, expected: bool) -> None:
    arguments = OperationSettings("upscale", parsed()).arguments({"no_reuse": value}, "")
    assert arguments["settings"].reuse.enabled is expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scael": 2}, "list.csv, line 4: scael is not a setting of enhance"),
        ({"device": "cpu"}, "list.csv, line 4: device is not a setting"),
        ({"scale": -1}, "list.csv, line 4: scale: -1 is not a number above 0"),
        ({"scale": "two"}, "list.csv, line 4: scale: two is not a number above 0"),
        ({"border": "purple"}, "list.csv, line 4: border: invalid choice: 'purple'"),
        ({"scale": 2, "size": "9x9"}, "list.csv, line 4: size: not allowed with"),
        ({"no_reuse": 1}, "list.csv, line 4: no-reuse is 1; it has to be true or false"),
        ({"scale": [2]}, r"list.csv, line 4: scale is \[2\]; it has to be a number or text"),
        ({"scale": True}, "list.csv, line 4: scale is True"),
    ],
)
def test_a_wrong_setting_is_named_with_its_place(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ClipError, match=message):
        OperationSettings("enhance", parsed()).arguments(settings, "list.csv, line 4")


@pytest.mark.parametrize(
    ("operation", "words"),
    [("stabilize", ["--scale", "2"]), ("upscale", ["--seconds", "2"]), ("stabilize", ["--compile"])],
)
def test_an_option_that_the_operation_lacks_is_refused(operation: str, words: list[str]) -> None:
    with pytest.raises(ClipError, match=rf"^{words[0]} is for .*--operation is {operation}"):
        OperationSettings(operation, parsed(*words))


@pytest.mark.parametrize("operation", ["upscale", "stabilize", "enhance"])
def test_the_options_of_an_operation_are_those_of_its_command(operation: str) -> None:
    """Without those of a run as a whole."""
    mine, command = argparse.ArgumentParser(), argparse.ArgumentParser()
    add_operation_options(mine, operation)
    from steadyscale.cli.registry import load_command

    load_command(operation).add_arguments(command)
    own = {option for action in mine._actions for option in action.option_strings}
    theirs = {option for action in command._actions for option in action.option_strings}
    of_a_run = {"--device", "--resumable", "--job", "--segment-seconds", "--live", "--lookahead"}
    of_a_run |= {"--measure", "--plan", "--shard", "--claim", "--join"}
    assert theirs - of_a_run == own


def test_the_functions_accept_the_arguments() -> None:
    import inspect

    from steadyscale.core import api

    for operation in ("upscale", "stabilize", "enhance"):
        arguments = operation_arguments(operation, parsed())
        inspect.signature(getattr(api, f"{operation}_video")).bind(
            "in", "out", **arguments, device="cpu", progress=None
        )
