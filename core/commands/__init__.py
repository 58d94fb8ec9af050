"""The commands of `steadyscale`: each a module that says what it is about, which words it takes and what it does."""

from __future__ import annotations

import argparse
from typing import Protocol

from . import (
    bench,
    compress,
    enhance,
    info,
    models_get,
    models_list,
    native_build,
    native_info,
    run,
    stabilize,
    train,
    train_smoother,
    upscale,
)


class Command(Protocol):
    """What a module of this folder has."""

    @property
    def ABOUT(self) -> str:
        """Its line in the help."""
        ...

    def add_arguments(self, command: argparse.ArgumentParser, /) -> None:
        """Add the words that the command takes, beside those that all commands share.

        A command that keeps what is finished when it is interrupted says so by `command.set_defaults(keeps=...)`: a
        function of its arguments.
        """
        ...

    def run(self, args: argparse.Namespace, /) -> None:
        """Do it, and tell what was done. Whatever it raises becomes a line on stderr and exit code 1."""
        ...


COMMANDS: dict[str, Command] = {
    "upscale": upscale,
    "stabilize": stabilize,
    "enhance": enhance,
    "info": info,
    "train": train,
    "run": run,
    "compress": compress,
    "train-smoother": train_smoother,
    "models list": models_list,
    "models get": models_get,
    "bench": bench,
    "native build": native_build,
    "native info": native_info,
}
"""By full name, in the order of the help."""

GROUPS = {
    "models": "the weights that can be had by name",
    "native": "the compiled engine that makes CPUs several times faster",
}
"""What commands of two words have in common, by the first."""
