"""The commands of `steadyscale`: each a module that says which words it takes and what it does."""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Protocol, cast


class Command(Protocol):
    """What a module of this folder has."""

    def add_arguments(self, parser: argparse.ArgumentParser, /) -> None:
        """Add the words that the command takes, beside those that all commands share.

        A command that keeps what is finished when it is interrupted says so by `command.set_defaults(keeps=...)`: a
        function of its arguments.
        """
        ...

    def run(self, args: argparse.Namespace, /) -> None:
        """Do it, and tell what was done. Whatever it raises becomes a line on stderr and exit code 1."""
        ...


COMMANDS = {
    "upscale": "enlarge a clip with a network",
    "stabilize": "take the shake out of a clip",
    "enhance": "stabilise and enlarge in one pass",
    "info": "what a video, folder of pictures or weight file is",
    "train": "train a network of your own",
    "run": "run a graph on a ComfyUI, with files of this machine",
    "compress": "make a model smaller and faster, within a loss that you allow",
    "train-smoother": "train the smoother of camera paths anew, on made paths",
    "models list": "list them",
    "models get": "download one",
    "bench": "how fast a network is on this machine",
    "native build": "compile it for this machine; needs a C++ compiler",
    "native info": "whether it is there, and what it would run on",
}
"""Full name -> what the help says of it, in the order of the help. The module of "models list" is models_list.py."""

GROUPS = {
    "models": "the weights that can be had by name",
    "native": "the compiled engine that makes CPUs several times faster",
}
"""What commands of two words have in common, by the first."""


def load_command(name: str) -> Command:
    """The module of a command. It is loaded only now: some need torch, which takes seconds and half a gigabyte."""
    return cast(Command, import_module(f".commands.{name.replace(' ', '_').replace('-', '_')}", __package__))
