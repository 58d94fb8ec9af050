"""What scripts and saved graphs rely on is still there: flags and nodes as recorded for 0.1.0 (README.md)."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import interfaces
import pytest

FILES = Path(__file__).with_name("files")
COMMANDS: dict[str, list[dict[str, Any]]] = json.loads((FILES / "cli.json").read_text())
NODES: list[dict[str, Any]] = json.loads((FILES / "schemas.json").read_text())


def _flags(arguments: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {flag: argument for argument in arguments for flag in argument["flags"]}


@pytest.fixture(scope="module")
def commands() -> dict[str, list[dict[str, Any]]]:
    return interfaces.command_line()


@pytest.fixture(scope="module")
def nodes() -> dict[str, dict[str, Any]]:
    return {node["node_id"]: node for node in interfaces.nodes()}


CHANGED = {
    ("--bits", "default"),  # 8, now 16 for sources of more than 8 bits, which lost theirs
    ("--temporal", "default"),  # 0, now auto, which stands for a strength of the bundled network
    ("--smoothing", "default"),  # kalman, now none, which stands for kalman, or for learned beside --smoother
}
NOW_OPTIONAL = {  # a graph that connects it, runs as before
    ("SteadyScale_UpscaleFrames", "upscale_model"),
    ("SteadyScale_EnhanceVideo", "upscale_model"),
    ("SteadyScale_BenchmarkUpscaler", "upscale_model"),
}
RELABELED = {  # outputs, which graphs find by their position
    "facts": {"model info"},
    "invented": {"fill mask"},
    "picture": {"image", "flow image"},
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_is_still_accepted(name: str, commands: dict[str, list[dict[str, Any]]]) -> None:
    """With its default, its choices and the number of its values. More flags and choices may be added."""
    found = _flags(commands[name])
    for flag, wanted in _flags(COMMANDS[name]).items():
        assert flag in found, f"{name} {flag}"
        for key in ("default", "nargs", "required"):
            if (flag, key) not in CHANGED:
                assert found[flag][key] == wanted[key], f"{name} {flag}: {key}"
        recorded, present = wanted["choices"], found[flag]["choices"]
        # No choices: every value is accepted, the recorded ones too.
        assert present is None or set(recorded or ()) <= set(present), f"{name} {flag}: choices"
        assert recorded is not None or present is None, f"{name} {flag}: choices"


@pytest.mark.parametrize("name", COMMANDS)
def test_positional_arguments_are_the_same(name: str, commands: dict[str, list[dict[str, Any]]]) -> None:
    def counts(arguments: list[dict[str, Any]]) -> list[Any]:
        return [(each["nargs"], each["required"], each["default"]) for each in arguments if not each["flags"]]

    assert counts(commands[name]) == counts(COMMANDS[name])


def test_flags_are_not_abbreviated() -> None:
    """Otherwise a flag that begins like a lost one would pass for it."""
    assert not any(parser.allow_abbrev for parser in interfaces.command_parsers().values())


@pytest.mark.parametrize("wanted", NODES, ids=lambda node: node["node_id"])
def test_a_node_has_its_inputs_and_outputs(wanted: dict[str, Any], nodes: dict[str, dict[str, Any]]) -> None:
    """In their order, since canvases store settings by position; new inputs come last, new options anywhere."""
    found = nodes[wanted["node_id"]]
    for kind in ("inputs", "outputs"):
        for recorded, present in zip(wanted[kind], found[kind], strict=False):
            assert set(recorded.get("options", ())) <= set(present.get("options", ()))
            expected = {**recorded, "options": None}
            if (wanted["node_id"], recorded.get("id")) in NOW_OPTIONAL:
                expected["optional"] = True
            if kind == "inputs":
                expected["display_name"] = present["display_name"]  # inputs have an id; this is wording
            elif present["display_name"] in RELABELED.get(recorded["display_name"], ()):
                expected["display_name"] = present["display_name"]
            assert {**present, "options": None} == expected
        assert len(found[kind]) >= len(wanted[kind])


def test_hidden_flags_count_as_flags() -> None:
    """The record is compared with the parsers, not with the help pages."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--colour", help=argparse.SUPPRESS)
    assert "--colour" not in parser.format_help()
    assert "--colour" in _flags([interfaces._argument(parser, action) for action in parser._actions])
