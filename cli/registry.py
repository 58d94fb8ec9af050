"""The commands of `steadyscale`, each a module of `commands/`."""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Protocol, cast


class Command(Protocol):
    """The functions that the module of a command has."""

    def add_arguments(self, parser: argparse.ArgumentParser, /) -> None:
        """Add the command's arguments; those that all commands share are there.

        A command that keeps finished work when it is interrupted calls `parser.set_defaults(keeps=...)` with a function
        of its arguments.
        """
        ...

    def run(self, args: argparse.Namespace, /) -> None:
        """Run the command and print what was done.

        Whatever it raises becomes a line on stderr and exit code 1.
        """
        ...


COMMANDS = {
    "upscale": "upscale a clip with a network",
    "stabilize": "take the shake out of a clip",
    "enhance": "stabilise and upscale in one pass",
    "batch": "upscale, stabilise or enhance many clips",
    "recipe": "a script that runs one clip on a SLURM or Kubernetes cluster",
    "estimate": "how long a batch will take, and what it will cost",
    "info": "what a video, folder of images or weight file is",
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
"""Full name -> description, in the order of the help page. The module of "models list" is models_list.py."""

GROUPS = {
    "models": "the weights that can be had by name",
    "native": "the compiled engine that makes CPUs several times faster",
}
"""The first word of commands of two words -> description."""


def load_command(name: str) -> Command:
    """Import the module of a command.

    Only now, because some need torch, which takes seconds and half a gigabyte.
    """
    return cast(Command, import_module(f".commands.{name.replace(' ', '_').replace('-', '_')}", __package__))
