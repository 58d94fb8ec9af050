"""How commands that run a network let people say where and how, and what becomes of it."""

from __future__ import annotations

import argparse

import torch

from ..clip import ClipError
from ..upscaling.precision import Precision
from ._words import add_choice, count


def add_device(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU if one is there"
    )


def chosen_device(args: argparse.Namespace) -> torch.device:
    if args.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise ClipError("there is no CUDA device here, or this build of torch does not know it; use --device cpu")
    return torch.device(args.device)


def add_running(command: argparse.ArgumentParser) -> None:
    """How a network is run; the defaults serve everybody."""
    add_choice(command, "--precision", Precision.AUTO, "auto: the fastest that a self-check shows to be safe")
    command.add_argument(
        "--tile", type=count, metavar="PIXELS", help="side of the pieces of a frame (default: by memory)"
    )
    command.add_argument("--compile", action="store_true", help="compile the network with torch: pays for long clips")
