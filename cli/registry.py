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
    "stabilize": "remove camera shake from a clip",
    "enhance": "stabilize and upscale a clip in one pass",
    "batch": "upscale, stabilize or enhance many clips",
    "recipe": "print a script that processes one clip on a SLURM or Kubernetes cluster",
    "estimate": "estimate the time and the cost of a batch",
    "info": "describe a video, a folder of images or a weight file",
    "train": "train or fine-tune a network",
    "run": "run a workflow on a ComfyUI server, with local files",
    "compress": "prune or quantize a network within a quality limit",
    "train-smoother": "train the learned smoother of camera paths",
    "models list": "list the networks that are available by name",
    "models get": "download a network",
    "bench": "measure the speed of a network on this machine",
    "native build": "compile the engine for this machine; needs a C++ compiler",
    "native info": "show whether the engine is built, and its instruction set",
}
"""Full name -> description, in the order of the help page. The module of "models list" is models_list.py."""

GROUPS = {
    "models": "list and download networks",
    "native": "build and inspect the compiled CPU engine, which is several times as fast as torch",
}
"""The first word of commands of two words -> description."""


def load_command(name: str) -> Command:
    """Import the module of a command.

    Only now, because some need torch, which takes seconds and half a gigabyte.
    """
    return cast(Command, import_module(f".commands.{name.replace(' ', '_').replace('-', '_')}", __package__))
