"""The interfaces of the command line and the nodes as plain data, without wording."""

from __future__ import annotations

import argparse
from typing import Any

import schemas
from steadyscale.cli.main import build_parser

Table = dict[str, Any]


def command_parsers() -> dict[str, argparse.ArgumentParser]:
    """Each command's parser, by its full name such as "models list"."""
    return _leaves(build_parser(), "")


def _leaves(above: argparse.ArgumentParser, name: str) -> dict[str, argparse.ArgumentParser]:
    below = [action for action in above._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        return {name: above}
    found: dict[str, argparse.ArgumentParser] = {}
    for word, each in below[0].choices.items():
        found |= _leaves(each, f"{name} {word}".strip())
    return found


def command_line() -> dict[str, list[Table]]:
    """The arguments of each command: flags, dest, default, choices, nargs, required."""
    return {
        name: [_argument(each, action) for action in each._actions if action.dest != "help"]
        for name, each in command_parsers().items()
    }


def _argument(command: argparse.ArgumentParser, action: argparse.Action) -> Table:
    default = command.get_default(action.dest)
    is_plain = default is None or isinstance(default, bool | int | float | str | list)
    return {
        "flags": list(action.option_strings),
        "dest": action.dest,
        "default": default if is_plain else str(default),
        "choices": list(action.choices) if action.choices else None,
        "nargs": action.nargs,
        "required": action.required,
    }


def nodes() -> list[Table]:
    """Of each node its id, inputs and outputs, in order."""
    return schemas.read_interfaces()
